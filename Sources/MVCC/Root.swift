import EtcdWire
import Primitives

/// One state of the store: four trees and two revisions. Copying it is copying six words.
///
/// The writer has one that it changes; every view has one that nobody changes. Reading is the same
/// for both, and lies in this type's extensions. A root owns nothing: a reader keeps its
/// `StoreView` alive while it reads.
struct Root {
  /// The newest record of each key that exists, by key.
  var live = Tree(order: .key)
  /// Superseded records and tombstones, by key and mod revision.
  var history = Tree(order: .version)
  /// The records of all events that have not been compacted, by mod revision.
  var events = Tree(order: .event)
  /// Lease entries, by id.
  var leases = Tree(order: .lease)

  /// The revision of the newest transaction; 1 for a new store.
  var revision: Int64 = 1
  /// The lowest revision that can be read; -1 before the first compaction.
  ///
  /// What lies below may still be in the trees: compaction is logical at once and physical in
  /// slices.
  var compactRevision: Int64 = -1
}

extension Root {
  /// Whether two roots are the very same state: the same nodes, not only equal contents.
  func isSame(as other: Root) -> Bool {
    live.root == other.live.root && history.root == other.history.root
      && events.root == other.events.root && leases.root == other.leases.root
      && revision == other.revision && compactRevision == other.compactRevision
  }

  /// The live record of a key.
  @inline(__always)
  func liveRecord(_ key: UnsafeRawBufferPointer) -> Record? {
    live.find(TreeKey(key)).map { Record(address: $0) }
  }

  /// The record that a revision shows for a key.
  func record(_ key: UnsafeRawBufferPointer, at revision: Int64) -> Record? {
    if let record = liveRecord(key), record.modRevision <= revision { return record }
    // Of the superseded versions the last one at or below the revision; a tombstone shows nothing.
    guard let record = lastSuperseded(key, below: revision &+ 1) else { return nil }
    return record.isTombstone ? nil : record
  }

  /// The newest record of a key in the history whose mod revision is below `revision`.
  func lastSuperseded(_ key: UnsafeRawBufferPointer, below revision: Int64) -> Record? {
    if history.isEmpty { return nil }
    var cursor = history.descend(to: TreeKey(key, revision: revision)).0
    guard cursor.retreat(), let record = cursor.record, record.key.hasSameBytes(as: key) else {
      return nil
    }
    return record
  }

  /// The lease entry with an id.
  func lease(_ id: Int64) -> LeaseEntry? {
    leases.find(TreeKey(word: LeaseEntry.word(of: id))).map { LeaseEntry(address: $0) }
  }

  /// The first event at or above a revision.
  func events(from revision: Int64) -> TreeCursor {
    events.seek(TreeKey(word: UInt64(bitPattern: max(revision, 0))))
  }
}
