public import Primitives

/// What members say to each other. Source: Ongaro and Ousterhout, "In Search of an Understandable
/// Consensus Algorithm", 2014, with the additions named at each kind.
public struct Message: Sendable, Equatable {
  public var from: NodeID
  public var to: NodeID
  /// The sender's current term, in every kind.
  public var term: Term
  public var body: Body

  @inlinable public init(from: NodeID, to: NodeID, term: Term, body: Body) {
    self.from = from
    self.to = to
    self.term = term
    self.body = body
  }

  public enum Body: Sendable, Equatable {
    /// "Would you vote for me in `candidacy`?" Changes nothing at the receiver.
    case preVoteRequest(VoteRequest)
    case preVoteResponse(VoteResponse)
    case voteRequest(VoteRequest)
    case voteResponse(VoteResponse)
    case append(Append)
    /// The follower has everything through this index on disk, equal to the leader's log.
    case appendAccepted(LogIndex)
    case appendRejected(AppendRejection)
    case heartbeat(Heartbeat)
    /// Echoes the heartbeat's read round.
    case heartbeatResponse(round: UInt64)
    /// Entries through here, which the follower had acknowledged, are committed. Not answered.
    case commit(LogIndex)
    /// Asks the leader for a read index; `batch` is the asker's own number.
    case readRequest(batch: UInt64)
    /// Answers it; nil means that the leader could not take the request.
    case readResponse(batch: UInt64, index: LogIndex?)
    /// Payloads that a follower hands to the leader.
    case proposal(ForwardedProposal)
    /// The leader took none of that proposal's payloads.
    case proposalRefused(context: UInt64)
    /// The leader asks this follower to campaign at once, to take over from it.
    case campaignNow
  }

  public struct VoteRequest: Sendable, Equatable {
    /// The term that the candidate wants to lead; for a vote the message's own term, for a pre-vote
    /// the one after it.
    public var candidacy: Term
    public var lastIndex: LogIndex
    public var lastTerm: Term
    /// The leader itself asked for this campaign, so the receiver's loyalty to it doesn't count.
    public var isTransfer: Bool

    @inlinable public init(
      candidacy: Term, lastIndex: LogIndex, lastTerm: Term, isTransfer: Bool = false
    ) {
      self.candidacy = candidacy
      self.lastIndex = lastIndex
      self.lastTerm = lastTerm
      self.isTransfer = isTransfer
    }
  }

  public struct VoteResponse: Sendable, Equatable {
    /// The term that was asked for.
    public var candidacy: Term
    public var isGranted: Bool

    @inlinable public init(candidacy: Term, isGranted: Bool) {
      self.candidacy = candidacy
      self.isGranted = isGranted
    }
  }

  public struct Append: Sendable, Equatable {
    /// The entries follow this position, which the receiver must hold.
    public var previousIndex: LogIndex
    public var previousTerm: Term
    /// The leader's commit index.
    public var commit: LogIndex
    public var entries: [Entry]

    @inlinable public init(
      previousIndex: LogIndex, previousTerm: Term, commit: LogIndex, entries: [Entry]
    ) {
      self.previousIndex = previousIndex
      self.previousTerm = previousTerm
      self.commit = commit
      self.entries = entries
    }
  }

  public struct AppendRejection: Sendable, Equatable {
    /// The `previousIndex` that the follower does not hold.
    public var rejectedIndex: LogIndex
    /// The last position where follower and leader may agree, with the follower's term there: no
    /// entry after it can match.
    public var hintIndex: LogIndex
    public var hintTerm: Term

    @inlinable public init(rejectedIndex: LogIndex, hintIndex: LogIndex, hintTerm: Term) {
      self.rejectedIndex = rejectedIndex
      self.hintIndex = hintIndex
      self.hintTerm = hintTerm
    }
  }

  public struct Heartbeat: Sendable, Equatable {
    /// Committed and acknowledged by the receiver.
    public var commit: LogIndex
    /// The newest read round; zero before the first. An echo from a quorum confirms that the sender
    /// still led when the round began.
    public var round: UInt64

    @inlinable public init(commit: LogIndex, round: UInt64) {
      self.commit = commit
      self.round = round
    }
  }

  public struct ForwardedProposal: Sendable, Equatable {
    /// The asker's own number, returned if the proposal is refused.
    public var context: UInt64
    public var content: Content

    public enum Content: Sendable, Equatable {
      case payloads([[UInt8]])
      case membershipChange(MembershipChange)
    }

    @inlinable public init(context: UInt64, content: Content) {
      self.context = context
      self.content = content
    }
  }
}
