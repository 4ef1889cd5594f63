import Primitives

// Writing protobuf: appending fields to a byte array. As the reader's counterpart it writes what every
// protobuf encoder would: fields in ascending order, default values left out.
//
// Messages inside messages need their length first. Where it is known, `append(field:encoded:)` or
// `append(field:message:)` write it; where it would take a pass of its own to know, `beginMessage` and
// `endMessage` leave one byte for it and move the content up in the rare case that one byte is too few.

extension [UInt8] {
  @inlinable @inline(__always)
  public mutating func append(tag: UInt32) {
    if tag < 0x80 {
      append(UInt8(truncatingIfNeeded: tag))
    } else {
      append(varint: UInt64(tag))
    }
  }

  /// A varint field; zero, the default, is not written.
  @inlinable @inline(__always)
  public mutating func append(field: UInt32, varint value: UInt64) {
    if value == 0 { return }
    append(tag: field << 3)
    append(varint: value)
  }

  /// A signed varint field (`int64`, `int32`, enum); zero, the default, is not written.
  @inlinable @inline(__always)
  public mutating func append(field: UInt32, int64 value: Int64) {
    append(field: field, varint: UInt64(bitPattern: value))
  }

  /// A bool field; false, the default, is not written.
  @inlinable @inline(__always)
  public mutating func append(field: UInt32, bool value: Bool) {
    if value {
      append(tag: field << 3)
      append(1)
    }
  }

  /// A bytes or text field; an empty one, the default, is not written.
  @inlinable @inline(__always)
  public mutating func append(field: UInt32, bytes: UnsafeRawBufferPointer) {
    if !bytes.isEmpty { append(field: field, encoded: bytes) }
  }

  /// A message field whose content is already encoded. Written even if empty: messages have presence.
  @inlinable @inline(__always)
  public mutating func append(field: UInt32, encoded bytes: UnsafeRawBufferPointer) {
    append(tag: field << 3 | 2)
    append(lengthPrefixed: bytes)
  }

  /// A message field. Written even if empty: messages have presence.
  public mutating func append(field: UInt32, message: some WireMessage) {
    let mark = beginMessage(field: field)
    message.append(to: &self)
    endMessage(mark)
  }

  /// Begins a message field whose content follows.
  ///
  /// - Returns: what `endMessage` needs.
  public mutating func beginMessage(field: UInt32) -> MessageMark {
    append(tag: field << 3 | 2)
    append(0)
    return MessageMark(contentStart: count)
  }

  /// Ends the message field that `mark` began, writing its length. Moves the content if it is longer
  /// than 127 bytes: O(content).
  public mutating func endMessage(_ mark: MessageMark) {
    let start = mark.contentStart
    invariant(start > 0 && start <= count, "a message's end without its beginning")
    let length = count - start
    if length < 0x80 {
      self[start - 1] = UInt8(truncatingIfNeeded: length)
      return
    }
    let extra = varintSize(UInt64(length)) - 1
    for _ in 0..<extra { append(0) }
    withUnsafeMutableBytes { bytes in
      // The content moves up; the two ranges overlap, which `copyMemory` allows.
      let content = UnsafeRawBufferPointer(rebasing: bytes[start..<(start + length)])
      UnsafeMutableRawBufferPointer(rebasing: bytes[(start + extra)...]).copyMemory(from: content)
      var rest = UInt64(length)
      var position = start - 1
      while rest >= 0x80 {
        bytes[position] = UInt8(truncatingIfNeeded: rest) | 0x80
        rest >>= 7
        position += 1
      }
      bytes[position] = UInt8(truncatingIfNeeded: rest)
    }
  }
}

/// Where a message field under construction begins; see `[UInt8].beginMessage(field:)`.
public struct MessageMark {
  @usableFromInline let contentStart: Int
  @usableFromInline init(contentStart: Int) { self.contentStart = contentStart }
}
