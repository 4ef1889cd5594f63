import EtcdWire
import Primitives
import Testing

@testable import MVCC

/// What a store takes while it is full, and that compaction gives the memory back.
@Suite struct RefusalTests {
  private func apply(_ store: Store, _ kind: CommandKind, _ body: [UInt8]) -> CommandResult.Body {
    var payload: [UInt8] = []
    CommandBatch.Header(count: 1, proposer: NodeID(1), firstSequence: 1).append(to: &payload)
    if kind == .leaseGrant {
      body.withUnsafeBytes {
        CommandBatch.appendLeaseGrant(id: LeaseID(7), minimumSeconds: 1, body: $0, to: &payload)
      }
    } else {
      body.withUnsafeBytes { CommandBatch.append(kind, body: $0, to: &payload) }
    }
    let applied = store.apply(
      payload, at: store.appliedIndex.next, term: Term(1), wantsResults: true)
    return applied.results[0].body
  }

  private func put(_ key: String, _ value: String) -> [UInt8] {
    var bytes: [UInt8] = []
    for (field, text) in [(1, key), (2, value)] {
      bytes.append(UInt8(field << 3 | 2))
      bytes.append(varint: UInt64(text.utf8.count))
      bytes.append(contentsOf: text.utf8)
    }
    return bytes
  }

  private func message(_ field: Int, _ content: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = [UInt8(field << 3 | 2)]
    bytes.append(varint: UInt64(content.count))
    return bytes + content
  }

  private func error(_ body: CommandResult.Body) -> ApplyError? {
    if case .error(let error) = body { error } else { nil }
  }

  @Test func aFullStoreTakesOnlyWhatMakesRoom() {
    let store = Store()
    _ = apply(store, .put, put("a", "1"))
    store.refusals = .growth
    let putOperation = message(2, put("b", "1"))
    let deleteOperation = message(3, message(1, Array("a".utf8)))
    #expect(error(apply(store, .put, put("b", "1"))) == .noSpace)
    #expect(error(apply(store, .leaseGrant, [0x08, 60])) == .noSpace)
    // A put counts wherever it stands: in either branch, however nested.
    #expect(error(apply(store, .txn, message(2, putOperation))) == .noSpace)
    #expect(error(apply(store, .txn, message(3, putOperation))) == .noSpace)
    #expect(
      error(apply(store, .txn, message(2, message(4, message(3, putOperation))))) == .noSpace)
    #expect(store.revision == Revision(2))
    #expect(error(apply(store, .txn, message(2, deleteOperation))) == nil)
    #expect(error(apply(store, .compact, [0x08, 3])) == nil)
    #expect(store.revision == Revision(3))
    store.refusals = .everything
    #expect(error(apply(store, .deleteRange, message(1, Array("a".utf8)))) == .corrupt)
  }

  /// Even if nothing is published after the last slice but views that show the same.
  @Test func compactionGivesMemoryBackOnceNobodyLooks() {
    let store = Store()
    for _ in 0..<10 {
      _ = apply(store, .put, put("a", String(repeating: "x", count: 100_000)))
      _ = store.publish()
    }
    _ = apply(store, .deleteRange, message(1, Array("a".utf8)))
    var view = store.publish()
    #expect(store.allocatedBytes > 1_000_000)
    _ = apply(store, .compact, [0x08, UInt8(store.revision.rawValue)])
    for _ in 0..<5 {
      while store.runMaintenance(budget: 100) {}
      view = store.publish()
    }
    #expect(view.keyCount == 0 && store.allocatedBytes < 100_000)
    store.validate()
  }
}
