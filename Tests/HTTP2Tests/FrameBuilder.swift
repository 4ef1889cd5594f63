@testable import HTTP2

/// Frames as a peer would write them, right or wrong.
struct FrameBuilder {
  var bytes: [UInt8] = []

  static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

  static func frame(
    _ type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, _ payload: [UInt8] = []
  ) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: FrameHeader.size)
    bytes.withUnsafeMutableBytes {
      FrameHeader(length: payload.count, type: type, flags: flags, stream: stream)
        .write(to: $0.baseAddress!)
    }
    return bytes + payload
  }

  static func settings(_ values: [(UInt16, UInt32)] = []) -> [UInt8] {
    frame(
      FrameType.settings,
      values.flatMap { id, value in
        bigEndian(id) + bigEndian(value)
      })
  }

  static let settingsAcknowledgement = frame(FrameType.settings, flags: 1)

  /// A header block in the simplest form: literals that touch no table.
  static func block(_ fields: [(String, String)]) -> [UInt8] {
    fields.flatMap { name, value -> [UInt8] in
      [0x00, UInt8(name.utf8.count)] + Array(name.utf8) + [UInt8(value.utf8.count)]
        + Array(value.utf8)
    }
  }

  static let requestFields = [
    (":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "x"),
  ]

  static func headers(
    _ stream: UInt32, _ fields: [(String, String)] = requestFields, end: Bool = false,
    endHeaders: Bool = true
  ) -> [UInt8] {
    frame(
      FrameType.headers, flags: (end ? 1 : 0) | (endHeaders ? 4 : 0), stream: stream, block(fields))
  }

  static func data(_ stream: UInt32, _ count: Int, end: Bool = false) -> [UInt8] {
    frame(
      FrameType.data, flags: end ? 1 : 0, stream: stream, [UInt8](repeating: 0x61, count: count))
  }

  static func windowUpdate(_ stream: UInt32, _ increment: UInt32) -> [UInt8] {
    frame(FrameType.windowUpdate, stream: stream, bigEndian(increment))
  }

  static func reset(_ stream: UInt32, _ code: UInt32 = 8) -> [UInt8] {
    frame(FrameType.resetStream, stream: stream, bigEndian(code))
  }

  static func bigEndian<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
    withUnsafeBytes(of: value.bigEndian) { Array($0) }
  }
}

/// Drives a connection with bytes and writes down what happens, one line per event and frame.
final class Transcript {
  let connection: HTTP2Connection
  private var held: [UInt8] = []

  /// A server past its preface, or a client.
  init(
    _ role: HTTP2Connection.Role = .server, limits: HTTP2Limits = HTTP2Limits(), ready: Bool = true
  ) {
    connection = HTTP2Connection(role: role, limits: limits)
    connection.start()
    if ready {
      _ = receive((role == .server ? FrameBuilder.preface : []) + FrameBuilder.settings())
      _ = takeOutput()
    }
  }

  /// The events that `bytes` cause.
  func receive(_ bytes: [UInt8]...) -> [String] {
    held += bytes.joined()
    var lines: [String] = []
    let used = held.withUnsafeBytes { bytes in
      var input = HTTP2Connection.Input(bytes)
      while let event = connection.nextEvent(&input) {
        switch event {
        case .headers(let stream, let end):
          let fields = connection.headers.copyFields().map { "\($0.name)=\($0.value)" }
          lines.append("headers \(stream)\(end ? " end" : "") \(fields.joined(separator: " "))")
        case .data(let stream, let data, let end):
          lines.append("data \(stream) \(data.count)\(end ? " end" : "")")
        case .trailers(let stream): lines.append("trailers \(stream)")
        case .reset(let stream, let code): lines.append("reset \(stream) \(code)")
        case .writable(let stream): lines.append("writable \(stream)")
        case .settings: lines.append("settings")
        case .goAway(let last, let code): lines.append("goaway \(last) \(code)")
        case .pong(let opaque): lines.append("pong \(opaque)")
        case .failed(let error): lines.append("failed \(error.code)")
        }
      }
      return input.offset
    }
    held.removeFirst(used)
    return lines
  }

  /// The frames written since the last call.
  func takeOutput() -> [String] {
    var bytes = Array(connection.output.bytes)
    connection.output.removeAll()
    connection.pump()
    if bytes.starts(with: FrameBuilder.preface) { bytes.removeFirst(FrameBuilder.preface.count) }
    var lines: [String] = []
    while bytes.count >= FrameHeader.size {
      let header = bytes.withUnsafeBytes { FrameHeader(at: $0.baseAddress!) }
      let payload = Array(bytes[FrameHeader.size..<(FrameHeader.size + header.length)])
      bytes.removeFirst(FrameHeader.size + header.length)
      let end = header.flags & 1 != 0 ? " end" : ""
      func word(_ offset: Int) -> UInt32 {
        payload.withUnsafeBytes { loadBigEndian($0, at: offset) }
      }
      switch header.type {
      case FrameType.data: lines.append("DATA \(header.stream) \(header.length)\(end)")
      case FrameType.headers: lines.append("HEADERS \(header.stream)\(end)")
      case FrameType.continuation: lines.append("CONTINUATION \(header.stream)")
      case FrameType.resetStream:
        lines.append("RST_STREAM \(header.stream) \(HTTP2ErrorCode(rawValue: word(0)))")
      case FrameType.settings: lines.append(end.isEmpty ? "SETTINGS" : "SETTINGS ack")
      case FrameType.ping: lines.append(end.isEmpty ? "PING" : "PING ack")
      case FrameType.goAway: lines.append("GOAWAY \(word(0)) \(HTTP2ErrorCode(rawValue: word(4)))")
      case FrameType.windowUpdate: lines.append("WINDOW_UPDATE \(header.stream) \(word(0))")
      default: lines.append("frame \(header.type)")
      }
    }
    return lines
  }
}
