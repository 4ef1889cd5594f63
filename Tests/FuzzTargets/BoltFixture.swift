import Primitives

/// Writes small bbolt databases, as `Bolt` reads them: metas, an empty free list, and each bucket's pages.
public enum BoltFixture {
  public struct Bucket {
    public var name: String
    public var entries: [(key: [UInt8], value: [UInt8])]
    /// The bucket lies in the root's page.
    public var isInline = false
    /// How many entries a leaf has; more make a branch above them.
    public var entriesPerLeaf = Int.max

    public init(
      _ name: String, _ entries: [(key: [UInt8], value: [UInt8])], isInline: Bool = false,
      entriesPerLeaf: Int = .max
    ) {
      self.name = name
      self.entries = entries
      self.isInline = isInline
      self.entriesPerLeaf = entriesPerLeaf
    }
  }

  /// - Parameter transaction: of the newer meta page; the other has one less and no buckets.
  public static func database(
    _ buckets: [Bucket], pageBytes: Int = 512, transaction: UInt64 = 8
  ) -> [UInt8] {
    var pages = Pages(pageBytes: pageBytes)
    let freeList = pages.append(flags: 16, count: 0, content: [])
    let empty = pages.append(flags: 2, count: 0, content: [])
    var entries: [(flags: UInt32, key: [UInt8], value: [UInt8])] = []
    for bucket in buckets.sorted(by: { $0.name < $1.name }) {
      let sorted = bucket.entries.sorted { $0.key.lexicographicallyPrecedes($1.key) }
        .map { (flags: 0 as UInt32, key: $0.key, value: $0.value) }
      var value: [UInt8] = []
      if bucket.isInline {
        value.append(littleEndian: UInt64(0))
        value.append(littleEndian: UInt64(0))
        value += Pages.header(number: 0, flags: 2, count: sorted.count, further: 0)
        value += Pages.leaf(sorted)
      } else {
        value.append(littleEndian: pages.append(sorted, perLeaf: bucket.entriesPerLeaf))
        value.append(littleEndian: UInt64(0))
      }
      entries.append((1, Array(bucket.name.utf8), value))
    }
    let root = pages.append(entries, perLeaf: .max)
    pages.setMeta(
      Int(transaction % 2), root: root, freeList: freeList, transaction: transaction)
    pages.setMeta(
      Int((transaction + 1) % 2), root: empty, freeList: freeList, transaction: transaction - 1)
    return pages.bytes
  }

  /// Makes the checksums of both meta pages right.
  public static func repairMetas(of bytes: inout [UInt8], pageBytes: Int = 512) {
    for start in [0, pageBytes] where bytes.count >= start + 80 {
      bytes.store(littleEndian: fnv64a(bytes[(start + 16)..<(start + 72)]), at: start + 72)
    }
  }

  private static func fnv64a(_ bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 }
  }

  private struct Pages {
    let pageBytes: Int
    var bytes: [UInt8]

    init(pageBytes: Int) {
      self.pageBytes = pageBytes
      bytes = [UInt8](repeating: 0, count: 2 * pageBytes)
    }

    static func header(number: UInt64, flags: UInt16, count: Int, further: Int) -> [UInt8] {
      var header: [UInt8] = []
      header.append(littleEndian: number)
      header.append(littleEndian: flags)
      header.append(littleEndian: UInt16(count))
      header.append(littleEndian: UInt32(further))
      return header
    }

    static func leaf(_ entries: [(flags: UInt32, key: [UInt8], value: [UInt8])]) -> [UInt8] {
      var elements: [UInt8] = []
      var content: [UInt8] = []
      for (index, entry) in entries.enumerated() {
        elements.append(littleEndian: entry.flags)
        elements.append(littleEndian: UInt32((entries.count - index) * 16 + content.count))
        elements.append(littleEndian: UInt32(entry.key.count))
        elements.append(littleEndian: UInt32(entry.value.count))
        content += entry.key + entry.value
      }
      return elements + content
    }

    /// - Returns: the page's number.
    mutating func append(flags: UInt16, count: Int, content: [UInt8]) -> UInt64 {
      let number = bytes.count / pageBytes
      let pageCount = (16 + content.count + pageBytes - 1) / pageBytes
      bytes += Self.header(
        number: UInt64(number), flags: flags, count: count, further: pageCount - 1)
      bytes += content
      bytes += [UInt8](repeating: 0, count: (number + pageCount) * pageBytes - bytes.count)
      return UInt64(number)
    }

    mutating func append(
      _ entries: [(flags: UInt32, key: [UInt8], value: [UInt8])], perLeaf: Int
    ) -> UInt64 {
      guard entries.count > perLeaf else {
        return append(flags: 2, count: entries.count, content: Self.leaf(entries))
      }
      var elements: [UInt8] = []
      var keys: [UInt8] = []
      let leaves = stride(from: 0, to: entries.count, by: perLeaf).map {
        Array(entries[$0..<min($0 + perLeaf, entries.count)])
      }
      for (index, leaf) in leaves.enumerated() {
        let number = append(flags: 2, count: leaf.count, content: Self.leaf(leaf))
        elements.append(littleEndian: UInt32((leaves.count - index) * 16 + keys.count))
        elements.append(littleEndian: UInt32(leaf[0].key.count))
        elements.append(littleEndian: number)
        keys += leaf[0].key
      }
      return append(flags: 1, count: leaves.count, content: elements + keys)
    }

    mutating func setMeta(_ page: Int, root: UInt64, freeList: UInt64, transaction: UInt64) {
      var meta = Self.header(number: UInt64(page), flags: 4, count: 0, further: 0)
      meta.append(littleEndian: 0xED0C_DAED as UInt32)
      meta.append(littleEndian: 2 as UInt32)
      meta.append(littleEndian: UInt32(pageBytes))
      meta.append(littleEndian: 0 as UInt32)
      meta.append(littleEndian: root)
      meta.append(littleEndian: 0 as UInt64)
      meta.append(littleEndian: freeList)
      meta.append(littleEndian: UInt64(bytes.count / pageBytes))
      meta.append(littleEndian: transaction)
      meta.append(littleEndian: fnv64a(meta[16..<72]))
      bytes.replaceSubrange((page * pageBytes)..<(page * pageBytes + meta.count), with: meta)
    }
  }
}

