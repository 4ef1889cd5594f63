// Appending to byte arrays: the writing side of `ByteReader`. Integers are little-endian.

/// The number of bytes that `value` takes as a base-128 varint, 1 to 10.
@inlinable @inline(__always)
public func varintSize(_ value: UInt64) -> Int {
  // Each byte carries 7 bits; `| 1` lets zero take one byte.
  (63 &- (value | 1).leadingZeroBitCount) / 7 &+ 1
}

extension [UInt8] {
  @inlinable @inline(__always)
  public mutating func append<Value: FixedWidthInteger>(littleEndian value: Value) {
    Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
  }

  /// Overwrites the bytes at `offset` with `value`.
  @inlinable @inline(__always)
  public mutating func store<Value: FixedWidthInteger>(littleEndian value: Value, at offset: Int) {
    invariant(offset >= 0 && offset + MemoryLayout<Value>.size <= count, "a store past the end")
    withUnsafeMutableBytes {
      $0.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self)
    }
  }

  @inlinable @inline(__always)
  public mutating func append(varint value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest &>>= 7
    }
    append(UInt8(truncatingIfNeeded: rest))
  }

  /// A varint length, then the bytes.
  @inlinable public mutating func append(lengthPrefixed bytes: UnsafeRawBufferPointer) {
    append(varint: UInt64(bytes.count))
    append(contentsOf: bytes)
  }
}
