import CZlib
import Primitives

/// What SPDY/3.1's frames say, as far as Kubernetes' streams use it.
///
/// Source: "SPDY Protocol - Draft 3.1". Control frames: `1 | version 3 (15 bits) | type (16) | flags (8) |
/// length (24)`; data frames: `0 | stream (31 bits) | flags (8) | length (24)`. Header blocks are one zlib
/// stream for each direction, primed with a dictionary that the standard prints. Flow control windows are
/// left out, as in the library that Kubernetes' clients use: its peers neither count nor announce them.
enum SPDYEvent: Equatable, Sendable {
  case opened(stream: UInt32, headers: [SPDYHeader], isLast: Bool)
  case data(stream: UInt32, [UInt8], isLast: Bool)
  case reset(stream: UInt32)
  case ping(UInt32)
  case goAway
}

struct SPDYHeader: Equatable, Sendable {
  var name: String
  var value: String
}

struct SPDYError: Error, Equatable, CustomStringConvertible {
  var description: String
}

/// Reads frames from bytes that come in any pieces.
struct SPDYReader: ~Copyable {
  enum Limits {
    /// The payload of one frame.
    static let frameBytes = 1 << 20
    /// A header block, inflated.
    static let headerBytes = 64 << 10
  }
  private enum FrameType {
    static let openStream: UInt16 = 1
    static let reply: UInt16 = 2
    static let reset: UInt16 = 3
    static let settings: UInt16 = 4
    static let ping: UInt16 = 6
    static let goAway: UInt16 = 7
    static let headers: UInt16 = 8
    static let window: UInt16 = 9
  }

  private var input: [UInt8] = []
  /// How much of `input` has been taken.
  private var offset = 0
  private var inflater = HeaderInflater()

  mutating func add(_ bytes: [UInt8]) {
    input.removeSubrange(..<offset)
    offset = 0
    input += bytes
  }

  /// The next event; nil until more bytes come.
  mutating func next() throws(SPDYError) -> SPDYEvent? {
    while input.count - offset >= 8 {
      let first = word(offset)
      let flags = input[offset + 4]
      let length = Int(word(offset + 4) & 0xFF_FFFF)
      guard length <= Limits.frameBytes else {
        throw SPDYError(description: "a frame of \(length) bytes")
      }
      guard input.count - offset >= 8 + length else { return nil }
      let begin = offset + 8
      offset = begin + length
      let payload = input[begin..<offset]
      if first & 0x8000_0000 == 0 {
        return .data(stream: first, Array(payload), isLast: flags & 1 != 0)
      }
      guard first >> 16 & 0x7FFF == 3 else {
        throw SPDYError(description: "a frame of version \(first >> 16 & 0x7FFF)")
      }
      if let event = try control(UInt16(truncatingIfNeeded: first), flags, payload) { return event }
    }
    return nil
  }

  private mutating func control(
    _ type: UInt16, _ flags: UInt8, _ payload: ArraySlice<UInt8>
  ) throws(SPDYError) -> SPDYEvent? {
    func need(_ count: Int) throws(SPDYError) {
      guard payload.count >= count else {
        throw SPDYError(description: "a frame of type \(type) with \(payload.count) bytes")
      }
    }
    let start = payload.startIndex
    switch type {
    case FrameType.openStream:
      try need(10)
      let headers = try inflater.headers(payload[(start + 10)...])
      return .opened(
        stream: word(start) & 0x7FFF_FFFF, headers: headers, isLast: flags & 1 != 0)
    case FrameType.reply, FrameType.headers:
      // Their headers mean nothing to us, but the zlib stream must not lose them.
      try need(4)
      _ = try inflater.headers(payload[(start + 4)...])
      return nil
    case FrameType.reset:
      try need(8)
      return .reset(stream: word(start) & 0x7FFF_FFFF)
    case FrameType.ping:
      try need(4)
      return .ping(word(start))
    case FrameType.goAway: return .goAway
    case FrameType.settings, FrameType.window: return nil
    default: throw SPDYError(description: "a frame of the unknown type \(type)")
    }
  }

  private func word(_ index: Int) -> UInt32 {
    UInt32(input[index]) << 24 | UInt32(input[index + 1]) << 16 | UInt32(input[index + 2]) << 8
      | UInt32(input[index + 3])
  }
}

/// Writes frames.
struct SPDYWriter: ~Copyable {
  private var deflater = HeaderDeflater()

  /// The acceptance of a stream that the other side opened, without headers.
  mutating func reply(to stream: UInt32) -> [UInt8] {
    let block = deflater.block([])
    return Self.control(2, Self.word(stream) + block)
  }

  /// A new stream; for clients, and for tests.
  mutating func open(_ stream: UInt32, _ headers: [SPDYHeader], isLast: Bool = false) -> [UInt8] {
    let block = deflater.block(headers)
    return Self.control(
      1, Self.word(stream) + [0, 0, 0, 0, 0, 0] + block, flags: isLast ? 1 : 0)
  }

