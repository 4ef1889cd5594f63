import NIOCore
import Primitives

/// What a gRPC client's user is told. All calls come on the connection's event loop; bytes are
/// borrowed until the call returns. `tag` is what the user gave when starting the call.
public protocol GRPCClientDelegate: AnyObject {
  /// The channel is up: calls may be started.
  func grpcConnected(_ client: GRPCClientConnection)
  /// A message of the call's response. Unary calls have one, before `finished`.
  func grpc(
    _ client: GRPCClientConnection, received message: UnsafeRawBufferPointer, stream: StreamID,
    tag: UInt64)
  /// The call is over. Called exactly once for each call that was started.
  func grpc(
    _ client: GRPCClientConnection, finished status: GRPCStatus, stream: StreamID, tag: UInt64)
  /// What waited on the stream has been sent.
  func grpc(_ client: GRPCClientConnection, writable stream: StreamID, tag: UInt64)
  /// One read's events have all been delivered. Calls started until its end leave in one write.
  func grpcReadComplete(_ client: GRPCClientConnection)
  /// The server takes no new calls on this connection, or more of them than before.
  func grpcAvailabilityChanged(_ client: GRPCClientConnection)
  /// The connection is gone. All its calls have been finished with UNAVAILABLE before.
  func grpcClosed(_ client: GRPCClientConnection, error: (any Error)?)
}

extension GRPCClientDelegate {
  public func grpc(_ client: GRPCClientConnection, writable stream: StreamID, tag: UInt64) {}
  public func grpcReadComplete(_ client: GRPCClientConnection) {}
  public func grpcAvailabilityChanged(_ client: GRPCClientConnection) {}
}

/// The gRPC of one client connection: many calls in flight, unary and streaming.
///
/// Reconnecting, balancing and retries are the user's. The user keeps a `HeaderTemplate` per method
/// (`makeTemplate`), so that a call's head is a few bytes.
public final class GRPCClientConnection: HTTP2Delegate {
  public let authority: String
  public let scheme: String
  /// Bytes of the largest message taken.
  public let maxMessageSize: Int
  public private(set) var handler: HTTP2Handler!
  private weak var delegate: (any GRPCClientDelegate)?
  private var partial: [StreamID: GRPCMessages] = [:]

  /// `delegate` must outlive the connection; it is not retained.
  public init(
    authority: String, scheme: String = "http", delegate: any GRPCClientDelegate,
    maxMessageSize: Int = Int(Int32.max)
  ) {
    self.authority = authority
    self.scheme = scheme
    self.delegate = delegate
    self.maxMessageSize = maxMessageSize
  }

  /// The handler for the channel's pipeline, which keeps this object alive as long as the channel.
  /// With `automaticWindowUpdates` off, messages must be given back with `consume`.
  public func makeHandler(
    limits: HTTP2Limits = HTTP2Limits(), automaticWindowUpdates: Bool = true
  ) -> HTTP2Handler {
    let connection = HTTP2Connection(
      role: .client, limits: limits, automaticWindowUpdates: automaticWindowUpdates)
    let handler = HTTP2Handler(connection: connection, delegate: self)
    self.handler = handler
    return handler
  }

  /// The head of calls to a method such as `/etcdserverpb.KV/Range`.
  public func makeTemplate(path: String, metadata: [HeaderField] = []) -> HeaderTemplate {
    HeaderTemplate(
      [
        HeaderField(":method", "POST"), HeaderField(":scheme", scheme), HeaderField(":path", path),
        HeaderField(":authority", authority), HeaderField("content-type", "application/grpc"),
        HeaderField("te", "trailers"), HeaderField("user-agent", "martlet"),
      ] + metadata)
  }

  // MARK: Calls

  /// Whether a call can be started now.
  public var canStart: Bool { handler.connection.canOpenStream }

  /// Starts a unary call. Nil where the connection takes none now.
  public func call(
    _ head: HeaderTemplate, _ message: UnsafeRawBufferPointer, timeout: Duration? = nil,
    extra: [HeaderField] = [], tag: UInt64
  ) -> StreamID? {
    guard let stream = open(head, timeout: timeout, extra: extra, tag: tag) else { return nil }
    send(stream, message, last: true)
    return stream
  }

  /// Starts a streaming call. Nil where the connection takes none now.
  public func open(
    _ head: HeaderTemplate, timeout: Duration? = nil, extra: [HeaderField] = [], tag: UInt64
  ) -> StreamID? {
    var fields = extra
    if let timeout {
      fields.append(
        HeaderField(
          "grpc-timeout", GRPCTimeout.format(nanoseconds: timeout.wholeNanoseconds),
          indexing: .plain))
    }
    return handler.connection.openStream(head, extra: fields, endStream: false, tag: tag)
  }

