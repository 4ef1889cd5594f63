import Primitives

/// The replicated log as the core sees it: a tail in memory, and the terms of all that is on disk.
///
/// ```
///        firstIndex           tailFirst                             lastIndex
///   ────────┼────────────────────┼──────────────┼───────────────┼───────┤
///   deleted │ on disk only       │ in memory    │ written, not  │ not yet handed
///           │ (read by LogRead)  │ and on disk  │ durable yet   │ out to be written
///                                               ↑ persisted     ↑ firstUnwritten - 1
/// ```
///
/// Terms change rarely, so a run-length list of them (`terms`) covers the whole log: the term at any index
/// that is still there costs a look at a list of one or two elements, and never the disk.
struct Log: Sendable {
  /// The entries from `tailFirst` on are `slots[head...]`. Slots before `head` are emptied, and given
  /// back when they are half of the array, so that dropping is O(1) amortised.
  private var slots: [Entry] = []
  private var head = 0
  /// The index of the first entry in memory, one past the last index if there is none.
  private(set) var tailFirst: LogIndex
  /// The first index that the log holds, in memory or on disk.
  private(set) var firstIndex: LogIndex
  /// The term of the entry before `firstIndex`, which a follower must confirm before it takes that
  /// entry. Nil if unknown: then the first entry can only be another one's predecessor.
  private(set) var precedingTerm: Term?
  /// Ascending in index and in term; the first run starts at `firstIndex`, unless the log is empty.
  private var terms: [TermRun] = []
  /// The cost of the entries in memory.
  private(set) var tailBytes = 0

  var count: Int { slots.count &- head }
  var lastIndex: LogIndex { LogIndex(tailFirst.rawValue &+ UInt64(count) &- 1) }
  var lastTerm: Term { terms.last?.term ?? precedingTerm ?? .zero }

  /// An empty log that follows a snapshot.
  init(after snapshot: SnapshotMetadata) {
    firstIndex = snapshot.index.next
    tailFirst = snapshot.index.next
    precedingTerm = snapshot.term
  }

  /// The log that was found on disk.
  init(start: StartState) {
    self.init(after: start.snapshot)
    let snapshot = start.snapshot
    if let first = start.entries.first, let last = start.entries.last {
      invariant(first.index <= snapshot.index.next, "the log starts with a gap after the snapshot")
      // A snapshot from the leader may have overtaken the log; what it replaced must not come back.
      guard last.index > snapshot.index else { return }
      if first.index <= snapshot.index {
        let atSnapshot = start.entries[Int(snapshot.index - first.index)]
        guard atSnapshot.term == snapshot.term else { return }
        setStart(first.index)
      } else if first.term < snapshot.term {
        return
      }
    }
    if let oldest = start.olderTerms.first, oldest.first < firstIndex {
      terms = start.olderTerms
      setStart(oldest.first)
    }
    tailFirst = start.entries.first?.index ?? tailFirst
    for entry in start.entries { append(entry) }
  }

  private mutating func setStart(_ index: LogIndex) {
    firstIndex = index
    precedingTerm = index == LogIndex(1) ? .zero : nil
  }

  // MARK: Reading

  /// The term at `index`, if the log still knows it: from one before `firstIndex` to `lastIndex`.
  func term(at index: LogIndex) -> Term? {
    guard index >= firstIndex else { return index == firstIndex.previous ? precedingTerm : nil }
    guard index <= lastIndex else { return nil }
    var run = terms.count &- 1
    while terms[run].first > index { run &-= 1 }
    return terms[run].term
  }

  /// The last index at or before `limit` whose term is at most `term`, with its term. Stops at the entry
  /// before `firstIndex`: what lies further back is committed on this member.
  func lastPosition(atOrBefore limit: LogIndex, termAtMost term: Term) -> (LogIndex, Term) {
    var index = min(limit, lastIndex)
    var run = terms.count - 1
    while run >= 0 {
      let current = terms[run]
      if current.first <= index {
        if current.term <= term { return (index, current.term) }
        index = current.first.previous
      }
      run -= 1
    }
    return (firstIndex.previous, precedingTerm ?? .zero)
  }

