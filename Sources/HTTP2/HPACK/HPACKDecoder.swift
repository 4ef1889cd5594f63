/// Turns header blocks into `HeaderBlock`s and keeps the table they refer to.
///
/// Clients send nearly the same head with every request, and compression makes it nearly the same
/// bytes. The decoder keeps recent blocks by their compressed bytes; one that comes again while the
/// table is unchanged is not decoded but found. That is always right: a block's meaning depends on its
/// bytes and the table alone, and a block that changed the table is never kept.
struct HPACKDecoder {
  private struct Cached {
    var compressed: [UInt8] = []
    var version: UInt64 = 0
    /// Nil in a slot that was never used.
    var block: HeaderBlock?
  }

  private static let cacheSlots = 8
  private static let largestCachedBlock = 256

  private(set) var table: HPACKTable
  // Made on first use: idle connections should cost little.
  private var cache: [Cached] = []
  private var scratch = HeaderBlock()
  private let maxListSize: Int
  private let maxFields: Int

  init(tableSize: Int, maxListSize: Int, maxFields: Int) {
    table = HPACKTable(capacity: tableSize)
    self.maxListSize = maxListSize
    self.maxFields = maxFields
  }

  /// The block's meaning, good until the next call. Throws COMPRESSION_ERROR, after which the table is
  /// no longer that of the peer and the connection must end.
  mutating func decode(_ compressed: UnsafeRawBufferPointer) throws(HTTP2Error) -> HeaderBlock {
    if cache.isEmpty { cache = Array(repeating: Cached(), count: Self.cacheSlots) }
    let slot = Self.slot(of: compressed)
    if cache[slot].version == table.version, cache[slot].compressed.count == compressed.count,
      compressed.count > 0,
      cache[slot].compressed.withUnsafeBytes({ equalBytes($0, compressed) }),
      let block = cache[slot].block
    {
      return block
    }
    let version = table.version
    scratch.reset()
    try decode(compressed, into: scratch)
    guard version == table.version, compressed.count <= Self.largestCachedBlock,
      !scratch.exceedsLimits
    else { return scratch }
    cache[slot].compressed.removeAll(keepingCapacity: true)
    cache[slot].compressed.append(contentsOf: compressed)
    cache[slot].version = version
    let block = scratch
    scratch = cache[slot].block ?? HeaderBlock()
    cache[slot].block = block
    return block
  }

