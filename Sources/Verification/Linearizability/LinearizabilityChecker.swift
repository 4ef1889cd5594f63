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
//    at that revision, or that it saw nothing, settles it at once.
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
  /// What watchers saw, by revision.
  private let witness: [Int64: [Sighting]]
  private let coverages: [Coverage]
  private var isUsed: [Bool] = []
  /// Which calls were used up to now, and where.
  private var used: [(revision: Int64, call: Int)] = []
  private var timeline = Timeline()
  private var guesses = 0
  /// Whether a gap lies behind: from then on watchers are believed, since they may tell a wrong guess.
  private var hasGuessed = false
  /// What stopped the walk that came furthest.
  private var deepest: (revision: Int64, what: BrokenGuarantee)?
  private let lastRevision: Int64

  private init(
    _ history: History, _ witness: [Int64: [Sighting]], _ coverages: [Coverage]
  ) throws(BrokenGuarantee) {
    calls = history.calls
    self.witness = witness
    self.coverages = coverages
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
    lastRevision = last
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
  /// - Parameter watches: what watchers were told. It helps where no client knows what a revision
  ///   brought; whether it is right everywhere, `WatchChecker` says.
  /// - Returns: the timeline of changes that explains every answer.
  /// - Throws: `BrokenGuarantee` naming the call at which the best attempt at an order failed.
  public static func check(
    _ history: History, watches: [WatchHistory] = []
  ) throws(BrokenGuarantee) -> Timeline {
    var witness: [Int64: [Sighting]] = [:]
    for stream in watches {
      for case .events(let events) in stream.messages {
        for (revision, told) in Dictionary(grouping: events, by: \.revision) {
          witness[revision, default: []].append(Sighting(watch: stream.watch, events: told))
        }
      }
    }
    var checker = try LinearizabilityChecker(
      history, witness, watches.compactMap { Coverage($0) })
    return try checker.search()
  }

  // MARK: The walk

  /// A gap with the guess that is being tried, to come back to.
  private struct Choice {
    var revision: Int64
    /// The calls that may have made it, and which of them is being tried.
    var candidates: [Int]
    var place = 0
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
        if let maker = makers[next] {
          failure = make(next, by: maker, &instant)
        } else {
          hasGuessed = true
          let candidates = candidates(at: next)
          choices.append(Choice(revision: next, candidates: candidates, instant: instant))
          if let first = candidates.first {
            failure = make(next, by: first, &instant, isGuess: true)
            continue
          }
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
      while var last = choices.popLast() {
        while timeline.revision >= last.revision { timeline.undo() }
        forget(from: last.revision)
        guesses += 1
        guard guesses < Self.maximumGuesses else { break }
        last.place += 1
        guard last.place < last.candidates.count else { continue }
        choices.append(last)
        instant = last.instant
        failure = make(last.revision, by: last.candidates[last.place], &instant, isGuess: true)
        resumed = true
        break
      }
      if !resumed {
        guard guesses < Self.maximumGuesses else {
          throw BrokenGuarantee.undecided(
            "no order of the calls after \(guesses) guesses: too many unknown outcomes")
        }
        throw deepest?.what ?? BrokenGuarantee("Linearizable", "no order exists")
      }
    }
  }

  /// The calls that can have made a revision which nobody was told of having made.
  private func candidates(at revision: Int64) -> [Int] {
    let seen = (witness[revision] ?? []).flatMap(\.events)
    return
      ((leaseEnds[revision] ?? [])
      + open.filter { !isUsed[$0] && calls[$0].start <= madeBefore[Int(revision)] })
      .filter { number in seen.allSatisfy { mayCause($0, calls[number].request) } }
  }

  /// Whether a request can have caused a change that a watcher saw. What is no can be left out of the search, which a
  /// thousand leases would else make long.
  private func mayCause(_ event: ModelEvent, _ request: ModelRequest) -> Bool {
    switch request {
    case .put(let key, let value, _):
      !event.isDelete && event.record.key == key && event.record.value == value
    case .delete(let range): event.isDelete && range.contains(event.record.key)
    case .endLease(let lease):
      event.isDelete && timeline.record(event.record.key, at: timeline.revision)?.lease == lease
    case .txn(_, let success, let failure):
      (success + failure).contains { mayCause(event, $0) }
    case .range: false
    }
  }

  /// The makers of this and later revisions are free again.
  private mutating func forget(from revision: Int64) {
    while let last = used.last, last.revision >= revision {
      isUsed[last.call] = false
      used.removeLast()
    }
  }

  private func agrees(_ seen: Sighting, at revision: Int64) -> Bool {
    let events = timeline.events(at: revision).filter { seen.watch.wants($0) }
    return events.count == seen.events.count
      && zip(events, seen.events).allSatisfy { truth, told in
        truth.isDelete == told.isDelete
          && (truth.isDelete ? truth.record.key == told.record.key : truth.record == told.record)
          && (told.previous == nil || told.previous == truth.previous)
      }
  }

  private mutating func make(
    _ revision: Int64, by maker: Int, _ instant: inout UInt64, isGuess: Bool = false
  ) -> BrokenGuarantee? {
    let call = calls[maker]
    instant = max(instant, call.start)
    guard instant <= call.end else { return late(call, instant) }
    isUsed[maker] = true
    used.append((revision, maker))
    let (response, changed) = timeline.apply(call.request)
    guard changed else {
      return BrokenGuarantee(
        "Linearizable", "\(call.text) can't have made revision \(revision): it changes nothing")
    }
    if let difference = compare(call, response) { return difference }
    if hasGuessed {
      for seen in witness[revision] ?? [] where !agrees(seen, at: revision) {
        return BrokenGuarantee(
          "Linearizable",
          "watchers saw \(seen.events) at revision \(revision), which \(call.text) doesn't do")
      }
    }
    if isGuess, let missed = missedEvent(at: revision) {
      return BrokenGuarantee(
        "Linearizable",
        "watchers saw nothing at revision \(revision), but \(call.text) would have made \(missed)")
    }
    return observe(at: revision, &instant)
  }

  /// An event that a watcher would have been told of, and was not.
  private func missedEvent(at revision: Int64) -> ModelEvent? {
    let events = timeline.events(at: revision)
    for coverage in coverages where coverage.isSilent(at: revision) {
      if let event = events.first(where: { coverage.watch.wants($0) }) { return event }
    }
    return nil
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
