import Primitives

// Is there an order?
// ==================
//
// The problem. A history is linearizable if each call can be given an instant between its start and its end so
// that a store which did one call after the other, in that order, would have answered the same (Herlihy and
// Wing, 1990). In general the search for such an order is exponential; checkers such as Porcupine cut it
// down by splitting the history by key. That doesn't work here: transactions touch several keys, and every
// answer carries the store's revision, which all keys share.
//
// The design. That same revision makes the search nearly linear. A store takes a new revision exactly when it
// changes something, so the revision in an answer is the call's place among all changes:
//
//     revision    5         6            7           8
//     changed by  put a     (nobody      txn         delete b
//                           was told)
//     read at     get, get               get
//
// 1. A call that was told that it made revision r is what happened at r.
// 2. A call that changed nothing and was told r happened while r was the newest.
// 3. A revision that nobody was told of is a *gap*: there one of the calls with unknown outcome happened (or
//    the end of a lease). Which one is searched for, depth first, the youngest call first; a wrong
//    guess soon contradicts the next answer that reads the key, and is taken back. What a watcher saw
//    at that revision, where one did, settles it at once.
//
// Real time is checked along the way. Walking through the revisions, `instant` is the earliest moment at which
// the call under consideration can have happened: no earlier than its own start, nor than any call of a lower
// revision. If that lies behind the call's end, no order exists: that is how a stale read looks.
//
// Example. Client 1's `put a=1` is told revision 2 at instant 10. Client 2's `get a` starts at 20 and is told
// "no key, revision 1". Revision 1 comes first, so the read must precede the put; but then the put's
// instant is at least 20, and its end is 10: not linearizable.
//
// A *serializable* read may be answered from any state that once was the newest: it is held against the state
// at its revision, and against real time only in that no state may be read before its changes began.
//
// Left out: a caller who knows of changes from elsewhere (a second history) must put them into this one.

/// Decides whether a history is linearizable, and if so gives the order as a `Timeline`.
public struct LinearizabilityChecker {
  /// Guesses at gaps before the search is given up.
  public static let maximumGuesses = 200_000

  private let calls: [History.Call]
  /// Calls that made each revision, and calls that were told it without having made it.
  private var makers: [Int64: Int] = [:]
  private var observers: [Int64: [Int]] = [:]
  private var serializable: [Int64: [Int]] = [:]
  /// Ends of leases that were told each revision: whether they changed anything isn't said.
  private var leaseEnds: [Int64: [Int]] = [:]
  /// Calls with unknown outcome that may change something, the youngest first.
  private var open: [Int] = []
  /// For each revision, by when it must have been made: the first end of a call that was told it or a
  /// later one.
  private var madeBefore: [UInt64] = []
  /// What watchers saw.
  private let witness: [Int64: [ModelEvent]]
  private var isUsed: [Bool] = []
  private var timeline = Timeline()
  private var guesses = 0
  /// What stopped the walk that came furthest.
  private var deepest: (revision: Int64, what: BrokenGuarantee)?
  private let lastRevision: Int64

  private init(
    _ history: History, _ witness: [Int64: [ModelEvent]]
  ) throws(BrokenGuarantee) {
    calls = history.calls
    self.witness = witness
    isUsed = [Bool](repeating: false, count: calls.count)
    var last: Int64 = 1
    for (number, call) in calls.enumerated() {
      switch call.outcome {
      case .refused: continue
      case .unknown:
        if call.request.mayChange { open.append(number) }
      case .answered(let response, let revision):
        guard revision >= 1 else {
          throw BrokenGuarantee("Linearizable", "\(call.text) was told revision \(revision)")
        }
        last = max(last, revision)
        if case .range(_, _, isSerializable: true) = call.request {
          serializable[revision, default: []].append(number)
        } else if case .endLease = call.request {
          leaseEnds[revision, default: []].append(number)
        } else if response.tellsOfChange(by: call.request) {
          if let other = makers[revision] {
            throw BrokenGuarantee(
              "Linearizable",
              "two calls were told that they made revision \(revision): \(calls[other].text) and "
                + call.text)
          }
          makers[revision] = number
        } else {
          observers[revision, default: []].append(number)
        }
      }
    }
    lastRevision = max(last, witness.keys.max() ?? 0)
    open.sort { calls[$0].start > calls[$1].start }
    madeBefore = [UInt64](repeating: .max, count: Int(clamping: lastRevision) + 1)
    for told in [makers.mapValues { [$0] }, observers, leaseEnds] {
      for (revision, numbers) in told {
        for number in numbers {
          let place = Int(revision)
          madeBefore[place] = min(madeBefore[place], calls[number].end)
        }
      }
    }
    for place in madeBefore.indices.dropLast().reversed() {
      madeBefore[place] = min(madeBefore[place], madeBefore[place + 1])
    }
  }