/// What stands in the buckets of an etcd backend.
public enum BackendFixture {
  public static func revision(_ main: Int64, _ sub: Int64 = 0, isTombstone: Bool = false) -> [UInt8]
  {
    bigEndian(main) + [UInt8(ascii: "_")] + bigEndian(sub)
      + (isTombstone ? [UInt8(ascii: "t")] : [])
  }

  public static func record(
    _ key: String, _ value: String, create: Int64, mod: Int64, version: Int64, lease: Int64 = 0
  ) -> [UInt8] {
    field(1, Array(key.utf8)) + number(2, create) + number(3, mod) + number(4, version)
      + field(5, Array(value.utf8)) + number(6, lease)
  }

  public static func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] {
    var output = [number << 3 | 2]
    bytes.withUnsafeBytes { output.append(lengthPrefixed: $0) }
    return output
  }

  public static func number(_ field: UInt8, _ value: Int64) -> [UInt8] {
    if value == 0 { return [] }
    var output = [field << 3]
    output.append(varint: UInt64(bitPattern: value))
    return output
  }

  public static func bigEndian(_ value: Int64) -> [UInt8] {
    withUnsafeBytes(of: value.bigEndian) { Array($0) }
  }

  /// A small store with everything in it: history, a deletion, a compaction, a lease, users and an alarm.
  public static func everything(compacted: Int64 = 4) -> [BoltFixture.Bucket] {
    [
      BoltFixture.Bucket(
        "key",
        [
          (revision(2), record("a", "1", create: 2, mod: 2, version: 1)),
          (revision(3), record("b", "1", create: 3, mod: 3, version: 1, lease: 7)),
          (revision(4), record("a", "2", create: 2, mod: 4, version: 2)),
          (revision(5, 0, isTombstone: true), field(1, Array("a".utf8))),
          (
            revision(6),
            record("c", String(repeating: "x", count: 900), create: 6, mod: 6, version: 1)
          ),
          (revision(6, 1), record("d", "1", create: 6, mod: 6, version: 1)),
        ], entriesPerLeaf: 2),
      BoltFixture.Bucket("lease", [(bigEndian(7), number(1, 7) + number(2, 600) + number(3, 90))]),
      BoltFixture.Bucket(
        "meta", compacted > 0 ? [(Array("scheduledCompactRev".utf8), revision(compacted))] : [],
        isInline: true),
      BoltFixture.Bucket(
        "auth",
        [(Array("authEnabled".utf8), [1]), (Array("authRevision".utf8), bigEndian(9))],
        isInline: true
      ),
      BoltFixture.Bucket(
        "authUsers",
        [
          (
            Array("root".utf8),
            field(1, Array("root".utf8)) + field(2, Array("$2a$04$hash".utf8))
              + field(3, Array("root".utf8))
          ),
          (
            Array("reader".utf8),
            field(1, Array("reader".utf8)) + field(3, Array("read".utf8))
              + field(4, number(1, 1))
          ),
        ]),
      BoltFixture.Bucket(
        "authRoles",
        [
          (Array("root".utf8), field(1, Array("root".utf8))),
          (
            Array("read".utf8),
            field(1, Array("read".utf8))
              + field(2, field(2, Array("a".utf8)) + field(3, Array("c".utf8)))
          ),
        ]),
      BoltFixture.Bucket("alarm", [(number(1, 5) + number(2, 1), [])], isInline: true),
    ]
  }
}
