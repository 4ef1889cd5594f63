public import Primitives

public struct RaftCore: Sendable {
  public let id: NodeID
  public let settings: Settings

  public init(id: NodeID, settings: Settings, start: StartState, random: RandomSource) {
    self.id = id
    self.settings = settings
  }

  // MARK: Events

  /// Time has advanced by one tick.
  public mutating func tick() {}
  public mutating func receive(_ message: Message) {}
  /// Appends one entry for each payload, if this member leads.
  public mutating func propose(_ payloads: [[UInt8]]) -> ProposalOutcome { .notLeader(leader: nil) }
  /// Appends a new membership, if this member leads.
  public mutating func propose(_ change: MembershipChange) -> ProposalOutcome {
    .notLeader(leader: nil)
  }
  /// Like ``propose(_:)``, but sent on to the leader if that is another member. A surely refused
  /// one comes back in ``Ready/refusedProposals``.
  public mutating func forward(_ payloads: [[UInt8]], context: UInt64) -> ProposalOutcome {
    .notLeader(leader: nil)
  }
  public mutating func forward(_ change: MembershipChange, context: UInt64) -> ProposalOutcome {
    .notLeader(leader: nil)
  }
  /// Asks for a read index, answered in ``Ready/reads`` or ``Ready/failedReads``.
  public mutating func requestRead(context: UInt64) {}
  /// Hands leadership to a voter. False if this member doesn't lead or the other isn't a voter.
  @discardableResult public mutating func transferLeadership(to target: NodeID) -> Bool { false }
  /// The leader seems gone (its connection was reset, or this is a lone member's start): asks for
  /// pre-votes at once, without waiting for the time-out.
  public mutating func campaign() {}
  /// The write of this ticket, and all before it, are durable.
  public mutating func persisted(_ ticket: PersistTicket) {}
  /// The state machine has applied everything through `index`.
  public mutating func applied(through index: LogIndex) {}
  /// Answers ``Ready/logReads``.
  public mutating func entriesRead(_ answer: LogReadAnswer) {}
  /// A local snapshot is durable. The log before `keepFrom` may no longer be read (the caller may
  /// delete it); `keepFrom` is at most one past the snapshot.
  public mutating func snapshotTaken(_ snapshot: SnapshotMetadata, keepFrom: LogIndex) {}
  /// Answers ``Ready/snapshotsToSend``: the follower has installed the snapshot of that index, or, with
  /// nil, the transfer failed and may be tried again.
  public mutating func snapshotSent(to peer: NodeID, through index: LogIndex?) {}
  /// A snapshot transfer begins (or goes on) at the receiver. True if it is to be taken: the sender leads
  /// in the current term, and the snapshot holds more than this member has committed.
  public mutating func snapshotOffered(
    _ snapshot: SnapshotMetadata, by leader: NodeID, term: Term
  ) -> Bool { false }
  /// A snapshot received from the leader is durable and the state machine restored from it. The next
  /// entries to be written may follow it with a gap to what the log on disk holds. False if it was out of
  /// date and nothing changed.
  @discardableResult public mutating func snapshotInstalled(_ snapshot: SnapshotMetadata) -> Bool {
    false
  }
  /// Messages to the peer were lost, or its connection was reset.
  public mutating func reportUnreachable(_ peer: NodeID) {}

  // MARK: Effects

  public var hasReady: Bool { false }
  public mutating func takeReady() -> Ready { Ready() }

  // MARK: Status

  public private(set) var role: Role = .follower
  public private(set) var term: Term = .zero
  /// The leader of this term, if known.
  public private(set) var leader: NodeID?
  public private(set) var commit: LogIndex = .zero
  public private(set) var applied: LogIndex = .zero
  public var lastIndex: LogIndex { .zero }
  /// The first entry that the log, in memory or on disk, still holds.
  public var firstIndex: LogIndex { .zero }
  /// This member's log is durable through here.
  public var persistedIndex: LogIndex { .zero }
  /// The membership that holds now: the newest in the log, committed or not.
  public var membership: Membership { Membership() }
  /// All other members, sorted by id; progress is meaningful on a leader only.
  public var peerStatus: [PeerStatus] { [] }
  /// The metadata of a snapshot at `index`, which must be applied; nil if that part of the log is gone.
  public func snapshotMetadata(at index: LogIndex) -> SnapshotMetadata? { nil }
  /// Stops the program if an order relation between the core's parts is broken. O(log in memory).
  public func validate() {}
}
