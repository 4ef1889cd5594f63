import Primitives
import Replica

/// What kind of world a seed runs in.
public struct SimulationOptions: Sendable {
  public var memberCount = 3
  public var clientCount = 4
  /// How long faults go on, in simulated time.
  public var faultyTime = Duration.seconds(20)
  /// How soon after the last fault every client must have been served.
  public var settleTime = Duration.seconds(20)
  public var hasFaults = true
  /// Small, so that segments fill, are released and used again within a run.
  public var segmentBytes: UInt64 = 16 << 10
  /// Small, so that members fall behind the log and need snapshots.
  public var snapshotCount: UInt64 = 40
  /// One log write in so many stalls, for up to this long.
  public var diskStallOdds: UInt64 = 60
  public var longestDiskStall = Duration.milliseconds(1500)
  /// Whether every acknowledgement is held against the disk, or one in eight.
  public var checksEveryPromise = false
  #if PLANTED_BUGS
    /// Faults in the shipped code, put in to prove that the checks find them.
    public var plantedBugs = ReplicaSettings.PlantedBugs()
  #endif

  public init() {}
}

/// What a run was like.
public struct SimulationReport: Sendable {
  public var seed: UInt64 = 0
  public var simulatedSeconds = 0.0
  public var events = 0
  public var messages = 0
  public var crashes = 0
  public var partitions = 0
  /// Terms that had a leader.
  public var leaders = 0
  /// Client operations answered, refused, and left without an answer.
  public var operations = 0
  public var failed = 0
  public var unknown = 0

  public init() {}
}

extension SimulationReport {
  /// Adds another run's counts.
  public mutating func add(_ other: SimulationReport) {
    simulatedSeconds += other.simulatedSeconds
    events += other.events
    messages += other.messages
    crashes += other.crashes
    partitions += other.partitions
    leaders += other.leaders
    operations += other.operations
    failed += other.failed
    unknown += other.unknown
  }
}
