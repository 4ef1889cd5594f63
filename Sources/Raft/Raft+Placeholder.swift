/// Placeholder until the first file of `Raft` lands.
