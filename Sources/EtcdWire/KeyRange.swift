/// A set of keys as etcd's requests name it, by a key and an end.
///
/// | `rangeEnd` | the keys |
/// |---|---|
/// | empty | `key` alone |
/// | one zero byte | from `key` on, to the last |
/// | anything else | `key <= k < rangeEnd`; none if the end is not above the key |
public struct KeyRange {
  public var key: UnsafeRawBufferPointer
  public var rangeEnd: UnsafeRawBufferPointer

  @inlinable public init(key: UnsafeRawBufferPointer, rangeEnd: UnsafeRawBufferPointer) {
    self.key = key
    self.rangeEnd = rangeEnd
  }

  @inlinable public var isSingleKey: Bool { rangeEnd.isEmpty }

  /// True if the range has no end: from `key` to the last key.
  @inlinable public var isUnbounded: Bool { rangeEnd.count == 1 && rangeEnd[0] == 0 }

  /// Whether `candidate` lies in the range. O(candidate).
  public func contains(_ candidate: UnsafeRawBufferPointer) -> Bool {
    if isSingleKey { return candidate.hasSameBytes(as: key) }
    if candidate.precedes(key) { return false }
    return isUnbounded || candidate.precedes(rangeEnd)
  }
}

extension UnsafeRawBufferPointer {
  /// Compares as etcd orders keys: byte by byte, unsigned; a prefix comes first.
  ///
  /// - Returns: a negative number, zero or a positive one, as this is below, equal to or above `other`.
  @inlinable
  public func compareBytes(_ other: UnsafeRawBufferPointer) -> Int {
    let shorter = Swift.min(count, other.count)
    var offset = 0
    while offset &+ 8 <= shorter {
      let left = loadUnaligned(fromByteOffset: offset, as: UInt64.self)
      let right = other.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
      if left != right { return left.bigEndian < right.bigEndian ? -1 : 1 }
      offset &+= 8
    }
    while offset < shorter {
      let left = self[offset]
      let right = other[offset]
      if left != right { return left < right ? -1 : 1 }
      offset &+= 1
    }
    return count &- other.count
  }

  @inlinable public func precedes(_ other: UnsafeRawBufferPointer) -> Bool {
    compareBytes(other) < 0
  }

  @inlinable public func hasSameBytes(as other: UnsafeRawBufferPointer) -> Bool {
    count == other.count && compareBytes(other) == 0
  }
}
