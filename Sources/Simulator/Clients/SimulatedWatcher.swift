import EtcdWire
import MVCC
import Primitives
import Replica
import Verification

/// A client that watches: over one stream until that breaks, then over another from where it stood.
struct SimulatedWatcher {
  enum State {
    /// Waits before it connects.
    case idle
    /// Its request, with this token, is on its way or being caught up.
    case asking(UInt64)
    case standing(WatcherID)
  }

  let number: Int
  let watch: ModelWatch
  var state = State.idle
  var member = 0
  var life = 0
  /// The stream as it stands, and those that broke.
  var stream: WatchHistory?
  var broken: [WatchHistory] = []
  /// The next revision that the stream must bring.
  var next: Int64 = 0
  /// The highest compaction that the past was read through: what lies below carries no previous record.
  var compacted: Int64 = 0
}

// The server's part of a watch (catching up from a view, dropping what comes before the start) is the shell's in
// the product, so it is done here as `EtcdServer` does it, in small steps that compactions and crashes can come
// between.

extension SimulatedWorld {
  mutating func drawWatchers() {
    for number in 0..<options.watcherCount {
      let range: ModelRange =
        switch random.below(3) {
        case 0: ModelRange([0], end: [0])
        case 1: ModelRange(Array("key-\(random.below(Self.keyCount))".utf8))
        default: ModelRange(Array("key-2".utf8), end: Array("key-6".utf8))
        }
      let kinds = random.below(5)
      watchers.append(
        SimulatedWatcher(
          number: number,
          watch: ModelWatch(
            range, startRevision: Int64(random.below(3)), wantsPuts: kinds != 0,
            wantsDeletes: kinds != 1, wantsPrevious: random.oneIn(2))))
      schedule.add(.watcher(number), at: delay(1_000_000, 1_000_000_000))
    }
  }

  /// Connects a watcher that has no stream, and now and then asks one that has for its progress.
  mutating func attend(_ number: Int) throws {
    schedule.add(.watcher(number), at: delay(50_000_000, 800_000_000))
    switch watchers[number].state {
    case .asking: break
    case .standing:
      let member = watchers[number].member
      if random.oneIn(4) {
        // Clients go away, too.
        if random.oneIn(4) { return try cancelWatch(number) }
        guard let sink = members[member].running?.sink else { return }
        try pump(member) { $0.requestProgress(token: UInt64(number), sink: sink) }
      }
    case .idle:
      let candidates = members.indices.filter { members[$0].running != nil }
      guard !candidates.isEmpty else { return }
      let member = candidates[Int(random.below(UInt64(candidates.count)))]
      var watch = watchers[number].watch
      if let next = watchers[number].broken.last?.nextRevision { watch.startRevision = next }
      watchers[number].member = member
      watchers[number].life = members[member].life
      watchers[number].stream = WatchHistory(watch)
      watchers[number].next = watch.startRevision
      try ask(number)
    }
  }

  private mutating func cancelWatch(_ number: Int) throws {
    guard case .standing(let id) = watchers[number].state else { return }
    breakStream(number)
    try pump(watchers[number].member) { $0.cancelWatch(id) }
  }

  mutating func ask(_ number: Int) throws {
    let watcher = watchers[number]
    guard let stream = watcher.stream, isAlive(watcher.member, watcher.life),
      let sink = members[watcher.member].running?.sink
    else { return breakStream(number) }
    let watch = stream.watch
    var filter: WatchFilter = []
    if !watch.wantsPuts { filter.insert(.noPut) }
    if !watch.wantsDeletes { filter.insert(.noDelete) }
    let token = nextOperation
    nextOperation += 1
    watchers[number].state = .asking(token)
    let request = WatchRequest(
      range: WatchRange(key: watch.range.key, rangeEnd: watch.range.end),
      startRevision: Revision(watcher.next), filter: filter, wantsPrevious: watch.wantsPrevious)
    try pump(watcher.member) { $0.watch(request, token: token, sink: sink) }
  }

  /// The stream ends here; another begins, later, at some member.
  mutating func breakStream(_ number: Int) {
    if let stream = watchers[number].stream {
      report.watchStreams += 1
      watchers[number].broken.append(stream)
    }
    watchers[number].stream = nil
    watchers[number].state = .idle
  }

