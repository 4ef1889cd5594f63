import Primitives

/// How long something took, by powers of two: what a Prometheus histogram shows.
public struct DurationHistogram: Sendable {
  /// The upper bounds in seconds: 1 ms, 2 ms, ... 8.192 s. etcd has its disks' durations in the same ones.
  public static let bounds = (0..<14).map { 0.001 * Double(1 << $0) }

  /// Durations up to each bound and above the one before; the last one is for all that is longer.
  public private(set) var counts = [UInt64](repeating: 0, count: bounds.count + 1)
  public private(set) var sum = 0.0

  public init() {}

  public var count: UInt64 { counts.reduce(0, +) }

  public mutating func record(seconds: Double) {
    let bucket = Self.bounds.firstIndex { seconds <= $0 } ?? Self.bounds.count
    counts[bucket] += 1
    sum += seconds
  }

  public mutating func record(_ duration: Duration) {
    let parts = duration.components
    record(seconds: Double(parts.seconds) + Double(parts.attoseconds) / 1e18)
  }
}

/// How long a member's work took, since it started.
public struct ReplicaTimings: Sendable {
  /// Writes to the log, each with its sync.
  public var logSync = DurationHistogram()
  /// Turns of the core in which entries were applied and a new root published.
  public var commit = DurationHistogram()
  public init() {}
}

/// What went to and came from another member, since this one started.
public struct PeerTraffic: Sendable {
  public var peer: NodeID
  public var isConnected = false
  public var sentBytes: UInt64 = 0
  public var receivedBytes: UInt64 = 0
  /// Messages that were dropped, since there was no connection or too much waited on it.
  public var sendFailures: UInt64 = 0
  /// Samples of the round-trip time that the system measures on the connection, one every few seconds.
  public var roundTrip = DurationHistogram()
  public init(peer: NodeID) { self.peer = peer }
}
