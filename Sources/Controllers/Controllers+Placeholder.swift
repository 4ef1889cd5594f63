/// Placeholder until the first file of `Controllers` lands.
