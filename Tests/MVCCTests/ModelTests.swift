import EtcdWire
import Foundation
import Primitives
import Testing

@testable import MVCC

/// The store against the model, over random commands, with views held, compaction in slices of all
/// sizes, and members that come by way of a snapshot.
@Suite struct ModelTests {
  /// `MVCC_SEEDS=from..<to` in the environment runs others, or more.
  static let seeds: Range<Int> = {
    let text = ProcessInfo.processInfo.environment["MVCC_SEEDS"] ?? ""
    let bounds = text.split(separator: "..<").compactMap { Int($0) }
    return bounds.count == 2 && bounds[0] <= bounds[1] ? bounds[0]..<bounds[1] : 0..<30
  }()

  @Test("The store answers as the model does, and two members agree whatever their maintenance")
  func storeAgainstModel() throws {
    for seed in ModelTests.seeds {
      var run = ModelRun(seed: UInt64(seed))
      try run.run(steps: 120)
    }
  }

  @Test("Long histories")
  func longHistories() throws {
    for seed in ModelTests.seeds.prefix(1) {
      var run = ModelRun(seed: UInt64(seed) + 1_000_000)
      try run.run(steps: 600)
    }
  }
}

struct Mismatch: Error {
  var message: String
}

struct ModelRun {
  let seed: UInt64
  var source: OperationSource
  var model = Model()
  /// The member that answers, with maintenance now and then.
  var store = Store()
  /// One that maintains at other times, in slices of one, and never answers.
  var other = Store()
  var index = LogIndex.zero
  var step = 0
  /// Views that readers hold, and what they must go on showing.
  var held: [(view: StoreView, model: Model)] = []
  /// What was matched for a watcher of everything, and the revision at which it began.
  var registry = WatchRegistry()
  var matched: [String] = []

  init(seed: UInt64) {
    self.seed = seed
    source = OperationSource(seed: seed)
    _ = registry.register(
      WatchRange(key: [0], rangeEnd: [0]), filter: [], wantsPrevious: true)
  }

  mutating func run(steps: Int) throws {
    for step in 0..<steps {
      self.step = step
      try perform()
      if source.random.oneIn(3) { try read() }
      if source.random.oneIn(10) { _ = store.runMaintenance(budget: Int(source.random.below(20))) }
      if source.random.oneIn(4) { other.runMaintenance(budget: 1) }
      if source.random.oneIn(15) { held.append((store.publish(), model)) }
      if !held.isEmpty, source.random.oneIn(20) {
        let place = Int(source.random.below(UInt64(held.count)))
        try check(held[place].view, held[place].model)
        held.remove(at: place)
      }
      if source.random.oneIn(60) { try passThroughSnapshot() }
    }
    for (view, model) in held { try check(view, model) }
    held = []
    try checkEnd()
  }

  private func expect(
    _ actual: @autoclosure () throws -> String, _ expected: @autoclosure () throws -> String,
    _ what: String
  ) throws {
    let (actual, expected) = (try actual(), try expected())
    if actual != expected {
      throw Mismatch(
        message: "seed \(seed), step \(step), \(what)\nstore:\n\(actual)\nmodel:\n\(expected)")
    }
  }

  // MARK: Commands

  private mutating func apply(_ commands: [UInt8], count: UInt32 = 1) -> AppliedEntry {
    index = index.next
    let payload = batch(commands, count: count)
    let applied = store.apply(payload, at: index, term: Term(3), wantsResults: true)
    _ = other.apply(payload, at: index, term: Term(3), wantsResults: false)
    for delivery in registry.match(applied.events, in: store.publish()) {
      matched += Printer.events(delivery.events)
    }
    if source.random.oneIn(5) { _ = other.publish() }
    return applied
  }

  private mutating func apply(_ kind: CommandKind, _ body: [UInt8]) -> String {
    var commands: [UInt8] = []
    body.withUnsafeBytes { CommandBatch.append(kind, body: $0, to: &commands) }
    return Printer.result(apply(commands).results[0], kind)
  }