  /// Entries in memory from `first` through `last`, as many as cost at most `maxBytes` but at least one.
  func entries(from first: LogIndex, through last: LogIndex, maxBytes: Int) -> [Entry] {
    guard first <= last else { return [] }
    invariant(
      first >= tailFirst && last <= lastIndex, "entries that are not in memory were asked for")
    let start = head &+ Int(first - tailFirst)
    let limit = start &+ Int(last - first)
    var bytes = slots[start].cost
    var end = start
    while end < limit {
      bytes &+= slots[end &+ 1].cost
      if bytes > maxBytes { break }
      end &+= 1
    }
    return Array(slots[start...end])
  }

  /// The cost of the entries from `first` to the end, which must be in memory. O(n).
  func cost(from first: LogIndex) -> Int {
    guard first <= lastIndex else { return 0 }
    var bytes = 0
    for slot in (head &+ Int(first - tailFirst))..<slots.count { bytes &+= slots[slot].cost }
    return bytes
  }

  /// The entry at `index`, which must be in memory.
  subscript(index: LogIndex) -> Entry {
    invariant(index >= tailFirst && index <= lastIndex, "an entry that is not in memory")
    return slots[head &+ Int(index - tailFirst)]
  }

  // MARK: Changing

  mutating func append(_ entry: Entry) {
    invariant(entry.index == lastIndex.next, "the log would get a gap")
    invariant(entry.term >= lastTerm, "terms would fall along the log")
    if terms.isEmpty || entry.term > lastTerm {
      terms.append(TermRun(first: entry.index, term: entry.term))
    }
    tailBytes &+= entry.cost
    slots.append(entry)
  }

  /// Drops the entries from `first` on. They must be in memory: what is not, is committed.
  mutating func truncate(from first: LogIndex) {
    guard first <= lastIndex else { return }
    invariant(first >= tailFirst, "a committed part of the log would be replaced")
    let keep = head &+ Int(first - tailFirst)
    for slot in keep..<slots.count { tailBytes &-= slots[slot].cost }
    slots.removeSubrange(keep...)
    while let run = terms.last, run.first >= first { terms.removeLast() }
  }

  /// Drops entries from the front of the tail while it costs more than `limit`, never past `last`.
  mutating func trimTail(toBytes limit: Int, through last: LogIndex) {
    while tailBytes > limit, tailFirst <= last, count > 0 { dropFirst() }
    compact()
  }

  /// The log before `index` may be deleted from disk.
  mutating func release(before index: LogIndex) {
    guard index > firstIndex, let term = term(at: index.previous) else { return }
    precedingTerm = term
    firstIndex = index
    while terms.count > 1, terms[1].first <= index { terms.removeFirst() }
    if index > lastIndex {
      terms.removeAll()
    } else {
      terms[0].first = index
    }
    while tailFirst < index, count > 0 { dropFirst() }
    compact()
  }

  private mutating func dropFirst() {
    tailBytes &-= slots[head].cost
    slots[head].payload = []
    head &+= 1
    tailFirst = tailFirst.next
  }

  private mutating func compact() {
    guard head > 64, head > slots.count / 2 else { return }
    slots.removeSubrange(..<head)
    head = 0
  }

  // MARK: Invariants

  /// O(entries in memory).
  func validate() {
    invariant(firstIndex <= tailFirst, "the tail starts before the log")
    invariant(tailFirst <= lastIndex.next, "the tail ends before it starts")
    invariant(
      terms.isEmpty == (firstIndex > lastIndex), "terms are known exactly while there are entries")
    if let run = terms.first {
      invariant(run.first == firstIndex, "the first term run starts late")
    }
    for (one, two) in zip(terms, terms.dropFirst()) {
      invariant(one.first < two.first && one.term < two.term, "term runs are out of order")
    }
    var bytes = 0
    var index = tailFirst
    for entry in slots[head...] {
      invariant(entry.index == index, "an entry stands at a wrong index")
      invariant(entry.term == term(at: index), "the term runs contradict an entry")
      bytes += entry.cost
      index = index.next
    }
    invariant(bytes == tailBytes, "the tail's bytes are miscounted")
  }
}
