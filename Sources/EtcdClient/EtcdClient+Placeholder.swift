/// Placeholder until the first file of `EtcdClient` lands.
