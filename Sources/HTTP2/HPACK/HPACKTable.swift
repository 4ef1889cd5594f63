/// The dynamic table of one direction: the fields sent last, newest first.
///
/// Entries are in a ring. Their bytes lie one after the other in a buffer up to twice as large as the table
/// may be: when its end is reached, the living bytes, at most half of it, move to the front. So every
/// entry is contiguous, nothing is allocated per entry, and each byte moves at most once per refill.
/// Both grow with what is in them: most connections use a few entries, and there may be thousands of them.
/// Source: RFC 7541, sections 2.3.2 and 4.
struct HPACKTable {
  struct Entry {
    // A table is at most some kilobytes large.
    fileprivate var startOffset: UInt32 = 0
    fileprivate var nameLength: UInt32 = 0
    fileprivate var valueLength: UInt32 = 0
    var name = HeaderName.other
    var start: Int { Int(startOffset) }
    var nameCount: Int { Int(nameLength) }
    var valueCount: Int { Int(valueLength) }
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
    ring = Array(repeating: Entry(), count: Self.firstSlots)
    bytes = Array(repeating: 0, count: Self.firstBytes)
  }

  /// Powers of two.
  private static let firstSlots = 8
  private static let firstBytes = 256

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
    if count == ring.count { growRing() }
    if end + length > bytes.count { makeRoom(for: length) }
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
      startOffset: UInt32(truncatingIfNeeded: start),
      nameLength: UInt32(truncatingIfNeeded: name.count),
      valueLength: UInt32(truncatingIfNeeded: value.count), name: known)
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

  /// Doubles the ring, which is full.
  private mutating func growRing() {
    // The oldest stands where the next one would go.
    ring = Array(ring[head...]) + ring[..<head] + Array(repeating: Entry(), count: ring.count)
    head = count
  }

  private mutating func makeRoom(for length: Int) {
    // Living bytes are at most `capacity`, so a buffer of twice that always has room once compacted.
    if bytes.count < capacity * 2 {
      var larger = bytes.count
      while larger < end + length { larger *= 2 }
      bytes += Array(repeating: 0, count: min(larger, capacity * 2) - bytes.count)
    }
    if end + length > bytes.count { compact() }
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
        ring[slot].startOffset = UInt32(truncatingIfNeeded: target)
        target += length
      }
    }
    end = target
  }
}
