/// What a handler answers: a head, and a body that is bytes or is produced piece by piece.
public struct HTTPResponse: Sendable {
  public enum Body: Sendable {
    /// Sent with its length.
    case bytes([UInt8])
    /// Sent as the producer writes it, chunked on HTTP/1.1. The response ends when the producer
    /// returns; if it throws, the connection (or the HTTP/2 stream) is cut, so that a client never
    /// takes half a body for a whole one. The producer's task is cancelled when the client goes away.
    case stream(@Sendable (ResponseWriter) async throws -> Void)
    /// The connection leaves HTTP: once the head (status 101) is sent, its bytes belong to the handler,
    /// and it closes when the handler returns. HTTP/1.1 only.
    case upgrade(Framing, @Sendable (ByteStream) async -> Void)
  }

  /// What an upgraded connection carries.
  public enum Framing: Sendable {
    /// Bytes as they come.
    case bytes
    /// WebSocket messages, at most `HTTPLimits.messageBytes` long.
    case webSocket
  }

  /// The status code, 200...599.
  public var status: Int
  public var fields: HTTPFields
  public var body: Body

  public init(status: Int, fields: HTTPFields = [:], body: Body = .bytes([])) {
    self.status = status
    self.fields = fields
    self.body = body
  }

  /// A short plain text, with a line end added.
  public static func text(_ status: Int, _ text: String) -> HTTPResponse {
    HTTPResponse(
      status: status, fields: ["Content-Type": "text/plain; charset=utf-8"],
      body: .bytes(Array((text + "\n").utf8)))
  }
}

/// The writing end of a streamed body.
///
/// `write` returns when the bytes have been handed to the kernel (or to the peer's flow-control
/// window), so a producer never runs ahead of a slow reader by more than one piece.
public struct ResponseWriter: Sendable {
  let send: @Sendable ([UInt8]) async throws -> Void

  public init(send: @escaping @Sendable ([UInt8]) async throws -> Void) { self.send = send }

  /// Sends one piece. Empty pieces are ignored.
  ///
  /// - Throws: `HTTPServerError` where the connection is gone or the reader is stalled for longer
  ///   than `HTTPLimits.writeStall`; `CancellationError` where the client went away.
  public func write(_ bytes: [UInt8]) async throws {
    try Task.checkCancellation()
    if bytes.isEmpty { return }
    try await send(bytes)
  }
}
