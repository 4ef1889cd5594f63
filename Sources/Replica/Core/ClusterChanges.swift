import Primitives

/// Changes of members and alarms on their way: those that this member's clients wait for, and on a leader those
/// that wait for an earlier change of the membership.
struct ClusterChanges {
  /// Who hears what became of a change.
  enum Origin {
    case client(token: UInt64, sink: any ReplySink)
    case peer(NodeID, id: UInt64)
    /// This member itself, which looks again later.
    case nobody
  }

  /// A client's change that the leader was asked for, and has not answered.
  struct Asked {
    let token: UInt64
    let sink: any ReplySink
    let deadline: Instant
  }

  /// A client's change that stands in the log.
  struct Proposed {
    let index: LogIndex
    let term: Term
    let token: UInt64
    let sink: any ReplySink
    let deadline: Instant
  }

  /// A change that the leader will propose when it may.
  struct Queued {
    let command: ClusterCommand
    let origin: Origin
    let deadline: Instant
  }

  var nextID: UInt64 = 1
  var asked: [UInt64: Asked] = [:]
  var proposed: [Proposed] = []
  var queued: [Queued] = []

  var isFull: Bool {
    asked.count + proposed.count + queued.count >= ReplicaLimits.pendingClusterChanges
  }
}

/// What the leader made of a change that another member sent.
public enum ClusterAnswer: Sendable, Equatable {
  /// It stands in the log at this index, if the entry there is of this term.
  case accepted(index: LogIndex, term: Term)
  case refused(ReplicaError)
}
