/// Every bound of the store, with its reason.
public enum Limits {
  /// Bytes of one command in a batch. Far above any client's request limit (etcd's is 1.5 MiB); it
  /// keeps every length inside a record within 32 bits.
  public static let maximumCommandBytes = 1 << 30
  /// The longest time to live of a lease, in seconds: etcd's own bound, 285 years.
  public static let maximumLeaseSeconds: Int64 = 9_000_000_000
  /// What dropped views had kept and `publish` looks at, so that freeing keeps up with changing
  /// even if nobody runs maintenance: a batch of a few hundred puts retires about as much.
  public static let reclaimedPerPublish = 4096
  /// Bytes of a user's name, which each of the user's commands carries behind a length of 16 bits.
  public static let maximumUserNameBytes = 65_535
  /// Bytes of one chunk of a snapshot, so that writing, sending and checking one stays short.
  public static let snapshotChunkBytes = 256 << 10
}
