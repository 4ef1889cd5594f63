import EtcdWire
import Primitives

// Reading ranges of keys, at the newest revision or an older one. Used by views, and by the writer
// for the operations of a transaction.

extension Root {
  /// The revision that a request means.
  ///
  /// - Parameters:
  ///   - requested: as it came; 0 or less means the newest.
  ///   - current: the newest one, which within a transaction that has changed something lies one above
  ///     `revision`.
  func readableRevision(_ requested: Int64, current: Int64) throws(ApplyError) -> Int64 {
    if requested <= 0 { return current }
    if requested > current { throw .futureRevision }
    if requested < compactRevision { throw .compacted }
    return requested
  }

  /// How many keys of a range exist now. O(log n).
  func count(_ range: KeyRange) -> Int {
    if range.isSingleKey { return liveRecord(range.key) == nil ? 0 : 1 }
    let end = range.isUnbounded ? live.count : live.rank(TreeKey(range.rangeEnd))
    return max(0, end &- live.rank(TreeKey(range.key)))
  }

  /// Appends the `RangeResponse` to a request, without its header.
  func range(
    _ request: RangeRequest, current: Int64, into output: inout [UInt8]
  ) throws(ApplyError) {
    let revision = try readableRevision(request.revision, current: current)
    let range = request.range
    let limit = request.limit > 0 ? Int(clamping: request.limit) : Int.max

    if range.isSingleKey {
      let found =
        revision == current ? liveRecord(range.key) : record(range.key, at: revision)
      if let found, !request.countOnly, request.filtersPass(found) {
        RangeResponse.append(
          encodedKeyValue: found.encoded(keysOnly: request.keysOnly), to: &output)
      }
      RangeResponse.appendTail(more: false, count: found == nil ? 0 : 1, to: &output)
      return
    }

    let isPlain =
      !request.hasFilters && request.sortTarget == .key && request.sortOrder != .descending
    if revision == current && (isPlain || request.countOnly) {
      let count = self.count(range)
      if !request.countOnly {
        appendRun(
          from: live.seek(TreeKey(range.key)), count: min(count, limit),
          keysOnly: request.keysOnly, to: &output)
      }
      let more = !request.countOnly && count > limit
      RangeResponse.appendTail(more: more, count: Int64(count), to: &output)
      return
    }

    var selection = select(request, range, at: revision, current: current, limit: limit)
    let more = selection.records.count > limit
    if more { selection.records.removeLast(selection.records.count - limit) }
    output.reserve(
      selection.records.reduce(16) { $0 + $1.encodedSize(keysOnly: request.keysOnly) + 11 })
    for record in selection.records {
      RangeResponse.append(
        encodedKeyValue: record.encoded(keysOnly: request.keysOnly), to: &output)
    }
    RangeResponse.appendTail(more: more, count: Int64(selection.count), to: &output)
  }

  /// Appends `count` live records from a place on. They are there.
  private func appendRun(
    from start: TreeCursor, count: Int, keysOnly: Bool, to output: inout [UInt8]
  ) {
    // Twice over the records: sizes first, so that the output is allocated once. The second pass
    // finds their headers in the cache.
    var size = 16
    var left = count
    var cursor = start
    while left > 0 {
      let rest = cursor.leafRest
      if rest.isEmpty { break }
      let taken = min(left, rest.count)
      for index in 0..<taken {
        size &+= Record(address: rest[index]).encodedSize(keysOnly: keysOnly) &+ 11
      }
      left &-= taken
      cursor.advanceLeaf()
    }
    output.reserve(size)

    left = count
    cursor = start
    while left > 0 {
      let rest = cursor.leafRest
      if rest.isEmpty { break }
      let taken = min(left, rest.count)
      for index in 0..<taken {
        RangeResponse.append(
          encodedKeyValue: Record(address: rest[index]).encoded(keysOnly: keysOnly), to: &output)
      }
      left &-= taken
      cursor.advanceLeaf()
    }
  }

