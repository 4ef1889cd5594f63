/// Placeholder until the first file of `EtcdProto` lands.
