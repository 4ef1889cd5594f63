import EtcdWire

/// A set of keys made of ranges, for asking what it covers.
struct KeyRangeSet: Sendable {
  private struct Interval: Sendable {
    var begin: [UInt8]
    /// The first key behind the interval; nil if there is none.
    var end: [UInt8]?
  }
  /// Disjoint, not even adjacent, in order.
  private var intervals: [Interval] = []

  /// The union of some permissions' ranges. O(n log n).
  init(_ permissions: some Sequence<AuthPermission>) {
    var all = permissions.map { permission in
      // Nothing lies between a key and the same key with a zero byte behind it.
      let end: [UInt8]? =
        permission.rangeEnd.isEmpty
        ? permission.key + [0] : permission.rangeEnd == [0] ? nil : permission.rangeEnd
      return Interval(begin: permission.key, end: end)
    }
    all.sort { $0.begin.lexicographicallyPrecedes($1.begin) }
    for interval in all {
      guard let last = intervals.last, last.end.map({ !$0.lexicographicallyPrecedes(interval.begin) }) ?? true
      else {
        intervals.append(interval)
        continue
      }
      guard let lastEnd = last.end else { return }
      if interval.end.map({ lastEnd.lexicographicallyPrecedes($0) }) ?? true {
        intervals[intervals.count - 1].end = interval.end
      }
    }
  }

  /// How far the set goes on without a gap from a key on.
  enum Reach {
    /// The key itself isn't in the set.
    case nowhere
    case before([UInt8])
    case everything
  }

  /// O(log n) comparisons of keys.
  func reach(from key: UnsafeRawBufferPointer) -> Reach {
    var low = 0
    var high = intervals.count
    // The last interval that begins at or before the key.
    while low < high {
      let middle = (low + high) / 2
      if intervals[middle].begin.withUnsafeBytes({ key.precedes($0) }) {
        high = middle
      } else {
        low = middle + 1
      }
    }
    guard low > 0 else { return .nowhere }
    guard let end = intervals[low - 1].end else { return .everything }
    return end.withUnsafeBytes({ key.precedes($0) }) ? .before(end) : .nowhere
  }
}
