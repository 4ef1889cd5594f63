/// Placeholder until the first file of `NodeAgent` lands.