  private mutating func perform() throws {
    switch source.random.below(20) {
    case 0..<8:
      let put = source.put()
      try expect(
        apply(.put, put.encoded()),
        ModelRun.outcome(&model) { model throws(Model.Failure) in
          try put.check(model, isInTransaction: false)
          model.revision += 1
          return put.run(&model, at: model.revision)
        }, "\(put)")
    case 8..<10:
      let delete = source.delete()
      try expect(
        apply(.deleteRange, delete.encoded()),
        ModelRun.outcome(&model) { model throws(Model.Failure) in
          let (count, lines) = delete.run(&model, at: model.revision + 1)
          if count == 0 { return [] }
          model.revision += 1
          return lines
        }, "\(delete)")
    case 10..<15:
      let txn = source.txn(model)
      try expect(
        apply(.txn, txn.encoded()),
        ModelRun.outcome(&model) { model throws(Model.Failure) in
          let plan = txn.plan(model)
          try txn.check(plan, model)
          var changed = false
          let lines = try txn.run(plan, &model, at: model.revision + 1, &changed)
          if changed { model.revision += 1 }
          return lines
        }, "\(txn)")
    case 15:
      var request = CompactionRequest()
      request.revision = source.revision(model)
      try expect(
        apply(.compact, request.encoded()),
        ModelRun.outcome(&model) { model throws(Model.Failure) in
          try model.compact(request.revision)
          return []
        }, "compact \(request.revision)")
    case 16, 17:
      let id = Int64(source.random.below(6))
      let seconds = Int64(source.random.below(100))
      var request = LeaseGrantRequest()
      request.timeToLive = seconds
      var commands: [UInt8] = []
      request.encoded().withUnsafeBytes {
        CommandBatch.appendLeaseGrant(
          id: LeaseID(id), minimumSeconds: 0, body: $0, to: &commands)
      }
      try expect(
        Printer.result(apply(commands).results[0], .leaseGrant),
        ModelRun.outcome(&model) { model throws(Model.Failure) in
          try model.grant(id, seconds)
          return ["lease \(id) ttl=\(max(seconds, 1))"]
        }, "grant \(id)")
    case 18:
      var request = LeaseRevokeRequest()
      request.id = Int64(source.random.below(6))
      try expect(
        apply(.leaseRevoke, request.encoded()),
        ModelRun.outcome(&model) { model throws(Model.Failure) in
          try model.revoke(request.id)
          return []
        }, "revoke \(request.id)")
    default:
      let ids = (0..<source.random.below(4)).map { _ in Int64(source.random.below(6)) }
      let isCurrent = !source.random.oneIn(3)
      var commands: [UInt8] = []
      CommandBatch.appendLeaseExpire(
        term: Term(isCurrent ? 3 : 2), leases: ids.map { LeaseID($0) }, to: &commands)
      let remaining = Int64(source.random.below(100)) - 10
      CommandBatch.appendLeaseCheckpoint([(LeaseID(2), remaining)], to: &commands)
      _ = apply(commands, count: 2)
      if isCurrent { for id in ids { try? model.revoke(id) } }
      if let lease = model.leases[2] {
        model.leases[2]?.remaining = min(max(remaining, 0), lease.granted)
      }
    }
    try expect("\(store.revision)", "\(model.revision)", "revision")
  }

  private static func outcome(
    _ model: inout Model, _ body: (inout Model) throws(Model.Failure) -> [String]
  ) -> String {
    do throws(Model.Failure) {
      let lines = try body(&model)
      return (["revision \(model.revision)"] + lines).joined(separator: "\n")
    } catch { return "error: \(error)" }
  }

  // MARK: Reading

  private mutating func read() throws { try read(store.publish(), model) }

  private mutating func read(_ view: StoreView, _ model: Model) throws {
    let range = source.range(model)
    let expected: String
    do throws(Model.Failure) {
      expected = try range.lines(model, current: model.revision).joined(separator: "\n")
    } catch { expected = "error: \(error)" }
    try expect(ModelRun.range(view, range), expected, "\(range)")
    if source.random.oneIn(4) { try readEvents(view, model) }
    if source.random.oneIn(6) { try readPages(view, model) }
    if source.random.oneIn(6) {
      let leases = view.leases().map {
        "\($0.id.rawValue) \($0.granted) \($0.remaining) \(view.keys(of: $0.id))"
      }
      let expected = model.leases.sorted { $0.key < $1.key }.map {
        "\($0.key) \($0.value.granted) \($0.value.remaining) \(model.keys(of: $0.key))"
      }
      try expect("\(leases)", "\(expected)", "leases")
    }
  }

  private static func range(_ view: StoreView, _ range: RangeOperation) -> String {
    range.encoded().withUnsafeBytes { bytes in
      guard let request = try? RangeRequest(bytes) else { return "malformed" }
      var output: [UInt8] = []
      do throws(ApplyError) {
        try view.range(request, into: &output)
        return Printer.range(output)
      } catch { return "error: \(error)" }
    }
  }

  private mutating func readPages(_ view: StoreView, _ model: Model) throws {
    var range = RangeOperation()
    range.key = source.key()
    range.end = source.end()
    range.limit = source.random.oneIn(2) ? Int64(source.random.below(6)) : 0
    range.revision = max(source.revision(model), model.compactRevision)
    range.revision = min(range.revision, model.revision)
    let expected = try range.lines(model, current: model.revision)
    var lines: [String] = []
    try range.encoded().withUnsafeBytes { bytes in
      var pager = try view.pager(try RangeRequest(bytes))
      let byteLimit = Int(source.random.below(300))
      var hasMore = true
      while hasMore {
        var piece: [UInt8] = []
        hasMore = pager.next(byteLimit: byteLimit, into: &piece)
        var printed = Printer.range(piece).split(separator: "\n").map(String.init)
        // Only the last piece has a count; the others print as zero.
        if hasMore, printed.last == "count 0" { printed.removeLast() }
        lines += printed
      }
    }
    try expect(lines.joined(separator: "\n"), expected.joined(separator: "\n"), "paged \(range)")
  }

