import Primitives

/// What of the log and hard state is on disk, while writes are under way.
///
/// Writes finish in the order of their tickets. An entry may be replaced between the start and the end of
/// its write:
///
/// ```
///   ticket 1 writes 5, 6 of term 2      persistedIndex 4
///   the new leader replaces from 5      ticket 1 now counts through 4
///   ticket 2 writes 5 of term 3
///   ticket 1 is done                    persistedIndex 4: the 5 on disk is not the log's 5
///   ticket 2 is done                    persistedIndex 5
/// ```
struct PersistenceTracker: Sendable {
  struct Write: Sendable {
    var sequence: UInt64
    /// The last of its entries that is still in the log; never more than was written.
    var last: LogIndex
    var term: Term
    var vote: NodeID?
    /// The tick in which it was handed out.
    var startedAt: UInt64
  }

  /// The log is durable through here, as it is now.
  private(set) var persistedIndex: LogIndex
  /// The first entry that has not been handed out for writing.
  private(set) var firstUnwritten: LogIndex
  /// The durable term and vote.
  private(set) var durableTerm: Term
  private(set) var durableVote: NodeID?
  /// The hard state that was last handed out.
  private(set) var written: HardState
  /// Handed out and not completed, oldest first. One or two as a rule: the writer batches.
  private var writes: [Write] = []
  private var lastSequence: UInt64 = 0

  init(term: Term, vote: NodeID?, commit: LogIndex, last: LogIndex) {
    persistedIndex = last
    firstUnwritten = last.next
    durableTerm = term
    durableVote = vote
    written = HardState(term: term, vote: vote, commit: commit)
  }

  /// The tick at which the oldest unfinished write began.
  var oldestWriteStart: UInt64? { writes.first?.startedAt }

  func isDirty(term: Term, vote: NodeID?) -> Bool {
    written.term != term || written.vote != vote
  }

  /// The log from `first` on is being replaced.
  mutating func truncated(from first: LogIndex, ignoringWrites: Bool) {
    persistedIndex = min(persistedIndex, first.previous)
    firstUnwritten = min(firstUnwritten, first)
    if ignoringWrites { return }
    for position in writes.indices {
      writes[position].last = min(writes[position].last, first.previous)
    }
  }

  /// A durable snapshot stands for everything through `index`; `keepsLog` if the log goes on after it.
  mutating func installed(through index: LogIndex, keepsLog: Bool) {
    if !keepsLog {
      for position in writes.indices { writes[position].last = min(writes[position].last, index) }
      persistedIndex = index
      firstUnwritten = index.next
    }
    persistedIndex = max(persistedIndex, index)
    firstUnwritten = max(firstUnwritten, index.next)
  }

  /// Everything through `last`, and this hard state, is handed out for writing.
  mutating func begin(last: LogIndex, hardState: HardState, tick: UInt64) -> PersistTicket {
    lastSequence &+= 1
    writes.append(
      Write(
        sequence: lastSequence, last: last, term: hardState.term, vote: hardState.vote,
        startedAt: tick))
    written = hardState
    firstUnwritten = last.next
    return PersistTicket(sequence: lastSequence)
  }

  /// The write of `ticket`, and all before it, are done. Unknown tickets change nothing.
  mutating func complete(_ ticket: PersistTicket) {
    var done = 0
    while done < writes.count, writes[done].sequence <= ticket.sequence {
      persistedIndex = max(persistedIndex, writes[done].last)
      durableTerm = writes[done].term
      durableVote = writes[done].vote
      done &+= 1
    }
    if done > 0 { writes.removeFirst(done) }
  }
}
