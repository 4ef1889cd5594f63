// Raft as one value.
//
// The problem. A handful of members must agree on one log, survive the loss of any minority of them,
// and do so at disk and network speed. The usual way to write it is a set of threads that share locks;
// the usual result can be tested by luck only. Here the whole protocol is a value: events go in through
// the `mutating` functions below, and everything that must happen outside comes out as a `Ready`. There
// is no clock, disk, network, thread or randomness inside (time comes as ticks, randomness as a seed),
// so a simulator drives exactly this code, and equal inputs give equal outputs.
//
// The design.
//
//     Replica                      RaftCore                        log writer      peers
//        │ propose([a, b])            │                                │             │
//        │───────────────────────────▶│ appends 7, 8                   │             │
//        │ takeReady()                │                                │             │
//        │◀───────────────────────────│ entries [7, 8], ticket 4,      │             │
//        │                            │ append(6 | 7, 8) to B and C    │             │
//        │── write ticket 4 ──────────┼───────────────────────────────▶│             │
//        │── send ────────────────────┼────────────────────────────────┼────────────▶│
//        │ receive(B: accepted 8)     │ B has 8, own disk has 6:       │             │
//        │───────────────────────────▶│ no quorum yet                  │             │
//        │ persisted(4)               │ own disk has 8: quorum,        │             │
//        │───────────────────────────▶│ commit 8                       │             │
//        │◀───────────────────────────│ committed [7, 8], commit(8)    │             │
//        │                            │ to B                           │             │
//
// *Asynchronous writes.* Nothing waits for the disk but what must: a `Ready` that has something to write
// carries a ticket, messages of the same `Ready` go out at once, and the leader counts itself only up to
// what `persisted(ticket)` has confirmed. What a member promises to others (a vote, an acknowledgement)
// is kept inside until the promise is durable. Vote requests too wait for the candidate's own vote:
// else a candidate elected by the others alone could crash, forget its term, and be elected in it again.
// An entry may be replaced while its write is under way; a completed write counts only for those of its
// entries that are still in the log (`PersistenceTracker`).
//
// *Acknowledgements are a level, not a queue.* In one term a follower's agreement with its leader only
// grows (`matched`), and so does what is durable. The follower owes at most one answer, the smaller of
// the two, however many appends it received meanwhile. The leader's side is as lazy: a proposal only
// appends, and `takeReady` sends each follower all it lacks in as few messages as the limits allow.
//
// *Elections* are preceded by a pre-vote that changes nothing, so a member that was cut off does not
// force a new term on its return; and a follower that hears its leader supports nobody else. A leader
// that no quorum answers for an election time-out steps down, as does one whose disk stalls.
//
// *Reads.* All waiting reads share a round: a numbered heartbeat, whose echo by a quorum proves that this
// member still led when the round began, so that its commit index then was the latest. Rounds begin only
// once an entry of the leader's own term is committed; before, its commit index may be old.
//
// *Membership* takes effect when it is appended, not when it is applied, and is taken back if the entry
// is replaced. One change at a time; more than one voter's change goes through a joint membership.
//
// What is left out: leader leases for reads (they trust clocks), and the transport of snapshots (it is the
// Replica's; the core only says who needs one and takes note of the end).
//
// Sources: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", 2014; Ongaro,
// "Consensus: Bridging Theory and Practice", 2014 (pre-vote 9.6, transfer 3.10, reads 6.4, membership 4).

public import Primitives

/// One member of a Raft group, as a pure value: events in, ``Ready`` out.
public struct RaftCore: Sendable {
  public let id: NodeID
  public let settings: Settings
  var random: RandomSource

  // MARK: Term and role

  public internal(set) var role: Role = .follower
  public internal(set) var term: Term
  /// Whom this member voted for in `term`.
  var vote: NodeID?
  /// The leader of this term, if known.
  public internal(set) var leader: NodeID?

  // MARK: Log

  var log: Log
  /// Everything through here is committed; never falls.
  public internal(set) var commit: LogIndex
  /// Everything through here was handed out in ``Ready/committed``; `applied <= handedOut <= commit`.
  var handedOut: LogIndex
  public internal(set) var applied: LogIndex
  var persistence: PersistenceTracker

