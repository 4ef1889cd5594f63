import HTTP2
import NIOCore
import NIOEmbedded

/// A client's side of a connection whose bytes are carried by hand: what it does is not counted.
final class CountedClient: HTTP2Delegate {
  private let channel = EmbeddedChannel()
  private var handler: HTTP2Handler!
  private(set) var answered = 0
  private(set) var failed = 0

  init() throws {
    handler = HTTP2Handler(connection: HTTP2Connection(role: .client), delegate: self)
    try channel.pipeline.syncOperations.addHandler(handler)
    channel.connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: 1), promise: nil)
  }

  static func head(_ path: String) -> HeaderTemplate {
    HeaderTemplate([
      HeaderField(":method", "POST"), HeaderField(":scheme", "http"), HeaderField(":path", path),
      HeaderField(":authority", "localhost"), HeaderField("content-type", "application/grpc"),
      HeaderField("te", "trailers"),
    ])
  }

  /// Opens a call with one message; returns its stream.
  @discardableResult
  func call(_ head: HeaderTemplate, _ message: [UInt8], endStream: Bool = true) -> StreamID? {
    guard let stream = handler.connection.openStream(head, endStream: false, tag: 0) else { return nil }
    send(message, on: stream, endStream: endStream)
    return stream
  }

  func send(_ message: [UInt8], on stream: StreamID, endStream: Bool = false) {
    // gRPC's prefix: not compressed, and the length, big-endian.
    let length = UInt32(message.count)
    let prefix = [0] + (0..<4).map { UInt8(truncatingIfNeeded: length >> (24 - 8 * $0)) }
    (prefix + message).withUnsafeBytes {
      _ = handler.connection.sendData(stream, $0, endStream: endStream)
    }
  }

  /// All that the client has written, as one read of the server.
  func takeOutput() throws -> ByteBuffer? {
    handler.flush()
    var all: ByteBuffer?
    while var part = try channel.readOutbound(as: ByteBuffer.self) {
      if all == nil { all = part } else { all?.writeBuffer(&part) }
    }
    return all
  }

  func receive(_ bytes: ByteBuffer) throws { try channel.writeInbound(bytes) }

  // MARK: HTTP2Delegate

  func http2(
    _ handler: HTTP2Handler, headers: HeaderBlock, on stream: StreamID, endStream: Bool
  ) {
    if endStream { ended(headers) }
  }
  func http2(
    _ handler: HTTP2Handler, data: UnsafeRawBufferPointer, on stream: StreamID, endStream: Bool
  ) {}
  func http2(_ handler: HTTP2Handler, trailers: HeaderBlock, on stream: StreamID) { ended(trailers) }
  func http2(_ handler: HTTP2Handler, reset stream: StreamID, code: HTTP2ErrorCode) { failed += 1 }
  func http2Closed(_ handler: HTTP2Handler, error: (any Error)?) { failed += 1 }

  private func ended(_ trailers: HeaderBlock) {
    answered += 1
    if trailers.string(.grpcStatus) != "0" { failed += 1 }
  }
}
