/// Placeholder until the first file of `Replica` lands.
