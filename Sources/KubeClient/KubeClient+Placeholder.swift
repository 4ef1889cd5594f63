/// Placeholder until the first file of `KubeClient` lands.
