import Primitives

/// Reads that wait for a read index: on a leader for a round, on a follower for the leader.
struct ReadQueue: Sendable {
  struct Request: Sendable {
    /// The follower that asked; nil for this member's own.
    var origin: NodeID?
    /// The caller's context, or the follower's batch number.
    var context: UInt64
  }
  struct Round: Sendable {
    var number: UInt64
    /// The commit index when the round began.
    var index: LogIndex
    var requests: [Request]
  }
  struct Forwarded: Sendable {
    var batch: UInt64
    var contexts: [UInt64]
    /// The tick in which it was sent.
    var sentAt: UInt64
  }

  /// On a leader: not in a round yet.
  var waiting: [Request] = []
  /// On a leader: begun and not confirmed, oldest first.
  var rounds: [Round] = []
  /// Numbers never repeat, so an echo of one term's round is never taken for another's.
  var lastRound: UInt64 = 0
  /// On a follower: not sent to the leader yet.
  var unsent: [UInt64] = []
  /// On a follower: sent and not answered, oldest first.
  var forwarded: [Forwarded] = []
  /// Starts at a random number: a late answer to a batch from before a crash must not be taken for one
  /// to a new batch, whose index may be higher.
  var lastBatch: UInt64
  /// All reads above.
  var count = 0

  init(lastBatch: UInt64) { self.lastBatch = lastBatch }

  /// A leader gives up: its own reads fail, and followers find out by the change of term or leader.
  mutating func failOwn(into failed: inout [UInt64]) {
    for round in rounds {
      count -= round.requests.count
      for request in round.requests where request.origin == nil { failed.append(request.context) }
    }
    count -= waiting.count
    for request in waiting where request.origin == nil { failed.append(request.context) }
    rounds.removeAll()
    waiting.removeAll()
  }

  /// The leader that was asked is none any more.
  mutating func failForwarded(into failed: inout [UInt64]) {
    for batch in forwarded {
      count -= batch.contexts.count
      failed += batch.contexts
    }
    count -= unsent.count
    failed += unsent
    forwarded.removeAll()
    unsent.removeAll()
  }
}
