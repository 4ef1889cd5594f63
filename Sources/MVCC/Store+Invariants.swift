import EtcdWire
import Primitives

extension Store {
  /// Checks everything that must hold between the trees. O(n log n); for tests.
  public func validate() {
    root.live.validate()
    root.history.validate()
    root.events.validate()
    root.leases.validate()
    invariant(root.revision >= 1, "a store below revision 1")
    invariant(root.compactRevision <= root.revision, "a store compacted ahead of itself")

    var attached = 0
    root.live.forEachElement { element in
      let record = Record(address: element)
      invariant(!record.isTombstone && !record.isTransient, "a superseded record is live")
      invariant(record.modRevision <= root.revision, "a record from the future")
      let lease = record.lease
      if lease != 0 {
        attached += 1
        let entry = root.lease(lease)
        invariant(
          entry?.keys.find(TreeKey(record.key)) == element, "a key that its lease doesn't know")
      }
      // Whatever hasn't been compacted is an event.
      if record.modRevision >= root.compactRevision {
        invariant(isEvent(record), "an uncompacted live record without its event")
      }
    }
    root.history.forEachElement { element in
      let record = Record(address: element)
      invariant(
        record.isTombstone || record.isTransient || hasSuccessor(record),
        "a superseded record without a successor")
    }
    root.leases.forEachElement { element in
      let keys = LeaseEntry(address: element).keys
      keys.validate()
      attached -= keys.count
    }
    invariant(attached == 0, "leases hold other keys than the live records say")
  }

  private func isEvent(_ record: Record) -> Bool {
    var cursor = root.events(from: record.modRevision)
    while let event = cursor.record, event.modRevision == record.modRevision {
      if event == record { return true }
      cursor.advance()
    }
    return false
  }

  private func hasSuccessor(_ record: Record) -> Bool {
    var cursor = root.history.seek(
      TreeKey(record.key, revision: record.modRevision &+ 1))
    if let next = cursor.record, next.key.hasSameBytes(as: record.key) { return true }
    cursor = root.live.seek(TreeKey(record.key))
    guard let live = cursor.record, live.key.hasSameBytes(as: record.key) else { return false }
    return live.modRevision > record.modRevision
  }
}