  private mutating func readEvents(_ view: StoreView, _ model: Model) throws {
    let start = source.revision(model)
    let key = source.key()
    let end = source.end()
    let wantsPrevious = source.random.oneIn(2)
    var lines: [String] = []
    var from = Revision(max(start, 1))
    do {
      while from <= view.revision {
        let run = try view.events(
          from: from, through: view.revision, in: WatchRange(key: key, rangeEnd: end),
          filter: source.random.oneIn(1) ? [] : .noPut, wantsPrevious: wantsPrevious,
          byteLimit: Int(source.random.below(2000)), eventLimit: Int(source.random.below(50)))
        lines += Printer.events(run)
        from = run.through.next
      }
    } catch {
      lines = ["error: \(error)"]
    }
    let expected: [String]
    if max(start, 1) < model.compactRevision, max(start, 1) <= model.revision {
      expected = ["error: compacted"]
    } else {
      expected = ModelRun.events(model, from: max(start, 1), wantsPrevious: wantsPrevious) {
        Model.isIn($0, key, end)
      }
    }
    try expect(
      lines.joined(separator: "\n"), expected.joined(separator: "\n"), "events from \(start)")
  }

  private static func events(
    _ model: Model, from start: Int64, wantsPrevious: Bool, _ isIn: ([UInt8]) -> Bool
  ) -> [String] {
    model.events(from: start).filter { isIn($0.change.key) }.map { change, previous in
      var line = (change.isTombstone ? "DELETE " : "PUT ") + change.line()
      if wantsPrevious, let previous, change.mod > model.compactRevision {
        line += " (was \(previous.line()))"
      }
      return line
    }
  }

  /// A view goes on showing what it showed, however the store has changed since.
  private mutating func check(_ view: StoreView, _ model: Model) throws {
    try expect("\(view.revision)", "\(model.revision)", "held view's revision")
    var everything = RangeOperation()
    everything.key = [0]
    everything.end = [0]
    for revision in Set([0, max(model.compactRevision, 1), model.revision]) {
      everything.revision = revision
      try expect(
        ModelRun.range(view, everything),
        try everything.lines(model, current: model.revision).joined(separator: "\n"),
        "held view at \(revision)")
    }
    for _ in 0..<3 { try read(view, model) }
  }

  // MARK: Members

  private mutating func passThroughSnapshot() throws {
    let view = store.publish()
    let chunks = snapshot(view)
    let restored = try restore(chunks)
    restored.validate()
    try expect("\(restored.stateHash)", "\(store.stateHash)", "restored state hash")
    // A snapshot depends on the logical state alone.
    if snapshot(other.publish()) != chunks {
      throw Mismatch(message: "seed \(seed), step \(step): members' snapshots differ")
    }
    if snapshot(restored.publish()) != chunks {
      throw Mismatch(message: "seed \(seed), step \(step): a restored snapshot differs")
    }
    store = restored
  }

  private mutating func checkEnd() throws {
    store.validate()
    other.validate()
    try expect("\(store.stateHash)", "\(other.stateHash)", "state hash")
    try expect(
      "\(try store.publish().keysHash(at: .zero))", "\(try other.publish().keysHash(at: .zero))",
      "keys hash")
    // What the watcher of everything got is every change, once, in order.
    let expected = model.events(from: 0).map { change, previous in
      var line = (change.isTombstone ? "DELETE " : "PUT ") + change.line()
      if let previous { line += " (was \(previous.line()))" }
      return line
    }
    let withoutPrevious = { (line: String) in line.split(separator: " (was ")[0] }
    try expect(
      matched.map(withoutPrevious).joined(separator: "\n"),
      expected.map(withoutPrevious).joined(separator: "\n"), "matched events")

    // All maintenance done, only what is logically there is left.
    for store in [store, other] {
      _ = store.publish()
      while store.runMaintenance(budget: 7) {}
      store.validate()
      if !store.isCompactionFinished {
        throw Mismatch(message: "seed \(seed): compaction didn't finish")
      }
    }
    try expect("\(other.recordCount)", "\(store.recordCount)", "records after maintenance")
  }
}

extension Store {
  /// Records in memory that the newest state refers to.
  fileprivate var recordCount: Int { root.live.count + root.history.count }
}
