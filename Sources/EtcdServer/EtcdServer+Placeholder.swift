/// Placeholder until the first file of `EtcdServer` lands.
