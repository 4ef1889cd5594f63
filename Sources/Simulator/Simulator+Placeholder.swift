/// Placeholder until the first file of `Simulator` lands.
