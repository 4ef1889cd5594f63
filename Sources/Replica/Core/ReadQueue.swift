import MVCC
import Primitives
import Raft

/// Reads that want to see everything acknowledged before they were asked.
///
/// One round of ReadIndex serves all reads that wait when it starts; those that come while it runs wait
/// for the next one, because the round's answer was true before they asked. A confirmed read is released
/// when the state machine has *published* the index that the round named. Source: Ongaro, "Consensus",
/// section 6.4.
struct ReadQueue {
  struct Waiting {
    let token: UInt64
    let sink: any ReplySink
    let deadline: Instant
  }

  private struct Confirmed {
    let index: LogIndex
    let reads: [Waiting]
  }

  private var waiting: [Waiting] = []
  /// The reads of the round under way, and its context.
  private var round: (context: UInt64, reads: [Waiting], startedAt: Instant)?
  private var confirmed: [Confirmed] = []
  private var nextContext: UInt64 = 1
  private(set) var count = 0

  /// Queues a read; false where too many wait.
  mutating func append(_ read: Waiting) -> Bool {
    guard count < ReplicaLimits.pendingReads else { return false }
    waiting.append(read)
    count += 1
    return true
  }

  /// Starts a round for all that wait, if none runs; returns its context.
  ///
  /// A round whose messages were lost is started anew after `retry`.
  mutating func startRound(now: Instant, retry: Duration) -> UInt64? {
    if let running = round {
      guard now.nanoseconds(since: running.startedAt) >= retry.wholeNanoseconds else { return nil }
      roundFailed(context: running.context)
    }
    guard !waiting.isEmpty else { return nil }
    let context = nextContext
    nextContext += 1
    round = (context, waiting, now)
    waiting = []
    return context
  }

  mutating func confirmed(context: UInt64, index: LogIndex) {
    guard let running = round, running.context == context else { return }
    confirmed.append(Confirmed(index: index, reads: running.reads))
    round = nil
  }

  /// Puts the round's reads back, so that the next round takes them.
  mutating func roundFailed(context: UInt64) {
    guard let running = round, running.context == context else { return }
    waiting = running.reads + waiting
    round = nil
  }

  /// Answers every read whose index has been applied and published.
  mutating func release(
    through applied: LogIndex, view: StoreView, term: Term, into effects: inout Effects
  ) {
    while let first = confirmed.first {
      var isApplied = first.index <= applied
      #if PLANTED_BUGS
        if PlantedBug.readBeforeApply.isPlanted { isApplied = true }
      #endif
      guard isApplied else { break }
      for read in first.reads {
        effects.deliver(
          Reply(token: read.token, outcome: .readable(view, term: term)), to: read.sink)
      }
      count -= first.reads.count
      confirmed.removeFirst()
    }
  }

  mutating func giveUpExpired(
    now: Instant, into effects: inout Effects, counters: inout ReplicaStatus.Counters
  ) {
    // Reads are queued in order of their deadlines.
    var expired = 0
    while expired < waiting.count, waiting[expired].deadline <= now {
      let read = waiting[expired]
      effects.deliver(Reply(token: read.token, outcome: .failed(.timedOut)), to: read.sink)
      expired += 1
    }
    waiting.removeFirst(expired)
    count -= expired
    counters.readsFailed += UInt64(expired)
  }
}

extension ReplicaCore {
  /// Asks for a linearizable view. One call for all reads of a burst: the answer serves them all.
  public mutating func requestRead(token: UInt64, sink: any ReplySink) {
    let read = ReadQueue.Waiting(
      token: token, sink: sink, deadline: now.advanced(by: settings.requestTimeout))
    if !reads.append(read) {
      effects.deliver(Reply(token: token, outcome: .failed(.tooManyRequests)), to: sink)
    }
  }

  mutating func startReadRound() {
    guard leader != nil,
      let context = reads.startRound(now: now, retry: settings.heartbeatInterval * 5)
    else { return }
    counters.readRounds += 1
    raft.requestRead(context: context)
  }
}
