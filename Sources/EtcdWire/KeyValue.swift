import Primitives

/// `mvccpb.KeyValue`: one key at one revision.
///
/// The store keeps each record in this encoding and hands the bytes out as they are. It writes the
/// value last, behind the lease, so that a record without its value is a prefix of the record:
///
/// ```
/// key(1) create_revision(2) mod_revision(3) version(4) lease(6) value(5)
/// ```
public struct KeyValue: WireMessage {
  public var key = UnsafeRawBufferPointer.none
  public var createRevision: Int64 = 0
  public var modRevision: Int64 = 0
  /// How many times the key was put since its creation; 1 on creation, 0 on a tombstone.
  public var version: Int64 = 0
  public var value = UnsafeRawBufferPointer.none
  public var lease: Int64 = 0
  public private(set) var hasUnknownFields = false

  public init() {}

  public init(
    key: UnsafeRawBufferPointer, createRevision: Int64, modRevision: Int64, version: Int64,
    value: UnsafeRawBufferPointer, lease: Int64
  ) {
    self.key = key
    self.createRevision = createRevision
    self.modRevision = modRevision
    self.version = version
    self.value = value
    self.lease = lease
  }

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A: key = try reader.bytes()
      case 0x10: createRevision = try reader.int64()
      case 0x18: modRevision = try reader.int64()
      case 0x20: version = try reader.int64()
      case 0x2A: value = try reader.bytes()
      case 0x30: lease = try reader.int64()
      default: try reader.skipUnknown(known: 0b111_1110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    output.append(field: 1, bytes: key)
    output.append(field: 2, int64: createRevision)
    output.append(field: 3, int64: modRevision)
    output.append(field: 4, int64: version)
    output.append(field: 6, int64: lease)
    output.append(field: 5, bytes: value)
  }

  /// The number of bytes that the record takes without its value; they come first.
  public var encodedSizeWithoutValue: Int {
    Self.size(of: key) + Self.size(of: createRevision) + Self.size(of: modRevision)
      + Self.size(of: version) + Self.size(of: lease)
  }

  /// The number of bytes that the encoding takes.
  public var encodedSize: Int { encodedSizeWithoutValue + Self.size(of: value) }

  /// The encoding in an array of exactly its size, for keeping.
  public func encoded() -> [UInt8] {
    let size = encodedSize
    return [UInt8](unsafeUninitializedCapacity: size) { buffer, initialized in
      var writer = RecordWriter(destination: UnsafeMutableRawBufferPointer(buffer))
      writer.write(tag: 0x0A, bytes: key)
      writer.write(tag: 0x10, int64: createRevision)
      writer.write(tag: 0x18, int64: modRevision)
      writer.write(tag: 0x20, int64: version)
      writer.write(tag: 0x30, int64: lease)
      writer.write(tag: 0x2A, bytes: value)
      invariant(writer.offset == size, "a record's encoding differs from its computed size")
      initialized = size
    }
  }

  private static func size(of bytes: UnsafeRawBufferPointer) -> Int {
    bytes.isEmpty ? 0 : 1 + varintSize(UInt64(bytes.count)) + bytes.count
  }

  private static func size(of number: Int64) -> Int {
    number == 0 ? 0 : 1 + varintSize(UInt64(bitPattern: number))
  }
}

/// Writes fields with one-byte tags into memory whose size was computed beforehand.
private struct RecordWriter {
  let destination: UnsafeMutableRawBufferPointer
  var offset = 0

  @inline(__always)
  mutating func write(tag: UInt8, int64 value: Int64) {
    if value == 0 { return }
    put(tag)
    put(varint: UInt64(bitPattern: value))
  }

  @inline(__always)
  mutating func write(tag: UInt8, bytes: UnsafeRawBufferPointer) {
    if bytes.isEmpty { return }
    put(tag)
    put(varint: UInt64(bytes.count))
    invariant(destination.count - offset >= bytes.count, "a record outgrew its computed size")
    UnsafeMutableRawBufferPointer(rebasing: destination[offset..<(offset + bytes.count)])
      .copyMemory(from: bytes)
    offset += bytes.count
  }

  @inline(__always)
  private mutating func put(varint value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      put(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    put(UInt8(truncatingIfNeeded: rest))
  }

  @inline(__always)
  private mutating func put(_ byte: UInt8) {
    invariant(offset < destination.count, "a record outgrew its computed size")
    destination[offset] = byte
    offset += 1
  }
}