  /// The last bytes differ most between blocks: they hold what isn't in the tables.
  private static func slot(of block: UnsafeRawBufferPointer) -> Int {
    var mixed = UInt64(truncatingIfNeeded: block.count) &* 0x9E37_79B9_7F4A_7C15
    if block.count >= 8 {
      mixed ^= block.loadUnaligned(as: UInt64.self) &* 0xBF58_476D_1CE4_E5B9
      mixed ^= block.loadUnaligned(fromByteOffset: block.count &- 8, as: UInt64.self)
    } else {
      for byte in block { mixed = (mixed ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    }
    mixed = (mixed ^ (mixed >> 32)) &* 0x94D0_49BB_1331_11EB
    return Int(mixed >> 61)
  }

  // MARK: The representations of RFC 7541, section 6

  private mutating func decode(
    _ bytes: UnsafeRawBufferPointer, into block: HeaderBlock
  ) throws(HTTP2Error) {
    var cursor = Cursor(bytes: bytes)
    var sawField = false
    while let first = cursor.peek() {
      if first & 0x80 != 0 {
        let index = try cursor.readInteger(prefixBits: 7)
        try appendIndexed(index, to: block)
        sawField = true
      } else if first & 0xC0 == 0x40 {
        let index = try cursor.readInteger(prefixBits: 6)
        try appendLiteral(nameIndex: index, &cursor, to: block, insert: true)
        sawField = true
      } else if first & 0xE0 == 0x20 {
        // Size updates come first in a block, at most two of them (the lowest, then the final).
        if sawField { throw HTTP2Error(.compressionError, "a table size update after a field") }
        let size = try cursor.readInteger(prefixBits: 5)
        if size > table.capacity {
          throw HTTP2Error(.compressionError, "a table size above the one announced")
        }
        if size != table.maxSize { table.resize(to: size) }
      } else {
        let index = try cursor.readInteger(prefixBits: 4)
        try appendLiteral(nameIndex: index, &cursor, to: block, insert: false)
        sawField = true
      }
    }
  }

  private func appendIndexed(_ index: Int, to block: HeaderBlock) throws(HTTP2Error) {
    let start = block.used
    let known = try appendName(index, to: block)
    let nameCount = block.used - start
    if index <= HPACKStaticTable.count {
      block.append(HPACKStaticTable.entries[index - 1].value)
    } else if let entry = table[index - HPACKStaticTable.count - 1] {
      table.withBytes(of: entry) { _, value in block.append(value) }
    }
    block.finishField(
      start: start, nameCount: nameCount, name: known, maxListSize: maxListSize,
      maxFields: maxFields)
  }

  private mutating func appendLiteral(
    nameIndex: Int, _ cursor: inout Cursor, to block: HeaderBlock, insert: Bool
  ) throws(HTTP2Error) {
    let start = block.used
    var known: HeaderName
    if nameIndex == 0 {
      try cursor.readString(into: block)
      known = HeaderName.recognise(block.bytes(from: start, to: block.used))
    } else {
      known = try appendName(nameIndex, to: block)
    }
    let middle = block.used
    try cursor.readString(into: block)
    if insert {
      table.insert(
        name: block.bytes(from: start, to: middle),
        value: block.bytes(from: middle, to: block.used),
        known: known)
    }
    block.finishField(
      start: start, nameCount: middle - start, name: known, maxListSize: maxListSize,
      maxFields: maxFields)
  }

  private func appendName(_ index: Int, to block: HeaderBlock) throws(HTTP2Error) -> HeaderName {
    if index >= 1, index <= HPACKStaticTable.count {
      let entry = HPACKStaticTable.entries[index - 1]
      block.append(entry.name)
      return entry.known
    }
    guard index > 0, let entry = table[index - HPACKStaticTable.count - 1] else {
      throw HTTP2Error(.compressionError, "no table entry \(index)")
    }
    table.withBytes(of: entry) { name, _ in block.append(name) }
    return entry.name
  }

  /// Reads integers and strings from a block.
  private struct Cursor {
    let bytes: UnsafeRawBufferPointer
    var offset = 0

    init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    @inline(__always)
    func peek() -> UInt8? { offset < bytes.count ? bytes[offset] : nil }

    /// An integer whose first bits share a byte with something else. Source: RFC 7541, 5.1.
    @inline(__always)
    mutating func readInteger(prefixBits: UInt8) throws(HTTP2Error) -> Int {
      guard offset < bytes.count else { throw Self.truncated }
      let mask = (UInt8(1) << prefixBits) &- 1
      let prefix = bytes[offset] & mask
      offset &+= 1
      if prefix != mask { return Int(prefix) }
      return try readLongInteger(from: Int(mask))
    }

    private mutating func readLongInteger(from start: Int) throws(HTTP2Error) -> Int {
      var value = start
      var shift = 0
      while true {
        guard offset < bytes.count else { throw Self.truncated }
        let byte = bytes[offset]
        offset += 1
        // Nothing in HPACK is as large as 2^28; more continuation bytes only hide a large number.
        if shift > 21 { throw HTTP2Error(.compressionError, "an integer is too large") }
        value += Int(byte & 0x7F) << shift
        shift += 7
        if byte & 0x80 == 0 { return value }
      }
    }

    mutating func readString(into block: HeaderBlock) throws(HTTP2Error) {
      guard offset < bytes.count else { throw Self.truncated }
      let isCoded = bytes[offset] & 0x80 != 0
      let length = try readInteger(prefixBits: 7)
      guard length <= bytes.count - offset else { throw Self.truncated }
      let raw = UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + length)])
      offset += length
      if !isCoded {
        block.append(raw)
        return
      }
      let target = block.reserve(Huffman.maximumDecodedSize(length))
      guard let count = Huffman.decode(raw, into: target) else {
        throw HTTP2Error(.compressionError, "a broken Huffman code")
      }
      block.used += count
    }

    private static var truncated: HTTP2Error {
      HTTP2Error(.compressionError, "a header block ends inside a field")
    }
  }
}

@inline(__always)
func equalBytes(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
  left.count == right.count && left.elementsEqual(right)
}

// MARK: - Filling a block

extension HeaderBlock {
  func reset() {
    fields.removeAll(keepingCapacity: true)
    used = 0
    listSize = 0
    exceedsLimits = false
    route = -1
    status = 0
    contentLength = -1
    pathField = -1
    methodField = -1
    schemeField = -1
    authorityField = -1
    checked = .unchecked
    fault = nil
  }

  @inline(__always)
  func reserve(_ extra: Int) -> UnsafeMutableRawPointer {
    if capacity - used < extra {
      var newCapacity = capacity * 2
      while newCapacity - used < extra { newCapacity *= 2 }
      let new = UnsafeMutableRawPointer.allocate(byteCount: newCapacity, alignment: 1)
      new.copyMemory(from: storage, byteCount: used)
      storage.deallocate()
      storage = new
      capacity = newCapacity
    }
    return storage + used
  }

  @inline(__always)
  func append(_ bytes: UnsafeRawBufferPointer) {
    guard let source = bytes.baseAddress else { return }
    reserve(bytes.count).copyMemory(from: source, byteCount: bytes.count)
    used += bytes.count
  }

  @inline(__always)
  func append(_ text: StaticString) {
    append(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  func bytes(from start: Int, to end: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: storage + start, count: end - start)
  }

  /// Makes the bytes from `start` on a field, or drops them where the limits are reached: the block is
  /// still decoded to its end, since the compression state depends on all of it.
  @inline(__always)
  func finishField(
    start: Int, nameCount: Int, name: HeaderName, maxListSize: Int, maxFields: Int
  ) {
    listSize += used - start + HPACKTable.entryOverhead
    if listSize > maxListSize || fields.count >= maxFields {
      exceedsLimits = true
      used = start
      return
    }
    fields.append(
      Field(start: start, nameCount: nameCount, valueCount: used - start - nameCount, name: name))
  }
}
