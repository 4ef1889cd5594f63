/// Placeholder until the first file of `APIServer` lands.
