import Primitives

/// Whose log it is. Every segment carries it, so that a directory mounted on the wrong member is refused.
public struct LogIdentity: Hashable, Sendable {
  public var clusterID: UInt64
  public var memberID: NodeID

  public init(clusterID: UInt64, memberID: NodeID) {
    self.clusterID = clusterID
    self.memberID = memberID
  }
}

/// What can be set about a write-ahead log. Every value may change from one start to the next.
public struct LogSettings: Hashable, Sendable {
  /// The size of a segment file in bytes.
  public var segmentBytes: UInt64
  /// Segments kept ready beyond the one being written. The last of them is the reserve: once preparing
  /// fails for want of space, it keeps votes and membership changes going.
  public var preparedSegments: Int
  /// The most segments kept for reuse; what is released beyond that is removed.
  public var maximumSpareSegments: Int
  /// Batches of at least this many bytes are compressed, if that makes them smaller; nil never does.
  public var compressionThreshold: Int?

  public init(
    segmentBytes: UInt64 = 64 << 20, preparedSegments: Int = 2, maximumSpareSegments: Int = 4,
    compressionThreshold: Int? = 64 << 10
  ) {
    self.segmentBytes = max(segmentBytes, 1 << 10)
    self.preparedSegments = max(preparedSegments, 1)
    self.maximumSpareSegments = max(maximumSpareSegments, preparedSegments)
    self.compressionThreshold = compressionThreshold
  }
}

extension WriteAheadLog {
  /// The bounds of everything that could otherwise grow.
  public enum Limits {
    /// The longest batch, and so the most memory that one damaged length can ask for.
    public static let batchBytes = 1 << 30
    /// The bytes of log that one entry of the in-memory position index covers: what a read of old
    /// entries may fetch in vain, against 48 bytes of memory for each.
    public static let extentBytes: UInt64 = 64 << 10
    /// Batch buffers kept for reuse, and the largest that is worth keeping.
    public static let pooledBuffers = 4
    public static let pooledBufferBytes = 8 << 20
  }
}
