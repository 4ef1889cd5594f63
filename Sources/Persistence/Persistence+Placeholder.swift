/// Placeholder until the first file of `Persistence` lands.