  /// Sends a message of a call; the `last` one ends the client's half.
  @discardableResult
  public func send(_ stream: StreamID, _ message: UnsafeRawBufferPointer, last: Bool = false)
    -> Bool
  {
    if message.count <= 4_096 {
      return withUnsafeTemporaryAllocation(
        byteCount: GRPCMessages.prefixSize &+ message.count, alignment: 8
      ) { whole in
        GRPCMessages.writePrefix(message.count, to: whole.baseAddress!)
        if let from = message.baseAddress {
          (whole.baseAddress! + GRPCMessages.prefixSize).copyMemory(
            from: from, byteCount: message.count)
        }
        return handler.connection.sendData(stream, UnsafeRawBufferPointer(whole), endStream: last)
      }
    }
    let isOpen = withUnsafeTemporaryAllocation(
      byteCount: GRPCMessages.prefixSize, alignment: 8
    ) { prefix in
      GRPCMessages.writePrefix(message.count, to: prefix.baseAddress!)
      return handler.connection.sendData(stream, UnsafeRawBufferPointer(prefix))
    }
    return isOpen && handler.connection.sendData(stream, message, endStream: last)
  }

  /// Ends the client's half of a streaming call.
  public func endSending(_ stream: StreamID) {
    handler.connection.sendData(
      stream, UnsafeRawBufferPointer(start: nil, count: 0), endStream: true)
  }

  /// Gives a call up. `finished` is not called for it any more.
  public func cancel(_ stream: StreamID) {
    partial[stream] = nil
    handler.connection.reset(stream, .cancel)
  }

  /// The user is done with that many message bytes of a stream; the framing's are added here.
  public func consume(_ message: UnsafeRawBufferPointer, on stream: StreamID) {
    handler.connection.consume(message.count + GRPCMessages.prefixSize, on: stream)
  }

  /// Sends what was started outside of a read burst. Call it once after a batch of calls.
  public func flush() { handler.flush() }

  public func close() { handler.close() }

  // MARK: HTTP2Delegate

  public func http2Connected(_ handler: HTTP2Handler) { delegate?.grpcConnected(self) }

  public func http2(
    _ handler: HTTP2Handler, headers: HeaderBlock, on stream: StreamID, endStream: Bool
  ) {
    let tag = handler.connection.eventTag
    if headers.status != 200 {
      finish(
        stream, tag,
        headers.first(.grpcStatus) == nil
          ? GRPCStatus(httpStatus: headers.status) : status(in: headers))
    } else if endStream {
      finish(stream, tag, status(in: headers))
    }
  }

  public func http2(
    _ handler: HTTP2Handler, data: UnsafeRawBufferPointer, on stream: StreamID, endStream: Bool
  ) {
    let tag = handler.connection.eventTag
    if partial.isEmpty, let message = GRPCMessages.single(data), message.count <= maxMessageSize {
      delegate?.grpc(self, received: message, stream: stream, tag: tag)
    } else {
      var messages = partial.removeValue(forKey: stream) ?? GRPCMessages()
      let fault = messages.receive(data, maxSize: maxMessageSize) { message in
        if endStream || handler.connection.isOpen(stream) {
          delegate?.grpc(self, received: message, stream: stream, tag: tag)
        }
      }
      guard endStream || handler.connection.isOpen(stream) else { return }
      if fault != nil {
        finish(
          stream, tag, GRPCStatus(.resourceExhausted, "a message is compressed or too large"))
        return
      }
      if !messages.isEmpty { partial[stream] = messages }
    }
    if endStream {
      finish(stream, tag, GRPCStatus(.internal, "the server ended the stream without a status"))
    }
  }

  public func http2(_ handler: HTTP2Handler, trailers: HeaderBlock, on stream: StreamID) {
    finish(stream, handler.connection.eventTag, status(in: trailers))
  }

  public func http2(_ handler: HTTP2Handler, reset stream: StreamID, code: HTTP2ErrorCode) {
    finish(stream, handler.connection.eventTag, GRPCStatus(reset: code))
  }

  public func http2(_ handler: HTTP2Handler, writable stream: StreamID) {
    delegate?.grpc(self, writable: stream, tag: handler.connection.eventTag)
  }

  public func http2SettingsChanged(_ handler: HTTP2Handler) {
    delegate?.grpcAvailabilityChanged(self)
  }

  public func http2(
    _ handler: HTTP2Handler, goingAway lastStream: StreamID, code: HTTP2ErrorCode
  ) {
    delegate?.grpcAvailabilityChanged(self)
  }

  public func http2ReadComplete(_ handler: HTTP2Handler) { delegate?.grpcReadComplete(self) }

  public func http2Closed(_ handler: HTTP2Handler, error: (any Error)?) {
    let status = GRPCStatus(.unavailable, error.map { "\($0)" } ?? "the connection was closed")
    for stream in handler.connection.openStreams {
      finish(stream, handler.connection.tag(of: stream), status)
    }
    delegate?.grpcClosed(self, error: error)
  }

  private func finish(_ stream: StreamID, _ tag: UInt64, _ status: GRPCStatus) {
    if !partial.isEmpty { partial[stream] = nil }
    // The server may answer before we have sent everything, or break off inside its answer.
    if handler.connection.isOpen(stream) { handler.connection.reset(stream, .cancel) }
    delegate?.grpc(self, finished: status, stream: stream, tag: tag)
  }

  private func status(in headers: HeaderBlock) -> GRPCStatus {
    guard let text = headers.first(.grpcStatus),
      let number = Int(String(decoding: text, as: UTF8.self))
    else { return GRPCStatus(.internal, "the response has no grpc-status") }
    let message = headers.first(.grpcMessage).map { GRPCStatus.percentDecoded($0) } ?? ""
    return GRPCStatus(GRPCStatus.Code(rawValue: number) ?? .unknown, message)
  }
}
