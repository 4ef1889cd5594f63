/// Walks through all records that the logical state consists of, whatever compaction has physically
/// done.
///
/// First what the compact revision shows, in the order of keys, without what was changed at that
/// very revision; then every event from the compact revision on, in order. From these everything
/// can be built again by replaying (`StoreRestorer`).
struct LogicalRecords {
  /// Which part a record belongs to.
  enum Part {
    /// Older than the compact revision, and shown at it.
    case base
    case event
  }

  private var base: RevisionWalk?
  private var events: TreeCursor
  private let compactRevision: Int64

  init(_ root: Root) {
    compactRevision = root.compactRevision
    base = compactRevision >= 0 ? RevisionWalk(root, at: compactRevision) : nil
    events = root.events(from: compactRevision)
  }

  mutating func next() -> (Record, Part)? {
    while let record = base?.next() {
      if record.modRevision < compactRevision { return (record, .base) }
    }
    base = nil
    guard let record = events.record else { return nil }
    events.advance()
    return (record, .event)
  }
}