  mutating func breakStreams(at member: Int) {
    for number in watchers.indices
    where watchers[number].member == member && watchers[number].stream != nil {
      breakStream(number)
    }
  }

  // MARK: What members say

  mutating func receiveWatch(_ reply: Reply, from member: Int) throws {
    trace("\(name(member)) tells watchers: \(reply.outcome)")
    switch reply.outcome {
    case .events(let deliveries):
      for delivery in deliveries {
        for id in delivery.watchers { deliver(delivery.events, to: id, at: member) }
      }
    case .progress(let revision):
      let number = Int(reply.token)
      guard watchers[number].stream != nil, watchers[number].member == member,
        case .standing = watchers[number].state
      else { return }
      watchers[number].stream?.append(.progress(revision: revision.rawValue))
    case .watchesLost(let compacted):
      for number in watchers.indices where watchers[number].member == member {
        guard case .standing = watchers[number].state else { continue }
        watchers[number].stream?.append(.compacted(revision: compacted.rawValue))
        breakStream(number)
      }
    default:
      guard let number = asker(reply.token) else { return }
      switch reply.outcome {
      case .watching(let id, let after):
        note(created: after.rawValue, number)
        watchers[number].state = .standing(id)
        watchers[number].next = max(watchers[number].next, after.rawValue + 1)
      case .watchCompacted(let revision):
        note(created: revision.rawValue, number)
        watchers[number].stream?.append(.compacted(revision: revision.rawValue))
        breakStream(number)
      case .watchBehind(let view):
        note(created: view.revision.rawValue, number)
        schedule.add(
          .catchUp(watcher: number, token: reply.token, view: view), at: delay(10_000, 30_000_000))
      default: break
      }
    }
  }

  private func asker(_ token: UInt64) -> Int? {
    watchers.firstIndex {
      if case .asking(let own) = $0.state { own == token } else { false }
    }
  }

  /// The first answer of a stream tells that it stands.
  private mutating func note(created revision: Int64, _ number: Int) {
    if watchers[number].stream?.messages.isEmpty == true {
      watchers[number].stream?.append(.created(revision: revision))
    }
  }

  private mutating func deliver(_ run: EventRun, to id: WatcherID, at member: Int) {
    guard
      let number = watchers.firstIndex(where: {
        if case .standing(let own) = $0.state { own == id && $0.member == member } else { false }
      })
    else { return }
    append(run.modelEvents, to: number)
    watchers[number].next = max(watchers[number].next, run.through.rawValue + 1)
  }

  private mutating func append(_ events: [ModelEvent], to number: Int) {
    // A watch from a future revision may be handed earlier events, which its receiver drops.
    let start = watchers[number].stream?.watch.startRevision ?? 0
    let wanted = events.filter { $0.revision >= start }
    guard !wanted.isEmpty else { return }
    report.watchEvents += wanted.count
    watchers[number].stream?.append(.events(wanted))
  }

  /// Reads the past for a watcher, a piece at a time, then asks the writer again.
  mutating func catchUp(_ number: Int, token: UInt64, view: StoreView) throws {
    guard case .asking(token) = watchers[number].state, let watch = watchers[number].stream?.watch,
      isAlive(watchers[number].member, watchers[number].life)
    else { return }
    var filter: WatchFilter = []
    if !watch.wantsPuts { filter.insert(.noPut) }
    if !watch.wantsDeletes { filter.insert(.noDelete) }
    watchers[number].compacted = max(watchers[number].compacted, view.compactRevision.rawValue)
    while watchers[number].next <= view.revision.rawValue {
      do throws(ApplyError) {
        let run = try view.events(
          from: Revision(watchers[number].next), through: view.revision,
          in: WatchRange(key: watch.range.key, rangeEnd: watch.range.end), filter: filter,
          wantsPrevious: watch.wantsPrevious, byteLimit: 1 + Int(random.below(2_000)),
          eventLimit: 1 + Int(random.below(20)))
        append(run.modelEvents, to: number)
        watchers[number].next = run.through.rawValue + 1
      } catch {
        watchers[number].stream?.append(.compacted(revision: view.compactRevision.rawValue))
        return breakStream(number)
      }
    }
    try ask(number)
  }
}
