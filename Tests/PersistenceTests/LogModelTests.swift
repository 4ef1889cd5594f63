import Persistence
import Primitives
import Raft
import SimulatedStorage
import Testing

/// The log against a naive array, over thousands of random histories with crashes at any operation.
@Suite struct LogModelTests {
  /// What the log should hold.
  struct Model: Equatable {
    /// The entry before the first.
    var base = LogIndex.zero
    var entries: [Entry] = []
    var hardState = HardState()
    var last: LogIndex { base + UInt64(entries.count) }

    func entry(_ index: LogIndex) -> Entry? {
      index > base && index <= last ? entries[Int(index - base) - 1] : nil
    }

    mutating func append(_ new: [Entry], _ hardState: HardState?) {
      if let first = new.first {
        entries.removeLast(Int(last - first.index.previous))
        entries += new
      }
      if let hardState { self.hardState = hardState }
    }
  }

  /// A history: the log, and the states that it may be found in.
  struct History {
    var random: RandomSource
    let disk: SimulatedDisk
    var harness: LogHarness
    /// After the last batch that was acknowledged.
    var kept = Model()
    /// After each batch that was handed out since.
    var coming: [(model: Model, job: DiskJob)] = []
    /// The snapshot's position; nothing at or before it is ever replaced.
    var snapshot = (index: LogIndex.zero, term: Term.zero)
    var term: UInt64 = 1

    init(seed: UInt64) throws {
      random = RandomSource(seed: seed)
      disk = SimulatedDisk(seed: random.next())
      harness = try LogHarness(
        disk: disk,
        settings: LogSettings(
          segmentBytes: 2048, preparedSegments: 2, maximumSpareSegments: 3,
          compressionThreshold: random.oneIn(2) ? 600 : nil))
    }

    var latest: Model { coming.last?.model ?? kept }

    mutating func run(steps: Int) throws {
      for _ in 0..<steps {
        switch random.below(20) {
        case 0..<8: append()
        case 8..<13: try performOne()
        case 13: try maintain()
        case 14: try takeSnapshot()
        case 15, 16: try read()
        case 17: try installSnapshot()
        case 18: try crash(power: true)
        default: try crash(power: random.oneIn(2))
        }
      }
      try crash(power: true)
    }

    mutating func append() {
      var model = latest
      var entries: [Entry] = []
      var first = model.last.next
      if random.oneIn(5), model.last > snapshot.index {
        // A new leader replaces the tail.
        term += 1
        first = snapshot.index + 1 + random.below(model.last - snapshot.index)
      }
      if random.oneIn(6) { term += 1 }
      let count = random.oneIn(8) ? 0 : 1 + random.below(4)
      for step in 0..<count {
        let size = random.oneIn(20) ? 4000 : random.below(400)
        let isNoise = random.oneIn(2)
        let payload = (0..<size).map { place in
          isNoise ? UInt8(truncatingIfNeeded: random.next()) : UInt8(truncatingIfNeeded: place / 9)
        }
        entries.append(
          Entry(
            index: first + step, term: Term(term), kind: random.oneIn(9) ? .membership : .normal,
            payload: payload))
      }
      var hardState: HardState?
      if random.oneIn(3) {
        let last = entries.last?.index ?? model.last
        let commit = snapshot.index + random.below(last - snapshot.index + 1)
        hardState = HardState(
          term: Term(term), vote: random.oneIn(2) ? NodeID(random.next()) : nil, commit: commit)
      }
      model.append(entries, hardState)
      let job = harness.log.append(hardState: hardState, entries: entries)
      coming.append((model, job))
    }

    mutating func performOne() throws {
      guard let next = coming.first else { return }
      try harness.log.completed(next.job.perform(on: disk))
      kept = next.model
      coming.removeFirst()
    }

    mutating func maintain() throws {
      while let job = harness.log.takeMaintenance() {
        try harness.log.completed(job.perform(on: disk))
      }
    }

    mutating func takeSnapshot() throws {
      // What is committed is durable here and never replaced: in this model, up to a durable index that
      // no batch on its way replaces.
      let top = harness.log.durableIndex
      guard top > snapshot.index, let entry = kept.entry(top),
        coming.allSatisfy({ $0.model.entry(top) == entry })
      else { return }
      snapshot = (top, entry.term)
      let keep = random.below(5)
      harness.log.release(through: LogIndex(top.rawValue > keep ? top.rawValue - keep : 0))
    }

