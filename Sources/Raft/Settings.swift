/// How a member behaves in time. Everything is counted in ticks, whose length the caller decides
/// (100 ms, as a rule).
public struct Settings: Sendable {
  /// A follower that hears nothing for this long, plus a random part of up to as much again, campaigns.
  /// A leader that no quorum answers for this long steps down. Ticks.
  public var electionTicks: Int = 10
  /// A leader lets itself be heard this often. Ticks, fewer than `electionTicks`.
  public var heartbeatTicks: Int = 1
  /// A leader whose own log write has not finished for this long steps down. Ticks.
  public var diskStallTicks: Int = 30
  public var limits = Limits()
  #if PLANTED_BUGS
    /// Faults put in on purpose, to prove that the checkers find them.
    public var plantedBugs: PlantedBugs = []
  #endif

  public init() {}
}

/// The bounds of everything in the core that could grow, and why each has its value.
public struct Limits: Sendable {
  /// One append message; a single larger entry travels alone. Large enough to amortise a message, small
  /// enough not to delay a heartbeat behind it. Bytes.
  public var appendBytes = 1 << 20
  /// Unanswered append messages per follower. Beyond some hundred the follower's disk is behind anyway.
  public var inFlightMessages = 256
  /// Unanswered append bytes per follower: bandwidth times a long round trip. Bytes.
  public var inFlightBytes = 16 << 20
  /// Proposed and not yet committed; past it proposals are refused. Bytes.
  public var uncommittedBytes = 64 << 20
  /// A follower holds at most this much that is not yet applied; past it, it takes no more entries.
  /// What is applied and kept in memory counts as well. Must exceed `uncommittedBytes` and `tailBytes`. Bytes.
  public var unappliedBytes = 512 << 20
  /// The log kept in memory for followers that lag a little, after entries are durable and applied.
  /// Bytes.
  public var tailBytes = 64 << 20
  /// Committed entries handed out by one ``Ready``, so that heartbeats are never far away. Bytes.
  public var committedBytesPerReady = 4 << 20
  /// Reads waiting for a read index, own and forwarded; past it they fail at once.
  public var waitingReads = 65_536
  /// Read rounds that are sent and not confirmed; later reads wait and share the next round.
  public var readRoundsInFlight = 4
  /// Members in one list of a membership, and steps in one change. Fixed, because formats depend on it.
  public static let members = 64

  public init() {}
}

#if PLANTED_BUGS
  /// Faults that break a promise of Raft. A checker that misses one is itself at fault.
  public struct PlantedBugs: OptionSet, Sendable {
    public var rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// A vote leaves before it is on disk: after a crash the member may vote twice in a term.
    public static let unsyncedVote = PlantedBugs(rawValue: 1 << 0)
    /// A leader answers reads without asking a quorum whether it still leads.
    public static let staleReadIndex = PlantedBugs(rawValue: 1 << 1)
    /// A write's completion counts although its entries have been replaced since.
    public static let stalePersisted = PlantedBugs(rawValue: 1 << 2)
    /// The leader counts its own entries as durable when it has only sent them.
    public static let countUnpersistedSelf = PlantedBugs(rawValue: 1 << 3)
    /// A follower acknowledges entries before they are on disk.
    public static let unsyncedAppend = PlantedBugs(rawValue: 1 << 4)
    /// A leader commits entries of earlier terms by counting copies.
    public static let commitOldTerm = PlantedBugs(rawValue: 1 << 5)
    /// Votes go to candidates whose log lacks what the voter holds.
    public static let voteForShorterLog = PlantedBugs(rawValue: 1 << 7)
    /// A new leader starts read rounds before an entry of its own term is committed.
    public static let readBeforeOwnTerm = PlantedBugs(rawValue: 1 << 8)
    /// A follower keeps its own entries where the leader has others.
    public static let keepConflictingEntries = PlantedBugs(rawValue: 1 << 9)
    /// Heartbeats tell the leader's commit index, whatever the follower has acknowledged.
    public static let commitPastMatch = PlantedBugs(rawValue: 1 << 10)
    /// A follower accepts an append whatever precedes it.
    public static let unmatchedAppend = PlantedBugs(rawValue: 1 << 11)
    /// A member forgets at restart for whom it voted.
    public static let forgottenVote = PlantedBugs(rawValue: 1 << 6)
    /// Learners vote, and count in every quorum.
    public static let learnersVote = PlantedBugs(rawValue: 1 << 12)
    /// In a joint membership the incoming half decides alone.
    public static let incomingHalfAlone = PlantedBugs(rawValue: 1 << 13)
    /// The membership is changed while an earlier change is not committed.
    public static let changeWhileUncommitted = PlantedBugs(rawValue: 1 << 14)
    /// A new leader changes the membership before an entry of its term is committed.
    public static let changeBeforeOwnTerm = PlantedBugs(rawValue: 1 << 15)
    /// A membership holds although its entry was replaced.
    public static let membershipNotTakenBack = PlantedBugs(rawValue: 1 << 16)
    /// A snapshot carries the oldest membership that the member remembers.
    public static let staleSnapshotMembership = PlantedBugs(rawValue: 1 << 17)
  }
#endif
