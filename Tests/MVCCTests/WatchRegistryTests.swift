import EtcdWire
import Primitives
import Testing

@testable import MVCC

@Suite struct WatchRegistryTests {
  @Test("The interval index finds what looking at every range finds", arguments: 0..<10)
  func intervals(seed: Int) {
    var source = OperationSource(seed: UInt64(seed))
    var index = IntervalIndex()
    var model: [Int: WatchRange] = [:]
    for id in 0..<600 {
      if source.random.oneIn(3), let victim = model.keys.min() {
        if let range = model.removeValue(forKey: victim),
          let bounds = IntervalIndex.Bounds(range)
        {
          index.remove(bounds, victim)
        }
      } else {
        let range = WatchRange(key: source.key(), rangeEnd: source.end())
        model[id] = range
        if let bounds = IntervalIndex.Bounds(range) { index.insert(bounds, id) }
      }
      let key = source.key()
      var found: [Int] = []
      key.withUnsafeBytes { key in
        index.forEachGroup(containing: key) { found.append($0) }
      }
      let expected = model.filter { Model.isIn(key, $0.value.key, $0.value.rangeEnd) }.keys
      #expect(found.sorted() == expected.sorted())
    }
  }

  @Test("Watchers of equal wishes share one delivery and one encoding")
  func sharing() {
    let store = Store()
    var registry = WatchRegistry()
    let range = WatchRange(key: Array("key-".utf8), rangeEnd: Array("key.".utf8))
    let first = registry.register(range, filter: [], wantsPrevious: false)
    let second = registry.register(range, filter: [], wantsPrevious: false)
    let third = registry.register(range, filter: .noDelete, wantsPrevious: false)
    let applied = store.apply(
      batch(ViewTests.put(1, 1) + ViewTests.put(2, 2), count: 2), at: LogIndex(1), term: Term(1),
      wantsResults: false)
    let view = store.publish()
    let deliveries = registry.match(applied.events, in: view)
    #expect(deliveries.map(\.watchers) == [[first, second], [third]])
    #expect(deliveries.allSatisfy { $0.events.count == 2 })
    let addresses = Set(
      deliveries.map { delivery in
        delivery.events.bytes.withUnsafeBytes { UInt(bitPattern: $0.baseAddress) }
      })
    #expect(addresses.count == 1)

    let cancelled = [registry.cancel(first), registry.cancel(first)]
    #expect(cancelled == [true, false])
    let rest = registry.match(applied.events, in: view)
    #expect(rest.map(\.watchers) == [[second], [third]])
    registry.cancel(second)
    registry.cancel(third)
    let none = registry.match(applied.events, in: view)
    #expect(none.isEmpty)
  }
}