    mutating func installSnapshot() throws {
      guard random.oneIn(4) else { return }
      term += 1
      var model = Model()
      model.base = latest.last + random.below(50)
      model.hardState = HardState(term: Term(term), vote: nil, commit: model.base)
      // The snapshot is durable first; the log hears of it later.
      snapshot = (model.base, Term(term))
      if random.oneIn(3) {
        try crash(power: random.oneIn(2))
        return
      }
      let job = harness.log.restart(
        after: model.base, term: Term(term), hardState: model.hardState)
      coming.append((model, job))
    }

    mutating func read() throws {
      let first = harness.log.firstIndex
      let top = harness.log.durableIndex
      guard first <= top else { return }
      let from = first + random.below(top - first + 1)
      let through = from + random.below(20)
      let found = try harness.read(from...through, maxBytes: Int(random.below(3000)))
      #expect(!found.isEmpty)
      // Durable entries are the latest state's, as far as that reaches back.
      for (step, entry) in found.enumerated() {
        #expect(entry.index == from + UInt64(step))
        if let expected = latest.entry(entry.index) { #expect(entry == expected) }
      }
    }

    /// Stops at a random operation of the work on its way, then starts again.
    mutating func crash(power: Bool) throws {
      if random.oneIn(2), let next = coming.first {
        disk.failPower(after: Int(random.below(4)) + 1)
        _ = next.job.perform(on: disk)
        if random.oneIn(3), let job = harness.log.takeMaintenance() { _ = job.perform(on: disk) }
        disk.failPower(after: nil)
      }
      if power { disk.crash() } else { disk.killProcess() }
      // A crash in recovery changes nothing.
      while random.oneIn(4) {
        disk.failPower(after: Int(random.below(30)) + 1)
        _ = try? LogHarness(
          disk: disk, settings: harness.settings, snapshotIndex: snapshot.index,
          snapshotTerm: snapshot.term)
        disk.crash()
      }
      harness = try LogHarness(
        disk: disk, settings: harness.settings, snapshotIndex: snapshot.index,
        snapshotTerm: snapshot.term)
      try adopt()
    }

    /// Finds the state that was recovered among those possible.
    mutating func adopt() throws {
      let found = harness.recovered
      var candidates = [kept]
      // One batch at most was on its way to the disk.
      if let next = coming.first { candidates.append(next.model) }
      let match = candidates.first { model in
        let (entries, last) = expectation(model)
        let isSame =
          model.hardState.term == found.hardState.term
          && model.hardState.vote == found.hardState.vote
        return entries == found.entries && last == found.lastIndex && isSame
      }
      guard var model = match else {
        throw Mismatch(
          text: "recovered \(found.firstIndex)...\(found.lastIndex), \(found.hardState); "
            + "possible: \(candidates.map { "\($0.base)+\($0.entries.count) \($0.hardState)" }), "
            + "snapshot \(snapshot)")
      }
      if expectation(model).last != model.last
        || model.entry(snapshot.index).map({ $0.term != snapshot.term }) ?? false
      {
        model.entries = []
        model.base = snapshot.index
      }
      kept = model
      coming = []
    }

    /// What recovery must find of `model`, given the snapshot.
    func expectation(_ model: Model) -> (entries: [Entry], last: LogIndex) {
      let isOvertaken =
        model.last < snapshot.index
        || model.entry(snapshot.index).map { $0.term != snapshot.term } ?? false
      if isOvertaken { return ([], snapshot.index) }
      return (model.entries.filter { $0.index > snapshot.index }, model.last)
    }
  }

  struct Mismatch: Error { var text: String }

  @Test(arguments: 0..<8) func theLogIsANaiveArrayThatSurvives(block: Int) throws {
    let seeds = UInt64(block) * 250..<UInt64(block + 1) * 250
    for seed in seeds {
      do {
        var history = try History(seed: seed)
        try history.run(steps: 60)
      } catch {
        Issue.record("seed \(seed): \(error)")
        return
      }
    }
  }
}