  /// The records that a request with filters, an order or an old revision selects, in the order
  /// asked for, and at least one more than `limit` if there are more.
  private func select(
    _ request: RangeRequest, _ range: KeyRange, at revision: Int64, current: Int64, limit: Int
  ) -> (records: [Record], count: Int) {
    var records: [Record] = []
    // The limit cuts what is read, in the order of keys, unless filters or an order stand in
    // between. etcd also cuts first where a target is given without an order, and so does this.
    let isCutWhileReading = !request.hasFilters && request.sortOrder == .none
    let readLimit = isCutWhileReading && limit < .max ? limit + 1 : .max
    var count = 0

    if revision == current {
      count = self.count(range)
      if !request.hasFilters && request.sortTarget == .key && request.sortOrder == .descending {
        return (lastRecords(range, limit < .max ? min(limit + 1, count) : count), count)
      }
      var cursor = live.seek(TreeKey(range.key))
      var left = min(count, readLimit)
      while left > 0, let record = cursor.record {
        if request.filtersPass(record) { records.append(record) }
        left -= 1
        cursor.advance()
      }
    } else {
      var walk = RevisionWalk(self, range, at: revision)
      while let record = walk.next() {
        count += 1
        if !request.countOnly && records.count < readLimit && request.filtersPass(record) {
          records.append(record)
        }
      }
    }
    if request.countOnly { return ([], count) }

    let order = request.sortOrder == .none ? RangeRequest.SortOrder.ascending : request.sortOrder
    switch request.sortTarget {
    case .key:
      if order == .descending { records.reverse() }
    case .version, .createRevision, .modRevision, .value:
      sort(&records, by: request.sortTarget, isDescending: order == .descending)
    default:
      break
    }
    return (records, count)
  }

  /// The last `count` live records of a range, the last one first. They are there.
  private func lastRecords(_ range: KeyRange, _ count: Int) -> [Record] {
    var records: [Record] = []
    records.reserveCapacity(count)
    var cursor =
      range.isUnbounded ? live.pastTheEnd() : live.descend(to: TreeKey(range.rangeEnd)).0
    while records.count < count, cursor.retreat(), let record = cursor.record {
      records.append(record)
    }
    return records
  }

  /// Sorts records that stand in the order of their keys. Equal ones stay in that order, whatever
  /// the direction, so that all members answer alike; etcd leaves it open.
  private func sort(
    _ records: inout [Record], by target: RangeRequest.SortTarget, isDescending: Bool
  ) {
    if target == .value {
      var decorated = records.enumerated().map { (place: $0.offset, record: $0.element) }
      decorated.sort {
        let difference = $0.record.value.compareBytes($1.record.value)
        if difference == 0 { return $0.place < $1.place }
        return isDescending ? difference > 0 : difference < 0
      }
      records = decorated.map(\.record)
      return
    }
    var decorated = records.enumerated().map {
      (number: $0.element.number(target), place: $0.offset, record: $0.element)
    }
    decorated.sort {
      if $0.number == $1.number { return $0.place < $1.place }
      return isDescending ? $0.number > $1.number : $0.number < $1.number
    }
    records = decorated.map(\.record)
  }
}

extension Record {
  @inline(__always) func encodedSize(keysOnly: Bool) -> Int {
    keysOnly ? encodedSizeWithoutValue : encodedSize
  }

  fileprivate func number(_ target: RangeRequest.SortTarget) -> Int64 {
    switch target {
    case .version: numbers.version
    case .createRevision: numbers.createRevision
    default: modRevision
    }
  }
}

extension RangeRequest {
  fileprivate var hasFilters: Bool {
    minModRevision | maxModRevision | minCreateRevision | maxCreateRevision != 0
  }

  fileprivate func filtersPass(_ record: Record) -> Bool {
    if !hasFilters { return true }
    let mod = record.modRevision
    if maxModRevision != 0 && mod > maxModRevision { return false }
    if minModRevision != 0 && mod < minModRevision { return false }
    if maxCreateRevision | minCreateRevision == 0 { return true }
    let create = record.numbers.createRevision
    if maxCreateRevision != 0 && create > maxCreateRevision { return false }
    return minCreateRevision == 0 || create >= minCreateRevision
  }
}

extension [UInt8] {
  /// Makes room for `size` more bytes, still growing by factors so that many small calls stay
  /// linear.
  mutating func reserve(_ size: Int) {
    let (needed, overflow) = count.addingReportingOverflow(size)
    if !overflow && needed > capacity {
      reserveCapacity(Swift.max(needed, capacity &+ capacity / 2))
    }
  }
}