  /// Checks a history.
  ///
  /// O(calls x keys) where no outcome is unknown; each revision that nobody was told of adds guesses.
  ///
  /// - Parameter witness: events that watchers were told of, by revision; those of a revision are
  ///   complete. They help where no client knows what a revision brought.
  /// - Returns: the timeline of changes that explains every answer.
  /// - Throws: `BrokenGuarantee` naming the call at which the best attempt at an order failed.
  public static func check(
    _ history: History, witness: [Int64: [ModelEvent]] = [:]
  ) throws(BrokenGuarantee) -> Timeline {
    var checker = try LinearizabilityChecker(history, witness)
    return try checker.search()
  }

  // MARK: The walk

  /// A gap with the guess that is being tried, to come back to.
  private struct Choice {
    var revision: Int64
    /// The place in `open` of the guess.
    var place: Int
    /// The earliest instant before the guess.
    var instant: UInt64
  }

  private mutating func search() throws(BrokenGuarantee) -> Timeline {
    var choices: [Choice] = []
    var instant: UInt64 = 0
    var failure = observe(at: 1, &instant)
    while true {
      if failure == nil, timeline.revision == lastRevision { return timeline }
      if failure == nil {
        let next = timeline.revision + 1
        if let maker = makers[next] ?? leaseEnd(at: next) {
          failure = make(next, by: maker, &instant)
        } else if let choice = guess(at: next, from: 0, instant) {
          choices.append(choice)
          failure = settle(choice, &instant)
        } else {
          failure = BrokenGuarantee(
            "Linearizable",
            "revision \(next) was reached, but no call can have made it")
        }
        continue
      }
      // Back to the last gap where another call may be tried.
      if let what = failure, deepest == nil || timeline.revision >= deepest!.revision {
        deepest = (timeline.revision, what)
      }
      var resumed = false
      while let last = choices.popLast() {
        while timeline.revision >= last.revision {
          if let ends = leaseEnds[timeline.revision] { for end in ends { isUsed[end] = false } }
          timeline.undo()
        }
        isUsed[open[last.place]] = false
        guesses += 1
        guard guesses < Self.maximumGuesses else { break }
        if let choice = guess(at: last.revision, from: last.place + 1, last.instant) {
          choices.append(choice)
          instant = last.instant
          failure = settle(choice, &instant)
          resumed = true
          break
        }
      }
      if !resumed {
        guard guesses < Self.maximumGuesses else {
          throw BrokenGuarantee(
            "Linearizable", "not decided after \(guesses) guesses: too many unknown outcomes")
        }
        throw deepest?.what ?? BrokenGuarantee("Linearizable", "no order exists")
      }
    }
  }

  /// The next call with unknown outcome that can have made a revision.
  private func guess(at revision: Int64, from place: Int, _ instant: UInt64) -> Choice? {
    var place = place
    while place < open.count {
      if !isUsed[open[place]], calls[open[place]].start <= madeBefore[Int(revision)] {
        return Choice(revision: revision, place: place, instant: instant)
      }
      place += 1
    }
    return nil
  }

  private mutating func settle(_ choice: Choice, _ instant: inout UInt64) -> BrokenGuarantee? {
    let number = open[choice.place]
    isUsed[number] = true
    guard timeline.apply(calls[number].request).changed else {
      return BrokenGuarantee("Linearizable", "revision \(choice.revision) changed nothing")
    }
    if let seen = witness[choice.revision], !agrees(seen, at: choice.revision) {
      return BrokenGuarantee(
        "Linearizable",
        "watchers saw \(seen) at revision \(choice.revision), which \(calls[number].text) doesn't do")
    }
    instant = max(instant, calls[number].start)
    return observe(at: choice.revision, &instant)
  }

  private func agrees(_ seen: [ModelEvent], at revision: Int64) -> Bool {
    let events = timeline.events(at: revision)
    return events.count == seen.count
      && zip(events, seen).allSatisfy { $0.isDelete == $1.isDelete && $0.record == $1.record }
  }

