/// A branch or leaf page, with all that it goes on over.
struct BoltPage {
  enum Kind: UInt16 {
    case branch = 1
    case leaf = 2
  }

  let kind: Kind
  let count: Int
  /// Bytes of the page and those that it goes on over.
  var size: Int { bytes.count }
  private let bytes: [UInt8]
  /// For errors; of an inline page, which has none of its own, zero.
  private let number: UInt64

  private static let elementBytes = 16

  /// Takes a page's bytes from its header on.
  init(_ bytes: [UInt8], number: UInt64) throws(BoltError) {
    guard let flags: UInt16 = bytes.integer(at: 8), let count: UInt16 = bytes.integer(at: 10),
      let kind = Kind(rawValue: flags)
    else { throw BoltError("a page is neither a branch nor a leaf", page: number) }
    guard
      BoltDatabase.Limits.headerBytes + Int(count) * BoltPage.elementBytes <= bytes.count
    else {
      throw BoltError("a page has room for fewer than its \(count) elements", page: number)
    }
    self.kind = kind
    self.count = Int(count)
    self.bytes = bytes
    self.number = number
  }

  /// The page that a branch's element leads to.
  func child(_ index: Int) throws(BoltError) -> UInt64 {
    let offset = try place(of: index)
    guard let child: UInt64 = bytes.integer(at: offset + 8) else { throw outside() }
    return child
  }

  /// What a leaf's element holds.
  func entry(_ index: Int) throws(BoltError) -> (
    flags: UInt32, key: ArraySlice<UInt8>, value: ArraySlice<UInt8>
  ) {
    let offset = try place(of: index)
    guard let flags: UInt32 = bytes.integer(at: offset),
      let position: UInt32 = bytes.integer(at: offset + 4),
      let keyBytes: UInt32 = bytes.integer(at: offset + 8),
      let valueBytes: UInt32 = bytes.integer(at: offset + 12)
    else { throw outside() }
    // Three 32-bit numbers and an offset in a page: no sum of them overflows.
    let start = offset + Int(position)
    let middle = start + Int(keyBytes)
    let end = middle + Int(valueBytes)
    guard end <= bytes.count else { throw outside() }
    return (flags, bytes[start..<middle], bytes[middle..<end])
  }

  private func place(of index: Int) throws(BoltError) -> Int {
    guard index >= 0, index < count else { throw outside() }
    return BoltDatabase.Limits.headerBytes + index * BoltPage.elementBytes
  }

  private func outside() -> BoltError {
    BoltError("an element lies outside its page", page: number)
  }
}
