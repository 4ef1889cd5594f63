import EtcdWire
import Primitives

/// Encoded events in order of revision, ready to be copied into a `WatchResponse`.
public struct EventRun: Sendable {
  /// Consecutive events of one revision.
  public struct Part: Sendable, Hashable {
    public var revision: Revision
    /// Where in `bytes` they lie, as fields 11 of a `WatchResponse`.
    public var range: Range<Int>
    /// How many there are.
    public var count: Int
  }

  /// One encoding, shared by everybody whom it serves; not all of it need belong to this run.
  public var bytes: [UInt8]
  /// What belongs to this run, in order. A revision may have several parts, one behind the other;
  /// they must reach a watcher together.
  public var parts: [Part]
  /// Every event up to and with this revision has been looked at.
  public var through: Revision

  public init(bytes: [UInt8] = [], parts: [Part] = [], through: Revision) {
    self.bytes = bytes
    self.parts = parts
    self.through = through
  }

  /// The number of events.
  public var count: Int { parts.reduce(0) { $0 + $1.count } }
  /// The number of bytes.
  public var size: Int { parts.reduce(0) { $0 + $1.range.count } }

  /// Where all events of the run lie, if one behind the other; nil if not, or if there are none. O(parts).
  public var contiguousRange: Range<Int>? {
    guard let first = parts.first else { return nil }
    var end = first.range.upperBound
    for part in parts.dropFirst() {
      guard part.range.lowerBound == end else { return nil }
      end = part.range.upperBound
    }
    return first.range.lowerBound..<end
  }

  /// Appends an event to `parts`, joining it to the last part if nothing lies between.
  static func add(
    _ range: Range<Int>, _ revision: Revision, to parts: inout [Part]
  ) {
    let last = parts.count - 1
    if last >= 0, parts[last].revision == revision,
      parts[last].range.upperBound == range.lowerBound
    {
      parts[last].range = parts[last].range.lowerBound..<range.upperBound
      parts[last].count += 1
    } else {
      parts.append(Part(revision: revision, range: range, count: 1))
    }
  }

  /// Appends a record's event as field 11 of a `WatchResponse`.
  ///
  /// - Returns: where it lies.
  static func encode(
    _ record: Record, previous: Record?, to output: inout [UInt8]
  ) -> Range<Int> {
    let start = output.count
    var size = fieldSize(record.encodedSize)
    if record.isTombstone { size += 2 }
    if let previous { size += fieldSize(previous.encodedSize) }
    output.append(tag: 11 << 3 | 2)
    output.append(varint: UInt64(size))
    Event.append(
      record.isTombstone ? .delete : .put, encodedKeyValue: record.encoded,
      encodedPrevious: previous?.encoded, to: &output)
    return start..<output.count
  }

  /// The size of a message field with a one-byte tag.
  private static func fieldSize(_ size: Int) -> Int { 1 + varintSize(UInt64(size)) + size }
}

extension Root {
  /// What an event's key was before it; nil if it didn't exist.
  func previous(of event: Record) -> Record? {
    #if PLANTED_BUGS
      if PlantedBug.wrongPrevious.isPlanted { return liveRecord(event.key) }
    #endif
    guard let record = lastSuperseded(event.key, below: event.modRevision) else { return nil }
    return record.isTombstone ? nil : record
  }
}

extension StoreView {
  /// Past events, for a watcher that catches up.
  ///
  /// Revisions come whole. The run ends with the first revision that reaches one of the limits, and
  /// goes on from `through` plus one; so a watcher of few keys among millions of events doesn't
  /// hold its thread for long.
  ///
  /// - Parameters:
  ///   - start: the first revision wanted.
  ///   - end: the last one; events above the view's revision are not in it.
  ///   - byteLimit: how many encoded bytes to collect.
  ///   - eventLimit: how many events, of whatever key, to look at.
  /// - Throws: `.compacted` if `start` lies below the compact revision.
  public func events(
    from start: Revision, through end: Revision, in range: WatchRange, filter: WatchFilter,
    wantsPrevious: Bool, byteLimit: Int, eventLimit: Int
  ) throws(ApplyError) -> EventRun {
    defer { withExtendedLifetime(published) {} }
    if start < compactRevision { throw .compacted }
    let last = min(end, revision)
    var run = EventRun(through: last)
    var looked = 0
    range.key.withUnsafeBytes { key in
      range.rangeEnd.withUnsafeBytes { rangeEnd in
        let keys = KeyRange(key: key, rangeEnd: rangeEnd)
        var cursor = root.events(from: start.rawValue)
        var current = Int64.min
        while let record = cursor.record, record.modRevision <= last.rawValue {
          #if PLANTED_BUGS
            if PlantedBug.splitRevision.isPlanted, record.modRevision == current,
              run.parts.last?.revision.rawValue == current
            {
              cursor.advance()
              continue
            }
          #endif
          if record.modRevision != current {
            if run.bytes.count >= byteLimit || looked >= eventLimit {
              if current != .min {
                run.through = Revision(record.modRevision - 1)
                return
              }
            }
            current = record.modRevision
          }
          looked += 1
          cursor.advance()
          if filter.contains(record.isTombstone ? .noDelete : .noPut) { continue }
          if !keys.contains(record.key) { continue }
          // What was before an event at the compact revision has been compacted.
          let showsPrevious = wantsPrevious && record.modRevision > root.compactRevision
          let place = EventRun.encode(
            record, previous: showsPrevious ? root.previous(of: record) : nil, to: &run.bytes)
          EventRun.add(place, Revision(record.modRevision), to: &run.parts)
        }
      }
    }
    return run
  }
}
