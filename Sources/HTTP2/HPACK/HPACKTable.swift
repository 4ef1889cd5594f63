/// The dynamic table of one direction: the fields sent last, newest first.
///
/// Entries are in a ring. Their bytes lie one after the other in a buffer twice as large as the table
/// may be: when its end is reached, the living bytes, at most half of it, move to the front. So every
/// entry is contiguous, nothing is allocated per entry, and each byte moves at most once per refill.
/// Source: RFC 7541, sections 2.3.2 and 4.
struct HPACKTable {
  struct Entry {
    var start = 0
    var nameCount = 0
    var valueCount = 0
    var name = HeaderName.other
    var size: Int { nameCount + valueCount + HPACKTable.entryOverhead }
  }

  /// What the specification adds to each entry's bytes.
  static let entryOverhead = 32

  /// The largest size that the owner of the table allows; `maxSize` lies at or below it.
  private(set) var capacity: Int
  private(set) var maxSize: Int
  private(set) var size = 0
  private(set) var count = 0
  /// Rises with every change, so that what was derived from the table knows when it is stale.
  private(set) var version: UInt64 = 0

  private var ring: [Entry]
  /// Where the next entry goes; the newest is before it.
  private var head = 0
  private var bytes: [UInt8]
  private var end = 0

  init(capacity: Int) {
    self.capacity = capacity
    maxSize = capacity
    var slots = 1
    while slots < capacity / Self.entryOverhead + 1 { slots *= 2 }
    ring = Array(repeating: Entry(), count: slots)
    bytes = Array(repeating: 0, count: max(capacity * 2, 64))
  }

  /// The entry `index` places from the newest; nil beyond the oldest.
  @inline(__always)
  subscript(index: Int) -> Entry? {
    guard index < count else { return nil }
    return ring[(head &- 1 &- index) & (ring.count &- 1)]
  }

  func withBytes<Result>(
    of entry: Entry,
    _ body: (_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Result
  ) -> Result {
    bytes.withUnsafeBytes { all in
      let middle = entry.start + entry.nameCount
      return body(
        UnsafeRawBufferPointer(rebasing: all[entry.start..<middle]),
        UnsafeRawBufferPointer(rebasing: all[middle..<(middle + entry.valueCount)]))
    }
  }

  /// Adds a field, evicting the oldest for room. One that is larger than the table empties it.
  mutating func insert(
    name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, known: HeaderName
  ) {
    version &+= 1
    let needed = name.count + value.count + Self.entryOverhead
    guard needed <= maxSize else {
      evict(to: 0)
      return
    }
    evict(to: maxSize - needed)
    let length = name.count + value.count
    if end + length > bytes.count { compact() }
    let start = end
    bytes.withUnsafeMutableBytes { all in
      if let source = name.baseAddress {
        (all.baseAddress! + start).copyMemory(from: source, byteCount: name.count)
      }
      if let source = value.baseAddress {
        (all.baseAddress! + start + name.count).copyMemory(from: source, byteCount: value.count)
      }
    }
    end += length
    ring[head] = Entry(
      start: start, nameCount: name.count, valueCount: value.count, name: known)
    head = (head + 1) & (ring.count - 1)
    count += 1
    size += needed
  }

  /// Sets the size the table may have, at most `capacity`.
  mutating func resize(to newSize: Int) {
    version &+= 1
    maxSize = min(newSize, capacity)
    evict(to: maxSize)
  }

  private mutating func evict(to target: Int) {
    while size > target {
      let oldest = ring[(head &- count) & (ring.count &- 1)]
      size -= oldest.size
      count -= 1
    }
    if count == 0 { end = 0 }
  }

  private mutating func compact() {
    let mask = ring.count - 1
    var target = 0
    bytes.withUnsafeMutableBytes { all in
      for age in stride(from: count, to: 0, by: -1) {
        let slot = (head &- age) & mask
        let length = ring[slot].nameCount + ring[slot].valueCount
        (all.baseAddress! + target).copyMemory(
          from: all.baseAddress! + ring[slot].start, byteCount: length)
        ring[slot].start = target
        target += length
      }
    }
    end = target
  }
}
