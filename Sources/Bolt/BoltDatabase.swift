import Primitives

// Reading bbolt databases
// =======================
//
// The problem. etcd keeps its state in a bbolt file, and a snapshot of etcd is that file. To take a cluster
// over, it must be read; and since it comes from outside, every number in it may be wrong.
//
// The format. A file is an array of pages. A page has a header, and may go on over the following ones:
//
//      0  u64  its own number
//      8  u16  what it is: 1 branch, 2 leaf, 4 meta, 16 free list
//     10  u16  number of elements
//     12  u32  how many further pages it takes
//     16       the elements
//
// Pages 0 and 1 are metas: each transaction writes one of them, in turn, so that the other is whole if that
// write was torn. The one with the newer transaction whose checksum holds counts.
//
//     16  u32  magic, 0xED0CDAED
//     20  u32  version, 2
//     24  u32  bytes of a page
//     28  u32  flags
//     32  u64  page of the root bucket; u64 its sequence
//     48  u64  page of the free list
//     56  u64  first page number that was never used
//     64  u64  transaction
//     72  u64  FNV-64a of bytes 16..<72
//
// A bucket is a B+ tree. Elements stand at the front of a page, and what they point to behind them:
//
//     branch  u32 where its key is, from the element on; u32 length of the key; u64 page of the child
//     leaf    u32 flags, 1 for a bucket; u32 where its key is; u32 length of the key; u32 of the value, which
//             follows the key
//
// The value of a bucket's element is u64 the page of its root and u64 a sequence; the page is zero for a
// small bucket, whose one leaf page then follows at once (*inline*). All integers are little-endian.
//
// The design. Pages are read one by one, when a cursor comes to them, and every offset and length is checked
// against the page and the file. That a walk ends whatever the pages say, two rules make sure of: it may visit
// no more bytes of pages than the file has, and keys must rise. The free list is of no interest to a reader.
//
// Source: the documentation and the file format of go.etcd.io/bbolt, version 2 of the format.

/// A bbolt database that is read and never changed.
public struct BoltDatabase {
  /// Reads bytes of the file: where, and how many. Fewer come back only at the file's end.
  public typealias Read = (_ offset: UInt64, _ count: Int) throws -> [UInt8]

  let read: Read
  /// The file's size in bytes.
  let size: UInt64
  /// Bytes of a page, a power of two.
  let pageBytes: UInt64
  /// The first page number that was never used.
  let pageCount: UInt64
  private let rootPage: UInt64
  /// The number of the transaction that the file ends with.
  public let transaction: UInt64

  /// The bounds of what a file may ask for.
  enum Limits {
    static let pageBytes: ClosedRange<UInt64> = 512...(1 << 20)
    /// A page with those it goes on over: the largest value of a store, with room to spare.
    static let wholePageBytes: UInt64 = 1 << 30
    /// Levels of a bucket's tree. Each has at least two children but for the root, so none has more.
    static let depth = 64
    static let metaBytes = 80
    static let headerBytes = 16
  }

  /// Finds the newest sound meta page.
  ///
  /// - Throws: `BoltError` where there is none, and what `read` throws.
  public init(size: UInt64, read: @escaping Read) throws {
    self.size = size
    self.read = read
    var metas: [Meta] = []
    if let first = Meta(try read(0, Limits.metaBytes)) { metas.append(first) }
    // The second meta lies one page on; where the first is damaged, the length of a page is unknown.
    let lengths =
      metas.first.map { [$0.pageBytes] } ?? (0..<12).map { Limits.pageBytes.lowerBound << $0 }
    for length in lengths where length < size {
      if let second = Meta(try read(length, Limits.metaBytes)), second.pageBytes == length {
        metas.append(second)
        break
      }
    }
    guard let newest = metas.max(by: { $0.transaction < $1.transaction }) else {
      throw BoltError("no bbolt database: neither of its two meta pages is sound", page: 0)
    }
    pageBytes = newest.pageBytes
    pageCount = newest.pageCount
    rootPage = newest.rootPage
    transaction = newest.transaction
    guard pageCount >= 2, pageCount <= size / pageBytes else {
      throw BoltError(
        "the file has \(size) bytes, but \(pageCount) pages of \(pageBytes) bytes; it was cut short",
        page: nil)
    }
  }

