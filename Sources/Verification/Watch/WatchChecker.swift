import Primitives

/// Holds what watchers were told against what happened.
///
/// What happened is a `Timeline`, which `LinearizabilityChecker` found from the clients' own history; so the
/// store is never its own witness.
///
/// Up to which revision a stream must be complete, it says itself: its last event, its last progress
/// notification. What comes after may still have been under way when the stream broke.
public enum WatchChecker {
  /// Checks one stream.
  ///
  /// - Parameters:
  ///   - previousKnownAfter: records from before this revision may have been compacted when their event was
  ///     sent, so a missing previous record at or below it is forgiven.
  ///   - mustReach: the revision that the stream must have reached (0: none): a watcher that stands while
  ///     nothing fails any more hears of everything.
  /// - Throws: `BrokenGuarantee`, named after the guarantee.
  public static func check(
    _ history: WatchHistory, against timeline: Timeline, previousKnownAfter compacted: Int64 = 0,
    mustReach end: Int64 = 0
  ) throws(BrokenGuarantee) {
    var stream = Stream(watch: history.watch, timeline: timeline, compacted: compacted)
    for message in history.messages { try stream.take(message) }
    if end > 0 { try stream.expectNothingMissing(through: end, .reliable) }
  }

  private struct Stream {
    let watch: ModelWatch
    let timeline: Timeline
    let compacted: Int64
    /// Every wanted event up to here has come; nil before the first message.
    var through: Int64?
    /// What a progress notification vouched for.
    var bookmarked: Int64 = 0
    var hasEvents = false
    var isOver = false

    mutating func take(_ message: WatchHistory.Message) throws(BrokenGuarantee) {
      if isOver { throw broken(.ordered, "\(message) came after the stream's end") }
      switch message {
      case .created(let revision):
        guard through == nil else { throw broken(.unique, "the watch was created twice") }
        through = watch.startRevision > 0 ? watch.startRevision - 1 : revision
      case .progress(let revision):
        guard through != nil else { throw broken(.bookmarkable, "progress before the watch stood") }
        // Of a watch that starts in the future, progress says nothing yet.
        guard revision >= bookmarked else {
          throw broken(.bookmarkable, "progress went from \(bookmarked) back to \(revision)")
        }
        try expectNothingMissing(through: revision, .bookmarkable)
        bookmarked = revision
      case .compacted:
        isOver = true
      case .events(let events):
        guard through != nil else { throw broken(.ordered, "events before the watch stood") }
        try take(events)
      }
    }

    mutating func expectNothingMissing(
      through end: Int64, _ guarantee: WatchGuarantee
    ) throws(BrokenGuarantee) {
      guard let through, end > through else { return }
      if let missing = firstWanted(after: through, through: end) {
        throw broken(guarantee, "\(missing) never came, though \(end) was reached")
      }
      self.through = end
    }

    private func firstWanted(after revision: Int64, through end: Int64) -> ModelEvent? {
      var next = revision + 1
      while next <= min(end, timeline.revision) {
        if let event = timeline.events(at: next).first(where: { watch.wants($0) }) { return event }
        next += 1
      }
      return nil
    }

    private mutating func take(_ events: [ModelEvent]) throws(BrokenGuarantee) {
      var rest = events[...]
      while let first = rest.first {
        // All events of one revision, which must be all that are wanted of it.
        let revision = first.revision
        let group = rest.prefix { $0.revision == revision }
        rest = rest.dropFirst(group.count)
        for event in group { try checkWanted(event) }
        let seen = Set(group.map(\.record.key))
        if seen.count != group.count { throw broken(.unique, "\(group.last!) came twice") }
        if revision <= bookmarked {
          throw broken(
            .bookmarkable, "\(first) came after progress had been told up to \(bookmarked)")
        }
        guard let through, revision > through else {
          let again = timeline.events(at: revision).contains { same($0, first) }
          throw again && hasEvents
            ? broken(.unique, "\(first) came again, or late, behind \(self.through ?? 0)")
            : broken(.ordered, "\(first) came behind \(self.through ?? 0)")
        }
        let wanted = timeline.events(at: revision).filter { watch.wants($0) }
        for event in group { try checkContent(event, among: wanted) }
        if group.count < wanted.count {
          throw broken(
            .atomic, "\(group.count) of \(wanted.count) events of revision \(revision) came at once")
        }
        // What was skipped on the way here.
        try expectNothingMissing(through: revision - 1, hasEvents ? .reliable : .resumable)
        self.through = revision
        hasEvents = true
      }
    }

    private func checkWanted(_ event: ModelEvent) throws(BrokenGuarantee) {
      guard watch.wants(event) else { throw broken(.filter, "\(event) was not asked for") }
      if !watch.wantsPrevious, event.previous != nil {
        throw broken(.prevKV, "\(event) carries a previous record that was not asked for")
      }
    }

    private func checkContent(
      _ event: ModelEvent, among wanted: [ModelEvent]
    ) throws(BrokenGuarantee) {
      guard let truth = wanted.first(where: { same($0, event) }) else {
        throw broken(.reliable, "\(event) came, but never happened")
      }
      guard watch.wantsPrevious, event.previous != truth.previous else { return }
      if event.previous == nil, event.revision <= compacted { return }
      throw broken(
        .prevKV,
        "\(event) came with previous \(event.previous.map { "\($0)" } ?? "none"), but there was "
          + (truth.previous.map { "\($0)" } ?? "none"))
    }

    private func same(_ left: ModelEvent, _ right: ModelEvent) -> Bool {
      left.isDelete == right.isDelete
        && (left.isDelete
          ? left.record.key == right.record.key && left.revision == right.revision
          : left.record == right.record)
    }

    private func broken(_ guarantee: WatchGuarantee, _ what: String) -> BrokenGuarantee {
      BrokenGuarantee(guarantee.rawValue, "\(what) (watch of \(watch))")
    }
  }
}
