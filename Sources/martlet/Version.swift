import EtcdServer

/// What the parts call themselves.
enum Version {
  static let martlet = "0.1.0"
  /// The etcd whose API the store speaks.
  static let etcd = EtcdServerSettings.reportedVersion
  /// The Kubernetes whose API the API server speaks.
  static let kubernetes = "1.32"
}