  /// The bucket that holds the others.
  public var root: BoltBucket { BoltBucket(database: self, root: .page(rootPage)) }

  /// The bucket of a name; nil if there is none. O(buckets).
  public func bucket(_ name: String) throws -> BoltBucket? {
    var entries = root.entries()
    while let entry = try entries.next() {
      if entry.key.elementsEqual(name.utf8) { return try entry.bucket }
    }
    return nil
  }

  /// Reads a page and what it goes on over.
  func page(_ number: UInt64) throws -> BoltPage {
    guard number >= 2, number < pageCount else {
      throw BoltError(
        "a page beyond the \(pageCount) pages of the file is referred to", page: number)
    }
    // Neither overflows: the pages lie within the file.
    let offset = number * pageBytes
    let header = try read(offset, Limits.headerBytes)
    guard header.count == Limits.headerBytes, header.integer(at: 0) == number else {
      throw BoltError("a page doesn't name itself", page: number)
    }
    let further = UInt64(header.integer(at: 12) ?? 0 as UInt32)
    guard further < pageCount - number, (further + 1) * pageBytes <= Limits.wholePageBytes else {
      throw BoltError("a page goes on over \(further) others, past the file's end", page: number)
    }
    let count = Int((further + 1) * pageBytes)
    let bytes = try read(offset, count)
    guard bytes.count == count else { throw BoltError("the file became shorter", page: number) }
    return try BoltPage(bytes, number: number)
  }
}

/// Why a file can't be read as a bbolt database.
public struct BoltError: Error, Hashable, Sendable, CustomStringConvertible {
  public var message: String
  /// The number of the page concerned, if one is.
  public var page: UInt64?

  init(_ message: String, page: UInt64?) {
    self.message = message
    self.page = page
  }

  public var description: String { page.map { "\(message) (page \($0))" } ?? message }
}

/// A sound meta page.
private struct Meta {
  static let magic: UInt32 = 0xED0C_DAED
  static let version: UInt32 = 2

  let pageBytes: UInt64
  let rootPage: UInt64
  let pageCount: UInt64
  let transaction: UInt64

  init?(_ bytes: [UInt8]) {
    guard bytes.count == BoltDatabase.Limits.metaBytes,
      bytes.integer(at: 16) == Self.magic, bytes.integer(at: 20) == Self.version,
      let checksum: UInt64 = bytes.integer(at: 72), checksum == fnv64a(bytes[16..<72]),
      let pageBytes: UInt32 = bytes.integer(at: 24),
      let rootPage: UInt64 = bytes.integer(at: 32), let pageCount: UInt64 = bytes.integer(at: 56),
      let transaction: UInt64 = bytes.integer(at: 64)
    else { return nil }
    self.pageBytes = UInt64(pageBytes)
    self.rootPage = rootPage
    self.pageCount = pageCount
    self.transaction = transaction
    guard BoltDatabase.Limits.pageBytes.contains(self.pageBytes),
      self.pageBytes & (self.pageBytes - 1) == 0
    else { return nil }
  }
}

/// The hash that Fowler, Noll and Vo describe, in its variant 1a with 64 bits.
func fnv64a(_ bytes: ArraySlice<UInt8>) -> UInt64 {
  bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 }
}

extension [UInt8] {
  /// A little-endian integer; nil where the array ends before it.
  func integer<Value: FixedWidthInteger>(at offset: Int, as type: Value.Type = Value.self) -> Value?
  {
    guard offset >= 0, count >= MemoryLayout<Value>.size, offset <= count - MemoryLayout<Value>.size
    else { return nil }
    return withUnsafeBytes {
      Value(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Value.self))
    }
  }
}
