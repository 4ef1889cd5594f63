#if PLANTED_BUGS
  import Raft
  import Replica

  /// Faults that can be put into the shipped code, to prove that the checks find them.
  public enum PlantedBug: String, CaseIterable, Sendable {
    case acknowledgeBeforeSync = "acknowledge-before-sync"
    case staleRead = "stale-read"
    case unsyncedVote = "unsynced-vote"
    case stalePersisted = "stale-persisted"
    case replyBeforePublication = "reply-before-publication"

    /// Plants the bug, in a world where it can show.
    public func plant(in options: inout SimulationOptions) {
      options.plantedBugs = settings
      options.checksEveryPromise = true
      if self == .stalePersisted {
        // It needs a leader to be replaced while a follower's write is under way.
        options.diskStallOdds = 8
        options.longestDiskStall = .seconds(5)
        options.faultyTime = .seconds(60)
      }
    }

    private var settings: ReplicaSettings.PlantedBugs {
      var bugs = ReplicaSettings.PlantedBugs()
      switch self {
      case .acknowledgeBeforeSync: bugs.raft = [.unsyncedAppend, .countUnpersistedSelf]
      case .staleRead: bugs.raft = .staleReadIndex
      case .unsyncedVote: bugs.raft = .unsyncedVote
      case .stalePersisted: bugs.raft = .stalePersisted
      case .replyBeforePublication: bugs.repliesBeforePublication = true
      }
      return bugs
    }
  }
#endif