  /// The end of a lease that was told `revision` and changes something now.
  private mutating func leaseEnd(at revision: Int64) -> Int? {
    leaseEnds[revision]?.first { number in
      guard !isUsed[number], timeline.apply(calls[number].request).changed else { return false }
      timeline.undo()
      return true
    }
  }

  private mutating func make(
    _ revision: Int64, by maker: Int, _ instant: inout UInt64
  ) -> BrokenGuarantee? {
    let call = calls[maker]
    instant = max(instant, call.start)
    guard instant <= call.end else { return late(call, instant) }
    isUsed[maker] = true
    let (response, changed) = timeline.apply(call.request)
    guard changed else {
      return BrokenGuarantee(
        "Linearizable", "\(call.text) was told that it made revision \(revision), but changes nothing")
    }
    if let difference = compare(call, response) { return difference }
    return observe(at: revision, &instant)
  }

  /// Checks the calls that were told `revision`, which is the newest.
  private mutating func observe(
    at revision: Int64, _ instant: inout UInt64
  ) -> BrokenGuarantee? {
    let made = instant
    let ends = (leaseEnds[revision] ?? []).filter { !isUsed[$0] }
    for number in (observers[revision] ?? []) + ends {
      let call = calls[number]
      let happened = max(made, call.start)
      guard happened <= call.end else { return late(call, happened) }
      let response: ModelResponse
      switch call.request {
      case .range(let range, let at, _):
        let found = timeline.records(range, at: at == 0 ? revision : at)
        response = .range(found, count: Int64(found.count))
      default:
        let (answer, changed) = timeline.apply(call.request)
        if changed {
          timeline.undo()
          return BrokenGuarantee(
            "Linearizable",
            "\(call.text) was told revision \(revision) and no change, but it would have made one")
        }
        response = answer
      }
      if let difference = compare(call, response) { return difference }
      instant = max(instant, happened)
    }
    for number in serializable[revision] ?? [] {
      let call = calls[number]
      guard made <= call.end else { return late(call, made) }
      guard case .range(let range, let at, _) = call.request else { continue }
      let found = timeline.records(range, at: at == 0 ? revision : at)
      if let difference = compare(call, .range(found, count: Int64(found.count))) {
        return difference
      }
    }
    return nil
  }

  private func late(_ call: History.Call, _ instant: UInt64) -> BrokenGuarantee {
    BrokenGuarantee(
      "Linearizable",
      "\(call.text) was answered at \(call.end), but by its revision it can't have happened before "
        + "\(instant)")
  }

  private func compare(_ call: History.Call, _ expected: ModelResponse) -> BrokenGuarantee? {
    guard case .answered(let response, let revision) = call.outcome else { return nil }
    if response.agrees(with: expected) { return nil }
    return BrokenGuarantee(
      "Linearizable",
      "\(call.text) was answered \(response) at revision \(revision), but should have been \(expected)")
  }
}

extension History.Call {
  var text: String { "client \(client)'s \(request) at \(start)" }
}

extension ModelRequest {
  var mayChange: Bool {
    switch self {
    case .put, .delete, .endLease: true
    case .range: false
    case .txn(_, let success, let failure): (success + failure).contains { $0.mayChange }
    }
  }
}

extension ModelResponse {
  /// Whether a response says that its request took a revision. Of a lease's end it says nothing.
  func tellsOfChange(by request: ModelRequest) -> Bool {
    switch (self, request) {
    case (.put, _): true
    case (.delete(let count, _), _): count > 0
    case (.range, _), (.endLease, _): false
    case (.txn(let succeeded, let responses), .txn(_, let success, let failure)):
      zip(responses, succeeded ? success : failure).contains { $0.tellsOfChange(by: $1) }
    case (.txn, _): false
    }
  }

  /// Whether an answer says the same as the model's, in everything that it says.
  func agrees(with model: ModelResponse) -> Bool {
    switch (self, model) {
    case (.put(let told), .put(let expected)):
      told == nil || told == expected
    case (.delete(let count, let previous), .delete(let expectedCount, let expected)):
      count == expectedCount && (previous == nil || previous == expected)
    case (.range(let records, let count), .range(let expected, let expectedCount)):
      count == expectedCount && records == expected
    case (.txn(let succeeded, let responses), .txn(let expected, let expectedResponses)):
      succeeded == expected && responses.count == expectedResponses.count
        && zip(responses, expectedResponses).allSatisfy { $0.agrees(with: $1) }
    case (.endLease, .endLease): true
    default: false
    }
  }
}
