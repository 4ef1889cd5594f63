/// Every bound of the store, with its reason.
public enum Limits {
  /// Bytes of one command in a batch. Far above any client's request limit (etcd's is 1.5 MiB); it keeps
  /// every length inside a record within 32 bits.
  public static let maximumCommandBytes = 1 << 30
  /// The longest time to live of a lease, in seconds: etcd's own bound, 285 years.
  public static let maximumLeaseSeconds: Int64 = 9_000_000_000
  /// Bytes of one chunk of a snapshot, so that writing, sending and checking one stays short.
  public static let snapshotChunkBytes = 256 << 10
}
