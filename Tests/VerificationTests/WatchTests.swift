import Testing

@testable import Verification

/// Each promise to watchers, kept once and broken once.
@Suite struct WatchTests {
  /// a=1 at 2, b=1 at 3, {a=2, b deleted} at 4, a deleted at 5, c=1 at 6.
  static let timeline: Timeline = {
    var timeline = Timeline()
    func key(_ name: String) -> [UInt8] { Story.key(name) }
    _ = timeline.apply(.put(key: key("a"), value: key("1")))
    _ = timeline.apply(.put(key: key("b"), value: key("1")))
    _ = timeline.apply(
      .txn(
        [], success: [.put(key: key("a"), value: key("2")), .delete(ModelRange(key("b")))],
        failure: []))
    _ = timeline.apply(.delete(ModelRange(key("a"))))
    _ = timeline.apply(.put(key: key("c"), value: key("1")))
    return timeline
  }()

  static let all = ModelRange([0], end: [0])

  /// The events of some revisions, as a right stream has them.
  static func events(_ revisions: [Int64], _ watch: ModelWatch) -> [ModelEvent] {
    revisions.flatMap { timeline.events(at: $0) }.filter { watch.wants($0) }.map {
      var event = $0
      if !watch.wantsPrevious { event.previous = nil }
      return event
    }
  }

  func broken(
    _ watch: ModelWatch, mustReach: Int64 = 0, _ messages: [WatchHistory.Message]
  ) -> String? {
    var history = WatchHistory(watch)
    for message in messages { history.append(message) }
    do {
      try WatchChecker.check(history, against: Self.timeline, mustReach: mustReach)
      return nil
    } catch {
      return error.guarantee
    }
  }

  let watch = ModelWatch(all, startRevision: 2)

  @Test("What is right passes, however it is cut into responses") func right() {
    let each = (2...6 as ClosedRange<Int64>).map { Self.events([$0], watch) }
    #expect(
      broken(watch, mustReach: 6, [.created(revision: 1)] + each.map { .events($0) }) == nil)
    #expect(
      broken(
        watch, mustReach: 6,
        [.created(revision: 6), .events(each[0] + each[1]), .progress(revision: 3)]
          + [.events(each[2] + each[3] + each[4]), .progress(revision: 6)]) == nil)
    let late = ModelWatch(Self.all)
    #expect(broken(late, [.created(revision: 4), .events(Self.events([5, 6], late))]) == nil)
    let previous = ModelWatch(Self.all, startRevision: 2, wantsPrevious: true)
    #expect(
      broken(previous, [.created(revision: 1), .events(Self.events([2, 3, 4, 5, 6], previous))])
        == nil)
    let puts = ModelWatch(Self.all, startRevision: 2, wantsDeletes: false)
    #expect(
      broken(puts, [.created(revision: 1), .events(Self.events([2, 3, 4, 6], puts))]) == nil)
  }

  @Test("Ordered") func ordered() {
    #expect(
      broken(watch, [.created(revision: 1), .events(Self.events([2], watch)), .events(Self.events([4, 3], watch))])
        != nil)
    let late = ModelWatch(Self.all, startRevision: 4)
    #expect(broken(late, [.created(revision: 6), .events(Self.events([3], late))]) == "Ordered")
  }

  @Test("Unique") func unique() {
    #expect(
      broken(
        watch, [.created(revision: 1), .events(Self.events([2, 3], watch)), .events(Self.events([3], watch))])
        == "Unique")
  }

  @Test("Atomic") func atomic() {
    let four = Self.events([4], watch)
    #expect(
      broken(
        watch,
        [.created(revision: 1), .events(Self.events([2, 3], watch)), .events([four[0]]), .events([four[1]])])
        == "Atomic")
  }

  @Test("Reliable: nothing is missing, nothing is made up") func reliable() {
    #expect(
      broken(watch, [.created(revision: 1), .events(Self.events([2], watch)), .events(Self.events([4], watch))])
        == "Reliable")
    var wrong = Self.events([2], watch)
    wrong[0].record.value = [9]
    #expect(broken(watch, [.created(revision: 1), .events(wrong)]) == "Reliable")
    #expect(
      broken(watch, mustReach: 6, [.created(revision: 1), .events(Self.events([2, 3, 4, 5], watch))])
        == "Reliable")
  }

  @Test("Resumable") func resumable() {
    #expect(broken(watch, [.created(revision: 6), .events(Self.events([3], watch))]) == "Resumable")
    var history = WatchHistory(watch)
    #expect(history.nextRevision == nil)
    history.append(.created(revision: 6))
    #expect(history.nextRevision == 2)
    history.append(.events(Self.events([2, 3], watch)))
    #expect(history.nextRevision == 4)
    history.append(.progress(revision: 5))
    #expect(history.nextRevision == 6)
  }

  @Test("Bookmarkable") func bookmarkable() {
    #expect(
      broken(watch, [.created(revision: 1), .events(Self.events([2], watch)), .progress(revision: 3)])
        == "Bookmarkable")
    #expect(
      broken(
        ModelWatch(ModelRange(Story.key("c")), startRevision: 2),
        [.created(revision: 1), .progress(revision: 5), .progress(revision: 4)]) == "Bookmarkable")
    #expect(
      broken(
        watch,
        [.created(revision: 1), .events(Self.events([2, 3], watch)), .progress(revision: 3)]
          + [.events(Self.events([3], watch))]) == "Bookmarkable")
  }

  @Test("PrevKV") func prevKV() {
    let previous = ModelWatch(Self.all, startRevision: 2, wantsPrevious: true)
    var events = Self.events([2, 3, 4], previous)
    events[2].previous = nil
    #expect(broken(previous, [.created(revision: 1), .events(events)]) == "PrevKV")
    events[2].previous = Story.record("a", "9", created: 2, at: 2)
    #expect(broken(previous, [.created(revision: 1), .events(events)]) == "PrevKV")
    #expect(broken(watch, [.created(revision: 1), .events(events)]) == "PrevKV")
  }

  @Test("Filter") func filter() {
    let puts = ModelWatch(Self.all, startRevision: 2, wantsDeletes: false)
    #expect(
      broken(puts, [.created(revision: 1), .events(Self.events([2, 3, 4], watch))]) == "Filter")
    let one = ModelWatch(ModelRange(Story.key("a")), startRevision: 2)
    #expect(broken(one, [.created(revision: 1), .events(Self.events([2, 3], watch))]) == "Filter")
  }
}
