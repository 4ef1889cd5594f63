// Reading protobuf without building objects
// =========================================
//
// The problem. Every request of the hot path is a protobuf message, and it is read several times: by
// the connection that checks it, and by every member that applies it. Generated code would build an
// object with reference-counted byte strings each time; that cost more than the rest of the request.
//
// The design. A message is read into a *view*: a struct of scalars and of borrowed slices that point
// into the bytes it was read from. Nothing is allocated, and the view lives no longer than the bytes.
// A view is complete when its initialiser returns: everything in it, nested messages too, has been
// checked, so that walking through its repeated fields later cannot fail. That matters to the state
// machine, which must never discover half-way through a transaction that the rest is malformed.
//
// A worked example. `PutRequest` with key "a" and value "bc" is
//
//     0A 01 61        field 1 (key),   wire type 2 (length-delimited), 1 byte
//     12 02 62 63     field 2 (value), wire type 2 (length-delimited), 2 bytes
//
// The tag of a field is `number << 3 | wireType`, itself a varint; every field of etcd's hot messages
// but one (`Compare.range_end`, 64) fits in one byte. A view's decoder is a loop over tags:
//
//     while try reader.next() {
//       switch reader.tag {
//       case 0x0A: key = try reader.bytes()
//       case 0x12: value = try reader.bytes()
//       default: try reader.skipUnknown(known: 0b110)
//       }
//     }
//
// What is accepted. What protobuf says: fields in any order; the last value of a scalar wins; a
// message field that occurs twice is merged; numbers are truncated to their type; unknown fields are
// skipped, and remembered as `hasUnknownFields`. Where this is stricter, it is so that two members
// cannot read the same bytes differently: a known field with a wrong wire type is an error (etcd's own
// decoder says so too), groups and varints of more than 64 bits are refused, and a message that holds
// repeated messages must stand in one piece, since a view can't borrow two slices for one field.
//
// What is left out: extensions, maps, packed fields other than watch filters, and text validation.
// The only texts in these messages are written by servers, and clients get them as bytes.

/// A cursor over the fields of one protobuf message in borrowed bytes. Never reads past the end, never
/// traps; every method either succeeds or throws.
public struct FieldReader {
  @usableFromInline let base: UnsafeRawBufferPointer
  /// Where the next byte is read, `0...base.count`.
  public internal(set) var offset: Int
  /// The tag of the current field, `number << 3 | wireType`; valid after `next()` returned true.
  public internal(set) var tag: UInt32
  /// Where the current field's tag begins.
  public internal(set) var fieldStart: Int
  /// True once a field was skipped that this version doesn't know.
  public var sawUnknown: Bool

  public init(_ bytes: UnsafeRawBufferPointer) {
    base = bytes
    offset = 0
    tag = 0
    fieldStart = 0
    sawUnknown = false
  }

  /// True where no field follows.
  public var isAtEnd: Bool { offset == base.count }

  /// The number of the current field.
  public var fieldNumber: UInt32 { tag >> 3 }

  /// Reads the next field's tag. False at the end of the message.
  @inline(__always)
  public mutating func next() throws(WireError) -> Bool {
    guard offset < base.count else { return false }
    fieldStart = offset
    let first = base[offset]
    if first < 0x80 {
      tag = UInt32(first)
      offset &+= 1
    } else {
      let wide = try longVarint()
      // 29 bits of field number and three of wire type, which five bytes have room for.
      guard wide <= UInt64(UInt32.max), offset &- fieldStart <= 5 else { throw .malformedTag }
      tag = UInt32(truncatingIfNeeded: wide)
    }
    guard tag >= 8 else { throw .malformedTag }
    return true
  }

  /// A varint's value; the caller has matched the tag.
  @inline(__always)
  public mutating func varint() throws(WireError) -> UInt64 {
    if offset < base.count {
      let first = base[offset]
      if first < 0x80 {
        offset &+= 1
        return UInt64(first)
      }
      // Lengths of values and revisions of small stores have two bytes.
      if offset &+ 1 < base.count {
        let second = base[offset &+ 1]
        if second < 0x80 {
          offset &+= 2
          return UInt64(first & 0x7F) | UInt64(second) &<< 7
        }
      }
    }
    return try longVarint()
  }

  /// A varint as a signed number: negative ones take ten bytes on the wire.
  @inline(__always)
  public mutating func int64() throws(WireError) -> Int64 { Int64(bitPattern: try varint()) }

  /// A varint as an enum's number, truncated to 32 bits as protobuf prescribes.
  @inline(__always)
  public mutating func enumeration() throws(WireError) -> Int32 {
    Int32(truncatingIfNeeded: try varint())
  }

  @inline(__always)
  public mutating func bool() throws(WireError) -> Bool { try varint() != 0 }

  /// A length-delimited value, borrowed from the message.
  @inline(__always)
  public mutating func bytes() throws(WireError) -> UnsafeRawBufferPointer {
    let length = try varint()
    guard length <= UInt64(base.count &- offset) else { throw .truncated }
    let start = offset
    offset &+= Int(length)
    return UnsafeRawBufferPointer(rebasing: base[start..<offset])
  }

  /// Skips the current field, which must not be one of the message's own.
  ///
  /// - Parameter known: a bit for each field number below 64 that the message has.
  /// - Throws: `.wrongWireType` if the field is known, since its proper tag would have been matched.
  public mutating func skipUnknown(known: UInt64) throws(WireError) {
    let number = fieldNumber
    if number < 64, known & (1 << UInt64(number)) != 0 { throw .wrongWireType }
    sawUnknown = true
    try skip()
  }

  /// Skips the current field's value, whatever it is.
  public mutating func skip() throws(WireError) {
    switch tag & 7 {
    case 0: _ = try varint()
    case 1: try advance(8)
    case 2: _ = try bytes()
    case 5: try advance(4)
    case 3, 4: throw .groupRefused
    default: throw .malformedTag
    }
  }

  private mutating func advance(_ count: Int) throws(WireError) {
    guard count <= base.count &- offset else { throw .truncated }
    offset &+= count
  }

  @inline(never)
  private mutating func longVarint() throws(WireError) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    var position = offset
    while position < base.count {
      let byte = base[position]
      position &+= 1
      // The tenth byte has room for one bit.
      if shift == 63 && byte > 1 { throw .malformedVarint }
      value |= UInt64(byte & 0x7F) &<< shift
      if byte < 0x80 {
        offset = position
        return value
      }
      shift &+= 7
    }
    throw .truncated
  }
}

extension UnsafeRawBufferPointer {
  /// No bytes: what a field holds that was not on the wire.
  @inlinable public static var none: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: nil, count: 0)
  }
}
