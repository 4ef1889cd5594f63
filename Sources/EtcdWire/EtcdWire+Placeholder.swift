/// Placeholder until the first file of `EtcdWire` lands.
