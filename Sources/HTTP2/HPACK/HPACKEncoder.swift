/// Compresses header sections and keeps the table that the peer's decoder mirrors.
///
/// Most sections are `HeaderTemplate`s. The encoder keeps each one's last encoding together with the
/// table's version: while that stands and the encoding itself inserted nothing, it is copied.
struct HPACKEncoder {
  private struct Cached {
    var template: HeaderTemplate
    var version: UInt64
    var bytes: [UInt8]
  }

  private(set) var table: HPACKTable
  private var cache: [Cached] = []
  private let maxCachedTemplates: Int
  /// Sizes to announce at the start of the next block: the lowest since the last one, and the last.
  private var pendingSizes: (lowest: Int, last: Int)?
  private let usesHuffman: Bool

  init(maxCachedTemplates: Int, usesHuffman: Bool = true) {
    table = HPACKTable(capacity: 4_096)
    self.maxCachedTemplates = maxCachedTemplates
    self.usesHuffman = usesHuffman
  }

  /// The peer allows a table of `size` bytes. Ours never grows beyond the protocol's default.
  mutating func peerAllows(tableSize size: Int) {
    let new = min(size, table.capacity)
    if new == table.maxSize && pendingSizes == nil { return }
    pendingSizes = (min(pendingSizes?.lowest ?? new, new), new)
    table.resize(to: new)
  }

  /// Announces a changed table size; call it before the first field of each block.
  @inline(__always)
  mutating func beginBlock(_ sink: ByteSink) {
    if pendingSizes != nil { announceSizes(sink) }
  }

  private mutating func announceSizes(_ sink: ByteSink) {
    guard let sizes = pendingSizes else { return }
    if sizes.lowest < sizes.last { appendInteger(sizes.lowest, 5, 0x20, sink) }
    appendInteger(sizes.last, 5, 0x20, sink)
    pendingSizes = nil
  }

  mutating func encode(_ template: HeaderTemplate, into sink: ByteSink) {
    for index in cache.indices where cache[index].template === template {
      if cache[index].version == table.version {
        sink.append(cache[index].bytes)
      } else {
        encodeAndKeep(template, at: index, into: sink)
      }
      return
    }
    if template.isReusable, cache.count < maxCachedTemplates {
      cache.append(Cached(template: template, version: .max, bytes: []))
      encodeAndKeep(template, at: cache.count - 1, into: sink)
    } else {
      for field in template.fields { encode(field, into: sink) }
    }
  }

  private mutating func encodeAndKeep(
    _ template: HeaderTemplate, at index: Int, into sink: ByteSink
  ) {
    let version = table.version
    let start = sink.count
    for field in template.fields { encode(field, into: sink) }
    guard version == table.version else { return }
    cache[index].version = version
    cache[index].bytes = Array(sink.bytes[start...])
  }

  mutating func encode(_ field: HeaderField, into sink: ByteSink) {
    var (match, nameMatch) = HPACKStaticTable.find(name: field.name, value: field.value)
    if match == 0, field.indexing == .indexed || nameMatch == 0 {
      let found = findInTable(field)
      match = found.field
      if nameMatch == 0 { nameMatch = found.name }
    }
    if match > 0, field.indexing != .secret {
      appendInteger(match, 7, 0x80, sink)
      return
    }
    let fits = field.name.count + field.value.count + HPACKTable.entryOverhead <= table.maxSize
    switch field.indexing {
    case .indexed where fits: appendInteger(nameMatch, 6, 0x40, sink)
    case .indexed, .plain: appendInteger(nameMatch, 4, 0x00, sink)
    case .secret: appendInteger(nameMatch, 4, 0x10, sink)
    }
    if nameMatch == 0 { appendString(field.name, sink) }
    appendString(field.value, sink)
    if field.indexing == .indexed, fits {
      field.name.withUnsafeBytes { name in
        field.value.withUnsafeBytes { value in
          table.insert(name: name, value: value, known: .other)
        }
      }
    }
  }

  private func findInTable(_ field: HeaderField) -> (field: Int, name: Int) {
    var nameIndex = 0
    for index in 0..<table.count {
      guard let entry = table[index], entry.nameCount == field.name.count else { continue }
      let (sameName, sameValue) = table.withBytes(of: entry) { name, value in
        let same = field.name.withUnsafeBytes { equalBytes($0, name) }
        return (same, same && field.value.withUnsafeBytes { equalBytes($0, value) })
      }
      let position = HPACKStaticTable.count + 1 + index
      if sameValue { return (position, position) }
      if sameName, nameIndex == 0 { nameIndex = position }
    }
    return (0, nameIndex)
  }

  private func appendInteger(_ value: Int, _ prefixBits: UInt8, _ pattern: UInt8, _ sink: ByteSink)
  {
    let mask = (1 << Int(prefixBits)) - 1
    if value < mask {
      sink.append(pattern | UInt8(value))
      return
    }
    sink.append(pattern | UInt8(mask))
    var rest = value - mask
    while rest >= 0x80 {
      sink.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    sink.append(UInt8(rest))
  }

  private func appendString(_ bytes: [UInt8], _ sink: ByteSink) {
    let coded = usesHuffman ? Huffman.encodedSize(bytes) : bytes.count
    if coded < bytes.count {
      appendInteger(coded, 7, 0x80, sink)
      Huffman.encode(bytes, into: sink)
    } else {
      appendInteger(bytes.count, 7, 0x00, sink)
      sink.append(bytes)
    }
  }
}
