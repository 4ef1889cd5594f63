public import Primitives

/// What the caller must do next. All parts may be done at the same time, but for what is said here.
///
/// Writes must be made in the order of their tickets. Messages need not wait for them: what must wait
/// for the disk is kept inside the core until ``RaftCore/persisted(_:)`` and comes in a later `Ready`.
public struct Ready: Sendable {
  /// To be written along with `entries`; nil if unchanged.
  public var hardState: HardState?
  /// To be appended to the log, which first loses everything from `entries[0].index` on.
  public var entries: [Entry] = []
  /// Not nil if there is anything to write: to be returned once it is durable.
  public var ticket: PersistTicket?
  /// To be sent, in order per receiver. Messages may be lost, repeated and overtaken.
  public var messages: [Message] = []
  /// To be applied in order, through ``RaftCore/applied(through:)``. They are committed, but perhaps not
  /// durable on this member yet.
  public var committed: [Entry] = []
  /// Reads that may be served once the state machine has applied `index`.
  public var reads: [ReadReady] = []
  /// Contexts of reads that will not be answered; they may be asked again.
  public var failedReads: [UInt64] = []
  /// Contexts of forwarded proposals that the leader has surely not taken. (One that is neither refused
  /// nor committed has an unknown fate.)
  public var refusedProposals: [UInt64] = []
  /// Log entries to be read from disk for a slow follower, answered by ``RaftCore/entriesRead(_:)``.
  public var logReads: [LogRead] = []
  /// Followers that need a snapshot, answered by ``RaftCore/snapshotSent(to:through:)``.
  public var snapshotsToSend: [SnapshotRequest] = []
  /// Set if role, term or known leader changed since the last `Ready`.
  public var roleChange: RoleChange?

  public init() {}
}

/// Names one log write. Tickets rise in the order of the writes.
public struct PersistTicket: Hashable, Comparable, Sendable {
  public var sequence: UInt64
  @inlinable public init(sequence: UInt64) { self.sequence = sequence }
  @inlinable public static func < (left: PersistTicket, right: PersistTicket) -> Bool {
    left.sequence < right.sequence
  }
}

/// A read that has its read index.
public struct ReadReady: Sendable, Equatable {
  /// The caller's number, as given to ``RaftCore/requestRead(context:)``.
  public var context: UInt64
  public var index: LogIndex
  @inlinable public init(context: UInt64, index: LogIndex) {
    self.context = context
    self.index = index
  }
}

/// Entries wanted from the log on disk.
public struct LogRead: Sendable, Hashable {
  /// The follower they are for.
  public var peer: NodeID
  /// The leader's term when it asked; an answer that comes in a later one is dropped.
  public var term: Term
  public var from: LogIndex
  /// The last entry that may be read; fewer are a good answer, none is not.
  public var through: LogIndex
  /// Stop before exceeding this, after at least one entry.
  public var maxBytes: Int
  @inlinable public init(
    peer: NodeID, term: Term, from: LogIndex, through: LogIndex, maxBytes: Int
  ) {
    self.peer = peer
    self.term = term
    self.from = from
    self.through = through
    self.maxBytes = maxBytes
  }
}

/// The answer to a ``LogRead``.
public struct LogReadAnswer: Sendable {
  public var request: LogRead
  /// From `request.from` on, contiguous; nil if the log does not reach back so far any more.
  public var entries: [Entry]?
  @inlinable public init(request: LogRead, entries: [Entry]?) {
    self.request = request
    self.entries = entries
  }
}

/// A follower lacks entries that the log does not hold any more: it needs a snapshot.
public struct SnapshotRequest: Sendable, Hashable {
  public var peer: NodeID
  /// The leader's term, to be told to the follower with the offer.
  public var term: Term
  /// A snapshot of this index or later is needed.
  public var atLeast: LogIndex
  @inlinable public init(peer: NodeID, term: Term, atLeast: LogIndex) {
    self.peer = peer
    self.term = term
    self.atLeast = atLeast
  }
}

public enum Role: UInt8, Sendable {
  case follower
  /// Asking whether a campaign could succeed.
  case preCandidate
  case candidate
  case leader
}

/// Who leads, as far as this member knows.
public struct RoleChange: Sendable, Equatable {
  public var role: Role
  public var term: Term
  public var leader: NodeID?
  @inlinable public init(role: Role, term: Term, leader: NodeID?) {
    self.role = role
    self.term = term
    self.leader = leader
  }
}

/// What became of a proposal.
public enum ProposalOutcome: Sendable, Equatable {
  /// Appended at `first` and the indexes after it, one for each payload. They will be committed at these
  /// indexes with this term, or never.
  case accepted(first: LogIndex, term: Term)
  /// Nothing was done; `leader` may be asked, if known.
  case notLeader(leader: NodeID?)
  /// Sent on to the leader; see ``RaftCore/forward(_:context:)``.
  case forwarded(to: NodeID)
  /// Nothing was done.
  case refused(RefusalReason)
}

public enum RefusalReason: Sendable, Equatable {
  /// ``Limits/uncommittedBytes`` is reached; try again when something has been committed.
  case tooMuchUncommitted
  /// Leadership is on its way to another member.
  case transferringLeadership
  /// An earlier membership change is not committed, or a joint membership not left, or the leader has not
  /// yet committed an entry of its own term.
  case membershipChangePending
  /// The change leaves no voter, exceeds ``Limits/members``, or changes nothing.
  case invalidMembershipChange
}

/// How far a peer has come, as the leader sees it.
public struct PeerStatus: Sendable, Equatable {
  public enum State: UInt8, Sendable {
    /// One message at a time, to find where the logs agree.
    case probe
    /// A stream of messages, ahead of the answers.
    case replicate
    /// Waiting for a snapshot to arrive.
    case snapshot
  }
  public var id: NodeID
  public var state: State
  public var isVoter: Bool
  /// Known to be durable at the peer.
  public var match: LogIndex
  /// The next entry to send.
  public var next: LogIndex
  /// Heard of during the current election time-out.
  public var isActive: Bool
}
