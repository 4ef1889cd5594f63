import EtcdWire
import Primitives

/// One key at one revision, as it lies in memory: a few decoded facts, then the encoded
/// `mvccpb.KeyValue`, in one allocation of exactly that size.
///
/// The encoding is what clients get. It is written once, when the command is applied, with the
/// value last, so that a response copies bytes instead of encoding and a record without its value
/// is a prefix of it:
///
/// ```
///  0  i64  mod revision
///  8  u32  size of the encoding
/// 12  u32  size of the encoding without its value
/// 16  u32  size of the key
/// 20  u8   offset of the key in the encoding
/// 21  u8   flags
/// 22  u16  unused
/// 24       key(1) create_revision(2) mod_revision(3) version(4) lease(6) value(5)
/// ```
///
/// A tombstone, the mark of a deletion, holds key and mod revision only, as in etcd's delete
/// events.
///
/// This is a pointer, not an owner: `Arena` says when a record is freed. Records are never changed
/// once a view that shows them was published; the flags are only set within the transaction that
/// made them.
struct Record: Equatable {
  let address: UnsafeMutableRawPointer

  private static let headerSize = 24
  private static let tombstoneFlag: UInt8 = 1
  private static let transientFlag: UInt8 = 2

  @inline(__always) init(address: UnsafeMutableRawPointer) { self.address = address }

  /// The bytes the record takes in memory.
  @inline(__always) var allocatedSize: Int { Record.headerSize &+ encodedSize }

  @inline(__always) var modRevision: Int64 { address.load(as: Int64.self) }
  @inline(__always) var encodedSize: Int {
    Int(address.load(fromByteOffset: 8, as: UInt32.self))
  }
  @inline(__always) var encodedSizeWithoutValue: Int {
    Int(address.load(fromByteOffset: 12, as: UInt32.self))
  }
  @inline(__always) private var keySize: Int {
    Int(address.load(fromByteOffset: 16, as: UInt32.self))
  }
  @inline(__always) private var keyOffset: Int {
    Int(address.load(fromByteOffset: 20, as: UInt8.self))
  }
  private var flags: UInt8 {
    get { address.load(fromByteOffset: 21, as: UInt8.self) }
    nonmutating set { address.storeBytes(of: newValue, toByteOffset: 21, as: UInt8.self) }
  }

  /// Whether this marks a deletion.
  @inline(__always) var isTombstone: Bool { flags & Record.tombstoneFlag != 0 }

  /// Whether the transaction that made this record superseded it itself, so that no revision shows
  /// it. A server refuses such transactions; the state machine must stand them.
  var isTransient: Bool { flags & Record.transientFlag != 0 }
  func markTransient() { flags |= Record.transientFlag }

  @inline(__always) var key: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(
      start: address + (Record.headerSize &+ keyOffset), count: keySize)
  }

  /// The whole encoding.
  @inline(__always) var encoded: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: address + Record.headerSize, count: encodedSize)
  }

  /// The encoding without the value field.
  @inline(__always) var encodedWithoutValue: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: address + Record.headerSize, count: encodedSizeWithoutValue)
  }

  @inline(__always) func encoded(keysOnly: Bool) -> UnsafeRawBufferPointer {
    keysOnly ? encodedWithoutValue : encoded
  }

  var value: UnsafeRawBufferPointer {
    let all = encodedSize
    let offset = encodedSizeWithoutValue
    if all == offset { return .none }
    // Tag and length stand before the value; the length's size follows from what is left.
    var reader = TrustedReader(address + (Record.headerSize &+ offset &+ 1))
    let size = Int(truncatingIfNeeded: reader.varint())
    return UnsafeRawBufferPointer(start: address + (Record.headerSize &+ all &- size), count: size)
  }

  /// The numbers between key and value.
  struct Numbers {
    var createRevision: Int64 = 0
    var version: Int64 = 0
    var lease: Int64 = 0
  }

  var numbers: Numbers {
    var numbers = Numbers()
    let end = address + (Record.headerSize &+ encodedSizeWithoutValue)
    var reader = TrustedReader(address + (Record.headerSize &+ keyOffset &+ keySize))
    while reader.position < end {
      let tag = reader.varint()
      let number = Int64(bitPattern: reader.varint())
      switch tag {
      case 0x10: numbers.createRevision = number
      case 0x20: numbers.version = number
      case 0x30: numbers.lease = number
      default: break
      }
    }
    return numbers
  }

  /// The lease that the key is attached to; 0 for none.
  var lease: Int64 { numbers.lease }

  /// Reads varints that this module wrote itself.
  private struct TrustedReader {
    var position: UnsafeMutableRawPointer
    init(_ position: UnsafeMutableRawPointer) { self.position = position }

    @inline(__always) mutating func varint() -> UInt64 {
      var value: UInt64 = 0
      var shift: UInt64 = 0
      while true {
        let byte = position.load(as: UInt8.self)
        position += 1
        value |= UInt64(byte & 0x7F) &<< shift
        if byte < 0x80 { return value }
        shift &+= 7
      }
    }
  }
}