  // MARK: Membership

  /// The memberships of the log, oldest first: the first one is at or before the last snapshot, the last
  /// one holds now. Never empty.
  var memberships: [MembershipRecord]
  /// All other members, sorted by id, in every role.
  var peers: [Progress] = []
  /// Whether this member votes in the (incoming) membership, and in the outgoing half.
  var isVoter = false
  var isOutgoingVoter = false
  /// Sizes of the voter lists.
  var voterCount = 0
  var outgoingVoterCount = 0

  // MARK: Time, in ticks

  /// Since the start.
  var ticks: UInt64 = 0
  /// Since the leader was heard or a vote given; on a leader, since it last checked its quorum.
  var electionElapsed = 0
  /// When `electionElapsed` reaches it, this member campaigns: `electionTicks` and a random part.
  var electionTimeout = 0
  var heartbeatElapsed = 0

  // MARK: As a follower

  /// The log is known to equal the leader's through here, in this term.
  var matched: LogIndex = .zero
  /// The last acknowledgement that was sent in this term.
  var acknowledged: LogIndex = .zero
  /// An append has not been answered.
  var owesAcknowledgement = false
  /// A vote is given and may be sent when it is durable.
  var owedVote: NodeID?

  // MARK: As a candidate

  /// This member's own vote is not durable yet; requests follow then.
  var owesVoteRequests = false
  /// The leader asked for this campaign.
  var isTransferCampaign = false

  // MARK: As a leader

  /// The index of the no-op that began this leader's term.
  var termStart: LogIndex = .zero
  /// The cost of the entries after `commit`.
  var uncommittedBytes = 0
  /// Leadership is on its way to this member.
  var transferTarget: NodeID?
  var transferElapsed = 0
  /// Something may have to be sent to followers: `takeReady` looks.
  var needsFlush = false

  // MARK: Reads

  var reads: ReadQueue

  // MARK: Collected for the next Ready

  var pending = Ready()
  /// What the last ``Ready/roleChange`` said.
  var announced: RoleChange

  /// A member as it comes back (or into being) with what was recovered from its disk. It is a follower
  /// and does nothing before its first event.
  public init(id: NodeID, settings: Settings, start: StartState, random: RandomSource) {
    invariant(
      settings.heartbeatTicks > 0 && settings.electionTicks > settings.heartbeatTicks,
      "an election time-out must be longer than a heartbeat")
    invariant(
      settings.limits.unappliedBytes > settings.limits.uncommittedBytes,
      "a follower must be able to hold what its leader may propose")
    invariant(
      settings.limits.unappliedBytes > settings.limits.tailBytes,
      "a follower must be able to hold what it keeps for others")
    self.id = id
    self.settings = settings
    self.random = random
    reads = ReadQueue(lastBatch: self.random.next())
    log = Log(start: start)
    term = max(start.hardState.term, log.lastTerm)
    vote = term == start.hardState.term ? start.hardState.vote : nil
    #if PLANTED_BUGS
      if settings.plantedBugs.contains(.forgottenVote) { vote = nil }
    #endif
    applied = max(start.applied, start.snapshot.index)
    invariant(applied <= log.lastIndex, "more was applied than the log holds")
    // The commit index may have been written ahead of entries that this member never got to disk.
    commit = max(applied, min(start.hardState.commit, log.lastIndex))
    handedOut = applied
    persistence = PersistenceTracker(term: term, vote: vote, commit: commit, last: log.lastIndex)
    memberships = [
      MembershipRecord(index: start.snapshot.index, membership: start.snapshot.membership)
    ]
    announced = RoleChange(role: .follower, term: term, leader: nil)
    for entry in start.entries
    where entry.kind == .membership && entry.index > start.snapshot.index
      && entry.index <= log.lastIndex
    {
      recordMembership(of: entry)
    }
    adoptMembership()
    resetElectionTimer()
  }
}

/// A membership and the entry that brought it.
struct MembershipRecord: Sendable {
  var index: LogIndex
  var membership: Membership
}
