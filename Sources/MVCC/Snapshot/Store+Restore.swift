import EtcdWire
import Primitives

// What `StoreRestorer` does to the store it builds: the effects of commands without their checks
// and without the state hash, which comes with the snapshot.

extension Store {
  func restoreLease(id: Int64, granted: Int64, remaining: Int64) {
    let word = LeaseEntry.word(of: id)
    let entry = arena.makeLease(id: id, granted: granted, remaining: remaining)
    var cursor = root.leases.descend(to: TreeKey(word: word)).0
    root.leases.insert(at: &cursor, entry.address, key: TreeKey(word: word), arena)
  }

  func restoreRecord(_ keyValue: KeyValue, isEvent: Bool) {
    let record = Record.make(
      key: keyValue.key, createRevision: keyValue.createRevision,
      modRevision: keyValue.modRevision, version: keyValue.version, lease: keyValue.lease,
      value: keyValue.value)
    arena.adopt(record)
    makeLive(record)
    #if PLANTED_BUGS
      if PlantedBug.restoreWithoutLeaseKeys.isPlanted, record.lease != 0 {
        detach(record, from: record.lease)
      }
    #endif
    if isEvent { appendEvent(record) }
  }

  func restoreTombstone(_ key: UnsafeRawBufferPointer, modRevision: Int64) {
    let tombstone = Record.makeTombstone(key: key, modRevision: modRevision)
    arena.adopt(tombstone)
    if let existing = root.liveRecord(key) {
      let lease = existing.lease
      if lease != 0 { detach(existing, from: lease) }
      endLife(of: existing, at: modRevision)
    }
    insertIntoHistory(tombstone)
    appendEvent(tombstone)
  }
}
