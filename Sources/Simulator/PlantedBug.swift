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

    /// What a member with this bug is told.
    public var settings: ReplicaSettings.PlantedBugs {
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
