/// The kinds of frames. Source: RFC 9113, section 6.
enum FrameType {
  static let data: UInt8 = 0x0
  static let headers: UInt8 = 0x1
  static let priority: UInt8 = 0x2
  static let resetStream: UInt8 = 0x3
  static let settings: UInt8 = 0x4
  static let pushPromise: UInt8 = 0x5
  static let ping: UInt8 = 0x6
  static let goAway: UInt8 = 0x7
  static let windowUpdate: UInt8 = 0x8
  static let continuation: UInt8 = 0x9
}

enum FrameFlags {
  static let endStream: UInt8 = 0x1
  static let acknowledgement: UInt8 = 0x1
  static let endHeaders: UInt8 = 0x4
  static let padded: UInt8 = 0x8
  static let priority: UInt8 = 0x20
}

/// The settings' numbers. Source: RFC 9113, section 6.5.2.
enum SettingID {
  static let headerTableSize: UInt16 = 0x1
  static let enablePush: UInt16 = 0x2
  static let maxConcurrentStreams: UInt16 = 0x3
  static let initialWindowSize: UInt16 = 0x4
  static let maxFrameSize: UInt16 = 0x5
  static let maxHeaderListSize: UInt16 = 0x6
}

/// The nine bytes before each frame's payload. Source: RFC 9113, section 4.1.
struct FrameHeader {
  static let size = 9

  /// Bytes of payload, 24 bits.
  var length: Int
  var type: UInt8
  var flags: UInt8
  /// 31 bits; the reserved bit is dropped, as the protocol says.
  var stream: UInt32

  @inline(__always)
  init(length: Int, type: UInt8, flags: UInt8, stream: UInt32) {
    self.length = length
    self.type = type
    self.flags = flags
    self.stream = stream
  }

  /// Reads the nine bytes at `start`, which must be there.
  @inline(__always)
  init(at start: UnsafeRawPointer) {
    let word = UInt32(bigEndian: start.loadUnaligned(as: UInt32.self))
    length = Int(word >> 8)
    type = UInt8(truncatingIfNeeded: word)
    flags = start.load(fromByteOffset: 4, as: UInt8.self)
    let id = start.loadUnaligned(fromByteOffset: 5, as: UInt32.self)
    stream = UInt32(bigEndian: id) & 0x7FFF_FFFF
  }

  @inline(__always)
  func write(to start: UnsafeMutableRawPointer) {
    let word = (UInt32(truncatingIfNeeded: length) << 8) | UInt32(type)
    start.storeBytes(of: word.bigEndian, as: UInt32.self)
    start.storeBytes(of: flags, toByteOffset: 4, as: UInt8.self)
    start.storeBytes(of: stream.bigEndian, toByteOffset: 5, as: UInt32.self)
  }
}

/// Big-endian integers at the start of a payload whose size has been checked.
@inline(__always)
func loadBigEndian<Value: FixedWidthInteger>(
  _ bytes: UnsafeRawBufferPointer, at offset: Int, as: Value.Type = Value.self
) -> Value {
  Value(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Value.self))
}
