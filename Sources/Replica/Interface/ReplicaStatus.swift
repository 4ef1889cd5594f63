import Primitives

/// A member's state at one moment, published with each applied batch.
public struct ReplicaStatus: Sendable {
  public enum Role: UInt8, Sendable { case follower, candidate, leader, learner }

  public var role: Role = .follower
  public var term: Term = .zero
  public var leader: NodeID?
  public var commitIndex: LogIndex = .zero
  public var appliedIndex: LogIndex = .zero
  /// Last index in the log, committed or not.
  public var lastIndex: LogIndex = .zero
  /// Equal on all members at equal `appliedIndex`.
  public var stateHash: UInt64 = 0
  /// The revision up to which compaction has removed what it makes unreadable; -1 before the first one.
  public var physicallyCompacted = Revision(-1)
  /// Bytes that the state takes: records, uncompacted history, leases.
  public var stateBytes: UInt64 = 0
  public var members: [ClusterMember] = []
  /// The alarms that are raised, in order of their members.
  public var alarms: [Alarm] = []
  /// What this member refuses to its clients.
  public var restrictions: Restrictions = []
  /// How large the state may become; nil for no bound.
  public var quotaBytes: UInt64?
  /// What the members may use of what releases have added.
  public var featureLevel = FeatureLevel.first
  public var counters = Counters()

  /// Bytes that the state may still grow by.
  public var quotaLeft: UInt64 {
    guard let quotaBytes else { return .max }
    return quotaBytes > stateBytes ? quotaBytes - stateBytes : 0
  }

  /// Sums since the member started, for metrics.
  public struct Counters: Sendable {
    public var proposalsApplied: UInt64 = 0
    public var proposalsFailed: UInt64 = 0
    public var proposalsPending: UInt64 = 0
    public var leaderChanges: UInt64 = 0
    public var readRounds: UInt64 = 0
    public var readsFailed: UInt64 = 0
    public var logWrites: UInt64 = 0
    public var logBytes: UInt64 = 0
    public var snapshotsTaken: UInt64 = 0
    public var leasesExpired: UInt64 = 0
    public init() {}
  }

  public init() {}
}
