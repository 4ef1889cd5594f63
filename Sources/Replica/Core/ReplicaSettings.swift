import Primitives
import Raft

/// What an operator sets of a member, with etcd's defaults.
public struct ReplicaSettings: Sendable {
  public var heartbeatInterval = Duration.milliseconds(100)
  public var electionTimeout = Duration.milliseconds(1000)
  /// How often a snapshot is taken, in log entries; nil lets the size of the log decide.
  public var snapshotCount: UInt64?
  public var name = "default"
  public var clientURLs: [String] = []
  /// How large the state may become before writes are refused; nil for no bound.
  public var quotaBytes: UInt64?
  /// Whether changes of the members that would endanger the quorum are refused.
  public var checksReconfiguration = true
  /// What history goes without a client's asking; nil for none.
  public var autoCompaction: AutoCompactionSetting?
  /// How many learners there may be.
  public var maximumLearners = 1
  /// The feature levels that this member knows; others than the release's are for tests.
  public var levels = FeatureLevel.known
  /// Bytes of one piece of a snapshot file on its way to a member.
  public var snapshotChunkBytes = ReplicaLimits.snapshotChunkBytes
  /// How often the leader compares the members' states; nil for never.
  public var stateCheckInterval: Duration? = .seconds(5)
  /// Raft's own bounds; ticks are set from the intervals above.
  public var raftLimits = Raft.Limits()

  public init() {}

  /// How long a request may take before its client hears that its outcome is unknown: etcd's rule of five
  /// seconds for a slow disk and two elections.
  public var requestTimeout: Duration { .seconds(5) + electionTimeout * 2 }

  /// The log since the last snapshot that calls for the next: at least this.
  public static let snapshotLogBytes: UInt64 = 256 << 20
  /// The log that stays behind a snapshot, so that a member that was away briefly gets entries.
  public static let keptLogBytes: UInt64 = 256 << 20
}

/// How much history is kept.
public enum AutoCompactionSetting: Sendable, Equatable {
  case period(Duration)
  case revisions(Int64)
}

extension ReplicaSettings {
  /// Raft's settings: one tick a heartbeat.
  var raft: Raft.Settings {
    var settings = Raft.Settings()
    settings.heartbeatTicks = 1
    let heartbeat = heartbeatInterval.wholeNanoseconds
    settings.electionTicks = max(
      2, Int(clamping: electionTimeout.wholeNanoseconds / max(heartbeat, 1)))
    settings.diskStallTicks = settings.electionTicks * 3
    settings.limits = raftLimits
    #if PLANTED_BUGS
      settings.plantedBugs = .planted
    #endif
    return settings
  }
}

#if PLANTED_BUGS
  extension Raft.PlantedBugs {
    /// Raft's part of the bug that is planted in this process.
    static var planted: Raft.PlantedBugs {
      let names: [(PlantedBug, Raft.PlantedBugs)] = [
        (.acknowledgeBeforeSync, .unsyncedAppend), (.countUnpersistedSelf, .countUnpersistedSelf),
        (.unsyncedVote, .unsyncedVote),
        (.voteForShorterLog, .voteForShorterLog), (.staleRead, .staleReadIndex),
        (.readBeforeOwnTerm, .readBeforeOwnTerm), (.stalePersisted, .stalePersisted),
        (.keepConflictingEntries, .keepConflictingEntries),
        (.commitPastMatch, .commitPastMatch), (.unmatchedAppend, .unmatchedAppend),
        (.commitByCounting, .commitOldTerm), (.forgottenVote, .forgottenVote),
        (.learnersVote, .learnersVote), (.incomingHalfAlone, .incomingHalfAlone),
        (.changeWhileUncommitted, .changeWhileUncommitted),
        (.changeBeforeOwnTerm, .changeBeforeOwnTerm),
        (.membershipNotTakenBack, .membershipNotTakenBack),
        (.staleSnapshotMembership, .staleSnapshotMembership),
      ]
      return names.first { $0.0.isPlanted }?.1 ?? []
    }
  }
#endif