extension Record {
  /// Makes a record. O(key + value): one allocation, each byte copied once.
  ///
  /// `key` must not be empty. The sizes were bounded by `Limits.maximumCommandBytes`, so that they
  /// fit into 32 bits.
  static func make(
    key: UnsafeRawBufferPointer, createRevision: Int64, modRevision: Int64, version: Int64,
    lease: Int64, value: UnsafeRawBufferPointer, isTombstone: Bool = false
  ) -> Record {
    let keyOffset = 1 &+ varintSize(UInt64(key.count))
    let numbersSize =
      size(of: createRevision) &+ size(of: modRevision) &+ size(of: version) &+ size(of: lease)
    let withoutValue = keyOffset &+ key.count &+ numbersSize
    var total = withoutValue
    if !value.isEmpty { total &+= 1 &+ varintSize(UInt64(value.count)) &+ value.count }

    let address = UnsafeMutableRawPointer.allocate(
      byteCount: headerSize &+ total, alignment: 8)
    address.storeBytes(of: modRevision, as: Int64.self)
    address.storeBytes(of: UInt32(total), toByteOffset: 8, as: UInt32.self)
    address.storeBytes(of: UInt32(withoutValue), toByteOffset: 12, as: UInt32.self)
    address.storeBytes(of: UInt32(key.count), toByteOffset: 16, as: UInt32.self)
    address.storeBytes(
      of: UInt32(keyOffset) | (isTombstone ? UInt32(tombstoneFlag) << 8 : 0), toByteOffset: 20,
      as: UInt32.self)

    var writer = RecordWriter(position: address + headerSize)
    writer.write(tag: 0x0A, bytes: key)
    writer.write(tag: 0x10, number: createRevision)
    writer.write(tag: 0x18, number: modRevision)
    writer.write(tag: 0x20, number: version)
    writer.write(tag: 0x30, number: lease)
    if !value.isEmpty { writer.write(tag: 0x2A, bytes: value) }
    invariant(
      writer.position == address + (headerSize &+ total), "a record's encoding missed its size")
    return Record(address: address)
  }

  static func makeTombstone(key: UnsafeRawBufferPointer, modRevision: Int64) -> Record {
    make(
      key: key, createRevision: 0, modRevision: modRevision, version: 0, lease: 0, value: .none,
      isTombstone: true)
  }

  /// Frees the memory. Only `Arena` may.
  @inline(__always) func deallocate() { address.deallocate() }

  @inline(__always) private static func size(of number: Int64) -> Int {
    number == 0 ? 0 : 1 &+ varintSize(UInt64(bitPattern: number))
  }

  /// Writes fields into memory whose size was computed beforehand.
  private struct RecordWriter {
    var position: UnsafeMutableRawPointer

    @inline(__always) mutating func write(tag: UInt8, number: Int64) {
      if number == 0 { return }
      position.storeBytes(of: tag, as: UInt8.self)
      position += 1
      write(varint: UInt64(bitPattern: number))
    }

    @inline(__always) mutating func write(tag: UInt8, bytes: UnsafeRawBufferPointer) {
      position.storeBytes(of: tag, as: UInt8.self)
      position += 1
      write(varint: UInt64(bytes.count))
      if let source = bytes.baseAddress {
        position.copyMemory(from: source, byteCount: bytes.count)
        position += bytes.count
      }
    }

    @inline(__always) private mutating func write(varint value: UInt64) {
      var rest = value
      while rest >= 0x80 {
        position.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, as: UInt8.self)
        position += 1
        rest &>>= 7
      }
      position.storeBytes(of: UInt8(truncatingIfNeeded: rest), as: UInt8.self)
      position += 1
    }
  }
}
