import EtcdWire
import Primitives

/// Walks through the records that one revision shows for a range, in the order of keys.
///
/// The live tree says what exists now, the history what was superseded; both are in the order of
/// keys and are walked through side by side. A key's live record is the one shown if it is old
/// enough, else the last of its superseded versions that is, unless that is a tombstone. Keys with
/// many versions are not read through: after a few steps the walk seeks.
struct RevisionWalk {
  private let root: Root
  private let revision: Int64
  private let rangeEnd: UnsafeRawBufferPointer
  private let hasEnd: Bool
  private var live: TreeCursor
  private var history: TreeCursor

  /// How many versions of a key are stepped over before seeking.
  private static let stepsBeforeSeek = 8

  /// - Parameter range: not a single key.
  init(_ root: Root, _ range: KeyRange, at revision: Int64) {
    self.root = root
    self.revision = revision
    rangeEnd = range.rangeEnd
    hasEnd = !range.isUnbounded
    live = root.live.seek(TreeKey(range.key))
    history = root.history.seek(TreeKey(range.key, revision: 0))
  }

  /// Walks through all keys.
  init(_ root: Root, at revision: Int64) {
    self.root = root
    self.revision = revision
    rangeEnd = .none
    hasEnd = false
    live = root.live.first()
    history = root.history.first()
  }

  private func inRange(_ record: Record?) -> Record? {
    guard let record else { return nil }
    return hasEnd && !record.key.precedes(rangeEnd) ? nil : record
  }

  mutating func next() -> Record? {
    while true {
      let newest = inRange(live.record)
      guard let superseded = inRange(history.record) else {
        guard let newest else { return nil }
        live.advance()
        if newest.modRevision <= revision { return newest }
        continue
      }
      let key = superseded.key
      let difference = newest.map { $0.key.compareBytes(key) } ?? 1
      if difference < 0, let newest {
        // A key without history.
        live.advance()
        if newest.modRevision <= revision { return newest }
        continue
      }
      let shown: Record?
      if difference == 0, let newest {
        live.advance()
        if newest.modRevision <= revision {
          skipVersions(of: key)
          return newest
        }
      }
      shown = takeShownVersion(of: key)
      if let shown, !shown.isTombstone { return shown }
    }
  }

  /// The last superseded version of `key` that the revision reaches; moves on to the next key.
  private mutating func takeShownVersion(of key: UnsafeRawBufferPointer) -> Record? {
    var shown: Record?
    for _ in 0..<RevisionWalk.stepsBeforeSeek {
      guard let record = history.record, record.key.hasSameBytes(as: key) else { return shown }
      if record.modRevision > revision {
        skipVersions(of: key)
        return shown
      }
      shown = record
      history.advance()
    }
    shown = root.lastSuperseded(key, below: revision &+ 1)
    skipVersions(of: key)
    return shown
  }

  private mutating func skipVersions(of key: UnsafeRawBufferPointer) {
    for _ in 0..<RevisionWalk.stepsBeforeSeek {
      guard let record = history.record, record.key.hasSameBytes(as: key) else { return }
      history.advance()
    }
    history = root.history.seek(TreeKey(key, revision: -1))
  }
}