  static func data(_ stream: UInt32, _ bytes: [UInt8], isLast: Bool = false) -> [UInt8] {
    word(stream & 0x7FFF_FFFF) + word(UInt32(bytes.count) | (isLast ? 1 << 24 : 0)) + bytes
  }

  static func reset(_ stream: UInt32) -> [UInt8] { control(3, word(stream) + word(5)) }
  static func ping(_ id: UInt32) -> [UInt8] { control(6, word(id)) }
  static func goAway() -> [UInt8] { control(7, word(0) + word(0)) }

  private static func control(_ type: UInt16, _ payload: [UInt8], flags: UInt8 = 0) -> [UInt8] {
    word(0x8003_0000 | UInt32(type)) + word(UInt32(payload.count) | UInt32(flags) << 24) + payload
  }

  private static func word(_ value: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) }
  }
}

// MARK: Header blocks

/// `count, (length, name, length, value)…`, all numbers of 32 bits.
private struct HeaderInflater: ~Copyable {
  private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
  private var isReady: Bool

  init() {
    stream.initialize(to: z_stream())
    isReady = inflateInit_(stream, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
  }

  deinit {
    inflateEnd(stream)
    stream.deallocate()
  }

  mutating func headers(_ block: ArraySlice<UInt8>) throws(SPDYError) -> [SPDYHeader] {
    let bytes = try inflate(block)
    var rest = bytes[...]
    func number() throws(SPDYError) -> Int {
      guard rest.count >= 4 else { throw SPDYError(description: "a header block that is cut off") }
      let value = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
      rest = rest.dropFirst(4)
      return value
    }
    func text() throws(SPDYError) -> String {
      let count = try number()
      guard rest.count >= count else {
        throw SPDYError(description: "a header block that is cut off")
      }
      defer { rest = rest.dropFirst(count) }
      return String(decoding: rest.prefix(count), as: UTF8.self)
    }
    var headers: [SPDYHeader] = []
    for _ in 0..<(try number()) {
      let name = try text()
      headers.append(SPDYHeader(name: name, value: try text()))
    }
    return headers
  }

  private mutating func inflate(_ block: ArraySlice<UInt8>) throws(SPDYError) -> [UInt8] {
    guard isReady else { throw SPDYError(description: "zlib could not be started") }
    var input = Array(block)
    var output = [UInt8](repeating: 0, count: SPDYReader.Limits.headerBytes)
    let count = input.withUnsafeMutableBufferPointer { input in
      output.withUnsafeMutableBufferPointer { output -> Int? in
        stream.pointee.next_in = input.baseAddress
        stream.pointee.avail_in = UInt32(input.count)
        stream.pointee.next_out = output.baseAddress
        stream.pointee.avail_out = UInt32(output.count)
        var status = CZlib.inflate(stream, Z_SYNC_FLUSH)
        if status == Z_NEED_DICT {
          guard
            inflateSetDictionary(
              stream, SPDYDictionary.bytes, UInt32(SPDYDictionary.bytes.count)) == Z_OK
          else { return nil }
          status = CZlib.inflate(stream, Z_SYNC_FLUSH)
        }
        guard status == Z_OK || status == Z_BUF_ERROR, stream.pointee.avail_in == 0 else {
          return nil
        }
        return output.count - Int(stream.pointee.avail_out)
      }
    }
    guard let count else {
      isReady = false
      throw SPDYError(description: "a header block that can't be inflated")
    }
    return Array(output[..<count])
  }
}

private struct HeaderDeflater: ~Copyable {
  private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)

  init() {
    stream.initialize(to: z_stream())
    _ = deflateInit_(stream, 6, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
    _ = deflateSetDictionary(stream, SPDYDictionary.bytes, UInt32(SPDYDictionary.bytes.count))
  }

  deinit {
    deflateEnd(stream)
    stream.deallocate()
  }

  mutating func block(_ headers: [SPDYHeader]) -> [UInt8] {
    func word(_ value: Int) -> [UInt8] {
      (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) }
    }
    var input = word(headers.count)
    for header in headers {
      for text in [header.name, header.value] { input += word(text.utf8.count) + Array(text.utf8) }
    }
    var output = [UInt8](repeating: 0, count: Int(deflateBound(stream, UInt(input.count))) + 64)
    let count = input.withUnsafeMutableBufferPointer { input in
      output.withUnsafeMutableBufferPointer { output in
        stream.pointee.next_in = input.baseAddress
        stream.pointee.avail_in = UInt32(input.count)
        stream.pointee.next_out = output.baseAddress
        stream.pointee.avail_out = UInt32(output.count)
        _ = deflate(stream, Z_SYNC_FLUSH)
        return output.count - Int(stream.pointee.avail_out)
      }
    }
    return Array(output[..<count])
  }
}
