import Primitives
import Replica

/// What kind of world a seed runs in.
public struct SimulationOptions: Sendable {
  public var memberCount = 3
  public var clientCount = 8
  public var watcherCount = 3
  /// How long faults go on, in simulated time.
  public var faultyTime = Duration.seconds(30)
  /// How soon after the last fault every client must have been served, and the members agree.
  public var settleTime = Duration.seconds(30)
  public var hasFaults = true
  /// Whether every acknowledgement is held against the disk, or one in eight.
  public var checksEveryPromise = false
  /// Faults that happen whatever the seed draws, by name: for planted bugs that need one to show.
  var required: [Swarm.Fault] = []
  var adjustSwarm: (@Sendable (inout Swarm) -> Void)?
  /// Told of everything that happens, a line each.
  public var trace: (@Sendable (String) -> Void)?

  public init() {}

  /// The size of a seed's cluster: mostly three, one in eight five, one in sixteen a lone member.
  public static func memberCount(ofSeed seed: UInt64) -> Int {
    switch seed % 16 {
    case 0, 8: 5
    case 15: 1
    default: 3
    }
  }
}

/// What a run was like.
public struct SimulationReport: Sendable {
  public var seed: UInt64 = 0
  public var simulatedSeconds = 0.0
  public var events = 0
  public var messages = 0
  /// Faults of any kind.
  public var faults = 0
  public var crashes = 0
  public var pauses = 0
  public var partitions = 0
  /// Disks that failed, filled up or rotted.
  public var diskFaults = 0
  /// Members that lost their whole disk, or refused to start from a damaged one.
  public var membersLost = 0
  /// Members added, promoted and removed.
  public var membershipChanges = 0
  /// Terms that had a leader.
  public var leaders = 0
  public var transfers = 0
  public var snapshots = 0
  /// Snapshots that a member got from its leader.
  public var snapshotsInstalled = 0
  /// Times that a member's log was cut back by a new leader.
  public var truncations = 0
  public var compactions = 0
  public var watchStreams = 0
  public var watchEvents = 0
  /// Client operations answered, refused, and left without an answer.
  public var operations = 0
  public var failed = 0
  public var unknown = 0
  /// Runs whose history the checker could not decide; every other check of theirs passed.
  public var undecided = 0

  public init() {}
}

extension SimulationReport {
  private static var counts: [WritableKeyPath<SimulationReport, Int>] {
    [
      \.events, \.messages, \.faults, \.crashes, \.pauses, \.partitions, \.diskFaults,
      \.membersLost, \.membershipChanges, \.leaders,
      \.transfers, \.snapshots, \.snapshotsInstalled, \.truncations,
      \.compactions, \.watchStreams, \.watchEvents, \.operations, \.failed, \.unknown,
      \.undecided,
    ]
  }

  /// Adds another run's counts.
  public mutating func add(_ other: SimulationReport) {
    simulatedSeconds += other.simulatedSeconds
    for count in Self.counts { self[keyPath: count] += other[keyPath: count] }
  }

  /// All counts, in one order: equal runs have equal ones.
  public var fingerprint: [Int] { Self.counts.map { self[keyPath: $0] } }
}
