import EtcdWire
import Foundation
import Primitives
import Testing

@testable import MVCC

/// Views under a writer that goes on, and the memory behind them.
@Suite struct ViewTests {
  static func put(_ key: Int, _ value: Int) -> [UInt8] {
    var commands: [UInt8] = []
    PutOperation(key: Array("key-\(key)".utf8), value: Array("\(value)".utf8)).encoded()
      .withUnsafeBytes { CommandBatch.append(.put, body: $0, to: &commands) }
    return commands
  }

  static func delete(_ key: Int) -> [UInt8] {
    var commands: [UInt8] = []
    DeleteOperation(key: Array("key-\(key)".utf8), end: []).encoded()
      .withUnsafeBytes { CommandBatch.append(.deleteRange, body: $0, to: &commands) }
    return commands
  }

  static func compact(_ revision: Int64) -> [UInt8] {
    var commands: [UInt8] = []
    var request = CompactionRequest()
    request.revision = revision
    request.encoded().withUnsafeBytes { CommandBatch.append(.compact, body: $0, to: &commands) }
    return commands
  }

  /// A view handed between threads.
  private final class Shared: @unchecked Sendable {
    private let lock = NSLock()
    private var stored: StoreView
    private var ended = false
    init(_ view: StoreView) { stored = view }
    var view: StoreView {
      get { lock.withLock { stored } }
      set { lock.withLock { stored = newValue } }
    }
    var hasEnded: Bool {
      get { lock.withLock { ended } }
      set { lock.withLock { ended = newValue } }
    }
  }

  /// Every key's value is one number, written to all keys by one batch: a reader that sees two
  /// numbers, or another number of keys than before, has read a state that never was.
  @Test("Readers on other threads see whole batches, while the writer changes, compacts and frees")
  func concurrentReaders() async {
    let store = Store()
    let keys = 300
    func write(_ round: Int) -> StoreView {
      var commands: [UInt8] = []
      var count = 0
      for key in 0..<keys {
        // Some rounds delete and put again, so that nodes merge and split.
        if (key + round) % 7 == 0 {
          commands += ViewTests.delete(key)
          count += 1
        }
        commands += ViewTests.put(key, round)
        count += 1
      }
      if round % 5 == 4 {
        commands += ViewTests.compact(store.revision.rawValue - 200)
        count += 1
      }
      _ = store.apply(
        batch(commands, count: UInt32(count)), at: LogIndex(UInt64(round + 1)), term: Term(1),
        wantsResults: false)
      let view = store.publish()
      store.runMaintenance(budget: 500)
      return view
    }
    let shared = Shared(write(0))
    await withTaskGroup(of: String?.self) { group in
      for reader in 0..<3 {
        group.addTask {
          var random = RandomSource(seed: UInt64(reader))
          var old = shared.view
          while !shared.hasEnded {
            if random.oneIn(3) { old = shared.view }
            let view = random.oneIn(2) ? old : shared.view
            if let problem = ViewTests.inconsistency(view, keys, &random) {
              shared.hasEnded = true
              return problem
            }
          }
          return nil
        }
      }
      for round in 1..<150 where !shared.hasEnded { shared.view = write(round) }
      shared.hasEnded = true
      for await problem in group { #expect(problem == nil) }
    }
    store.validate()
  }

  private static func inconsistency(
    _ view: StoreView, _ keys: Int, _ random: inout RandomSource
  ) -> String? {
    var range = RangeOperation()
    range.key = [0]
    range.end = [0]
    if random.oneIn(4) { range.revision = max(view.compactRevision.rawValue, 1) }
    return range.encoded().withUnsafeBytes { bytes -> String? in
      guard let request = try? RangeRequest(bytes) else { return "malformed" }
      var output: [UInt8] = []
      do throws(ApplyError) { try view.range(request, into: &output) } catch {
        return "error \(error)"
      }
      return output.withUnsafeBytes { output in
        guard let response = try? RangeResponse(output) else { return "malformed response" }
        if range.revision != 0 { return nil }
        let values = Set(response.keyValues.map { [UInt8]($0.value) })
        if values.count != 1 { return "\(values.count) values at \(view.revision)" }
        return response.count == Int64(keys) ? nil : "\(response.count) keys"
      }
    }
  }

  @Test("What no view shows any more is freed, and nothing else")
  func memory() {
    let store = Store()
    var index = LogIndex.zero
    func apply(_ commands: [UInt8], _ count: Int) {
      index = index.next
      _ = store.apply(
        batch(commands, count: UInt32(count)), at: index, term: Term(1), wantsResults: false)
    }
    apply((0..<2000).flatMap { ViewTests.put($0, 0) }, 2000)
    var old: StoreView? = store.publish()
    let before = store.allocatedBytes
    for round in 1...10 {
      apply((0..<2000).flatMap { ViewTests.put($0, round) }, 2000)
      _ = store.publish()
    }
    apply(ViewTests.compact(store.revision.rawValue), 1)
    _ = store.publish()
    while store.runMaintenance(budget: 100) {}
    // The newest view shows what has just been compacted; the next one lets go of it.
    _ = store.publish()
    while store.runMaintenance(budget: 100) {}
    // The old view's records and nodes are still there, and what came between is gone.
    #expect(store.viewCount == 2)
    #expect(store.allocatedBytes > before * 3 / 2)
    #expect(store.allocatedBytes < before * 3)
    #expect(old?.keyCount == 2000)
    old = nil
    apply([], 0)
    _ = store.publish()
    while store.runMaintenance(budget: 100) {}
    // The events of a compacted store are few; the rest is as it was.
    #expect(store.allocatedBytes < before * 5 / 4)
    store.validate()
  }

  @Test("A view outlives its store")
  func viewOutlivesStore() throws {
    var view: StoreView
    do {
      let store = Store()
      for index in 1...50 as ClosedRange<Int> {
        _ = store.apply(
          batch(ViewTests.put(index, index), count: 1), at: LogIndex(UInt64(index)),
          term: Term(1), wantsResults: false)
        _ = store.publish()
      }
      view = store.publish()
    }
    #expect(view.keyCount == 50)
    let restored = try restore(snapshot(view))
    view = restored.publish()
    #expect(view.revision == Revision(51))
  }

  @Test("A snapshot of format 1, which knew no users, is still read")
  func snapshotWithoutUsers() throws {
    let world = ScriptWorld()
    world.perform(put: "a")
    world.perform(put: "b")
    var bytes = snapshot(world.store.publish()).flatMap { $0 }
    // Version 2's header is followed by the length of the auth section and the section.
    let length = Int(bytes[48]) | Int(bytes[49]) << 8
    bytes.removeSubrange(48..<(52 + length))
    bytes[4] = 1
    let restored = try restore([bytes])
    restored.validate()
    #expect(restored.stateHash == world.store.stateHash)
    #expect(restored.publish().auth.users.isEmpty && !restored.publish().isAuthEnabled)
  }
}

extension ScriptWorld {
  fileprivate func perform(put key: String) {
    _ = apply(.put, Words(["key=\(key)", "value=1"]).put().encoded())
  }
}
