public import Primitives

/// One position of the replicated log.
///
/// An entry carries a whole batch of client commands; what the bytes mean is the state machine's
/// business. An empty `.normal` entry is a new leader's no-op: it only lets the leader commit.
public struct Entry: Sendable, Equatable {
  public enum Kind: UInt8, Sendable {
    /// Commands for the state machine.
    case normal = 0
    /// A new membership, encoded as ``MembershipEntry``. It takes effect when it is appended.
    case membership = 1
  }
  public var index: LogIndex
  /// The term of the leader that proposed it.
  public var term: Term
  public var kind: Kind
  public var payload: [UInt8]

  @inlinable public init(
    index: LogIndex, term: Term, kind: Kind = .normal, payload: [UInt8] = []
  ) {
    self.index = index
    self.term = term
    self.kind = kind
    self.payload = payload
  }

  /// What the entry counts against byte limits: its payload and the fixed part of its wire form.
  @inlinable public var cost: Int { payload.count &+ 32 }
}

/// What a member must remember across a crash, besides its log.
public struct HardState: Sendable, Equatable {
  /// The latest term that the member has seen.
  public var term: Term
  /// The candidate it voted for in `term`.
  public var vote: NodeID?
  /// A lower bound of the committed index. A hint only, never needed for safety: it is written along
  /// with entries and votes, but a commit alone writes nothing.
  public var commit: LogIndex

  @inlinable public init(term: Term = .zero, vote: NodeID? = nil, commit: LogIndex = .zero) {
    self.term = term
    self.vote = vote
    self.commit = commit
  }
}

/// The raft side of a snapshot: the log position that it stands for, and the members at that position.
public struct SnapshotMetadata: Sendable, Equatable {
  public var index: LogIndex
  public var term: Term
  public var membership: Membership

  @inlinable public init(index: LogIndex, term: Term, membership: Membership) {
    self.index = index
    self.term = term
    self.membership = membership
  }

  /// Before the first entry, with no members: how a member starts that waits to be added.
  public static let empty = SnapshotMetadata(
    index: .zero, term: .zero, membership: Membership())
}

/// From `first` on, until the next run, entries have this term.
public struct TermRun: Sendable, Equatable {
  public var first: LogIndex
  public var term: Term

  @inlinable public init(first: LogIndex, term: Term) {
    self.first = first
    self.term = term
  }
}

/// What a core starts from: the recovered disk state of a member.
public struct StartState: Sendable {
  public var hardState: HardState
  /// The newest durable snapshot, or index zero and the bootstrap membership if there is none.
  public var snapshot: SnapshotMetadata
  /// The recovered log, contiguous; it may start before the snapshot (those entries serve slow
  /// followers) and must reach back to the entry after it, unless it is empty.
  ///
  /// Entries that a snapshot has overtaken (their term at its index differs, or falls after it) are
  /// discarded: they are left over from a snapshot transfer.
  public var entries: [Entry]
  /// Terms of entries that are on disk before `entries` and can be read with ``LogRead``; empty if
  /// there are none.
  public var olderTerms: [TermRun]
  /// The state machine holds everything through here; at least the snapshot's index.
  public var applied: LogIndex

  public init(
    hardState: HardState = HardState(), snapshot: SnapshotMetadata = .empty, entries: [Entry] = [],
    olderTerms: [TermRun] = [], applied: LogIndex? = nil
  ) {
    self.hardState = hardState
    self.snapshot = snapshot
    self.entries = entries
    self.olderTerms = olderTerms
    self.applied = applied ?? snapshot.index
  }

  /// The first start of a new cluster's member. Every founding member must be given the same
  /// membership, and must find it again (in a snapshot at index zero) at each later start.
  public static func bootstrap(_ membership: Membership) -> StartState {
    StartState(snapshot: SnapshotMetadata(index: .zero, term: .zero, membership: membership))
  }
}
