/// Placeholder until the first file of `KubeAPI` lands.
