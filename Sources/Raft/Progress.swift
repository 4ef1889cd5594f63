import Primitives

/// What the leader knows of another member, and what a candidate heard from it.
///
/// ```
///            accepted                    rejected, stalled, unreachable
///   probe ─────────────▶ replicate ─────────────────────────────────────▶ probe
///     │ log too short                        │ log too short
///     └──────────────▶ snapshot ◀────────────┘
///                         │ installed, or failed
///                         └──────────────▶ probe
/// ```
///
/// In `probe` one append at a time looks for the place where the logs agree. In `replicate` the leader
/// advances `next` as it sends, as if every message arrived, and stops at the bounds of the window.
struct Progress: Sendable {
  let id: NodeID
  /// Votes in the (incoming) membership.
  var isVoter = false
  /// Votes in the outgoing half of a joint membership.
  var isOutgoingVoter = false
  /// It is removed, and should still hear of that: it gets the log for a while, without a say.
  var isLeaving = false

  var state: PeerStatus.State = .probe
  /// Durable at the follower and equal to the leader's log. Never falls within a term.
  var match: LogIndex = .zero
  /// The next entry to send; always past `match`.
  var next: LogIndex
  /// Sent and not yet acknowledged; empty outside `replicate`.
  var window = InFlightWindow()
  /// `probe`: the last entry of the message that is out, and its cost; zero if it carried none.
  var probedThrough: LogIndex = .zero
  var probedBytes = 0
  /// `probe`: a message is out, or the peer is not to be bothered before the next heartbeat.
  var isPaused = false
  /// A ``LogRead`` for this peer has not been answered.
  var isReadingLog = false
  /// Heard of since the leader last checked its quorum.
  var isActive = false
  /// The commit index that the follower has been told.
  var sentCommit: LogIndex = .zero
  /// The newest read round that it echoed.
  var echoedRound: UInt64 = 0
  /// `match` at the last heartbeat: no advance with messages in flight means that some were lost.
  var matchAtHeartbeat: LogIndex = .zero
  /// Its answer to the campaign of this term.
  var vote: Bool?

  init(id: NodeID, next: LogIndex) {
    self.id = id
    self.next = next
  }

  mutating func becomeProbe() {
    state = .probe
    next = match.next
    window.removeAll()
    probedThrough = .zero
    isPaused = false
  }

  mutating func becomeReplicate() {
    state = .replicate
    next = match.next
    window.removeAll()
    // The probe's entries fitted as well, and may only not be durable yet.
    if probedThrough > match {
      next = probedThrough.next
      window.append(last: probedThrough, bytes: probedBytes)
    }
    probedThrough = .zero
    isPaused = false
  }

  mutating func becomeSnapshot() {
    state = .snapshot
    probedThrough = .zero
    window.removeAll()
    isPaused = false
  }
}

/// The appends that were sent and not acknowledged, oldest first: a ring of (last index, bytes).
struct InFlightWindow: Sendable {
  private struct Item: Sendable {
    var last: LogIndex
    var bytes: Int
  }
  private var ring: [Item] = []
  private var start = 0
  private(set) var count = 0
  private(set) var bytes = 0

  var isEmpty: Bool { count == 0 }

  mutating func append(last: LogIndex, bytes size: Int) {
    if count == ring.count { grow() }
    ring[(start &+ count) & (ring.count &- 1)] = Item(last: last, bytes: size)
    count &+= 1
    bytes &+= size
  }

  mutating func remove(through index: LogIndex) {
    while count > 0 {
      let item = ring[start]
      if item.last > index { break }
      bytes &-= item.bytes
      start = (start &+ 1) & (ring.count &- 1)
      count &-= 1
    }
  }

  mutating func removeAll() {
    start = 0
    count = 0
    bytes = 0
  }

  /// Doubles the ring; its size is a power of two. Bounded by ``Limits/inFlightMessages``.
  private mutating func grow() {
    var larger: [Item] = []
    larger.reserveCapacity(max(8, ring.count * 2))
    for offset in 0..<count { larger.append(ring[(start &+ offset) & (ring.count &- 1)]) }
    while larger.count < max(8, ring.count * 2) { larger.append(Item(last: .zero, bytes: 0)) }
    ring = larger
    start = 0
  }
}
