/// Why bytes from outside could not be read.
public struct ByteReaderError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Code: Hashable, Sendable {
    /// The bytes ended inside a value.
    case truncated
    /// A varint ran past ten bytes or 64 bits.
    case malformedVarint
    /// A length or number lies outside what the format allows.
    case outOfRange
  }
  public var code: Code
  /// Where, in bytes from the start of the message.
  public var offset: Int
  @inlinable public init(_ code: Code, offset: Int) {
    self.code = code
    self.offset = offset
  }
  public var description: String { "\(code) at byte \(offset)" }
}

/// A cursor over borrowed bytes that never reads past their end.
///
/// Every read either advances and succeeds or throws and leaves the cursor where it was. Fixed-width
/// integers are little-endian, the byte order of all of Martlet's own formats and of protobuf.
public struct ByteReader {
  public let bytes: UnsafeRawBufferPointer
  /// The next byte to read, `0...bytes.count`.
  @inlinable public var offset: Int { position }
  @usableFromInline var position: Int

  @inlinable public init(_ bytes: UnsafeRawBufferPointer) {
    self.bytes = bytes
    self.position = 0
  }

  @inlinable public var remaining: Int { bytes.count &- offset }
  @inlinable public var isAtEnd: Bool { offset == bytes.count }

  @inlinable @inline(__always)
  public mutating func read<Value: FixedWidthInteger>(
    _ type: Value.Type = Value.self
  ) throws(ByteReaderError) -> Value {
    let size = MemoryLayout<Value>.size
    guard remaining >= size else { throw ByteReaderError(.truncated, offset: offset) }
    let value = bytes.loadUnaligned(fromByteOffset: offset, as: Value.self)
    position &+= size
    return Value(littleEndian: value)
  }

  /// The next `count` bytes, borrowed from the message.
  @inlinable @inline(__always)
  public mutating func readBytes(_ count: Int) throws(ByteReaderError) -> UnsafeRawBufferPointer {
    guard count >= 0, count <= remaining else {
      throw ByteReaderError(.truncated, offset: offset)
    }
    let slice = UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset &+ count)])
    position &+= count
    return slice
  }

  @inlinable public mutating func skip(_ count: Int) throws(ByteReaderError) {
    guard count >= 0, count <= remaining else {
      throw ByteReaderError(.truncated, offset: offset)
    }
    position &+= count
  }

  /// A base-128 varint of at most 64 bits (protobuf's encoding).
  @inlinable @inline(__always)
  public mutating func readVarint() throws(ByteReaderError) -> UInt64 {
    if offset < bytes.count {
      let first = bytes[offset]
      if first < 0x80 {
        position &+= 1
        return UInt64(first)
      }
    }
    return try readLongVarint()
  }

  @inlinable mutating func readLongVarint() throws(ByteReaderError) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    var next = offset
    while next < bytes.count {
      let byte = bytes[next]
      next &+= 1
      if shift == 63 && byte > 1 { throw ByteReaderError(.malformedVarint, offset: offset) }
      value |= UInt64(byte & 0x7F) &<< shift
      if byte < 0x80 {
        position = next
        return value
      }
      shift &+= 7
      if shift > 63 { throw ByteReaderError(.malformedVarint, offset: offset) }
    }
    throw ByteReaderError(.truncated, offset: offset)
  }

  /// A varint length followed by that many bytes, borrowed from the message.
  @inlinable @inline(__always)
  public mutating func readLengthPrefixed() throws(ByteReaderError) -> UnsafeRawBufferPointer {
    let start = offset
    let length = try readVarint()
    guard length <= UInt64(remaining) else {
      position = start
      throw ByteReaderError(.truncated, offset: start)
    }
    return try readBytes(Int(length))
  }
}
