import MVCC
import Primitives

/// Commands that one event loop drained from its connections, on their way into the log.
///
/// The bytes are commands in `CommandBatch`'s form, one behind the other, exactly as they will stand in
/// the log, so that neither the writer nor a peer ever encodes a request again.
public struct ProposalBatch: Sendable {
  /// The encoded commands, concatenated.
  public var commands: [UInt8]
  /// One token a command, in order; the sink gets it back with the command's result.
  public var tokens: [UInt64]
  /// Where the results go.
  public var sink: any ReplySink

  public init(commands: [UInt8], tokens: [UInt64], sink: any ReplySink) {
    self.commands = commands
    self.tokens = tokens
    self.sink = sink
  }
}

/// Receives what the replica has to say to one event loop.
///
/// Called on the writer's thread, once for all that one batch of work produced, in the order in which it
/// became true: a reply is delivered after the revision it names was published, and watch events up to a
/// revision before a progress answer for it. Implementations only hand the batch over to their loop.
public protocol ReplySink: AnyObject, Sendable {
  func deliver(_ replies: [Reply])
}

/// One answer, with the token that the asker chose.
public struct Reply: Sendable {
  public var token: UInt64
  public var outcome: Outcome

  public enum Outcome: Sendable {
    /// The command was applied on this member; `term` is the Raft term of this moment, for the header.
    case applied(CommandResult, term: Term)
    /// Everything acknowledged before the read was asked for is in this view.
    case readable(StoreView, term: Term)
    /// A lease's time to live, in whole seconds; nil where there is no such lease.
    case leaseTime(LeaseTime?)
    /// A watcher stands: it gets every event after this revision. One whose start lies in the future may
    /// be handed earlier events too, which the receiver drops.
    case watching(WatcherID, after: Revision)
    /// The watcher's start lies too far behind for the writer: catch up from this view, then ask again.
    case watchBehind(StoreView)
    /// The watcher's start has been compacted away.
    case watchCompacted(Revision)
    /// All watchers of this sink are gone: a snapshot from the leader left out what they had not seen yet.
    case watchesLost(compacted: Revision)
    /// Events for the watchers of this sink, all of one applied batch.
    case events([WatchDelivery])
    /// Every event up to and including this revision has been delivered to the sink.
    case progress(Revision)
    /// Leadership moved, or the leader is unknown (nil).
    case leaderChanged(NodeID?)
    /// A snapshot for a client, in a file.
    case exported(SnapshotExport)
    /// A change of members or alarms has been applied on this member.
    case done
    case failed(ReplicaError)
  }

  public init(token: UInt64, outcome: Outcome) {
    self.token = token
    self.outcome = outcome
  }
}

/// What the leader knows of a lease's time.
public struct LeaseTime: Sendable, Equatable {
  /// The time to live that was granted, in seconds.
  public var granted: Int64
  /// What is left, in whole seconds, rounded down.
  public var remaining: Int64
  public init(granted: Int64, remaining: Int64) {
    self.granted = granted
    self.remaining = remaining
  }
}

/// Why the replica could not do what it was asked. Each maps to one of etcd's errors.
public enum ReplicaError: UInt8, Error, Sendable, Hashable {
  /// No leader is known, and none was found in time.
  case noLeader
  /// The outcome is unknown: the request may still be applied.
  case timedOut
  /// As `timedOut`, and the leader changed meanwhile.
  case timedOutLeaderFailed
  /// More is waiting than `Limits` allow; nothing was proposed.
  case tooManyRequests
  /// The member is stopping; nothing was proposed.
  case stopped
  /// The leader doesn't know the lease, or it is expiring.
  case leaseNotFound
  /// Only the leader can do this.
  case notLeader
  case memberExists
  case memberNotFound
  /// Another member has one of the peer URLs.
  case peerURLExists
  /// Without the change, or with it, fewer members than a majority would have started.
  case notEnoughStartedMembers
  /// Members that the change relies on are not connected.
  case unhealthy
  case tooManyLearners
  case memberNotLearner
  /// The learner has not caught up with the leader.
  case learnerNotReady
  /// The disk could not hold what was asked for.
  case diskFailed
}
