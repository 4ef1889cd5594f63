import HTTP2
import NIOCore

/// HTTP/2 on one connection: collects requests, runs the listener's handler for each, sends responses.
///
/// All state belongs to the connection's event loop; a request's task reaches it through
/// `StreamOutput`. A piece of a streamed response counts as sent when nothing of it waits for the
/// client's flow-control window any more, so each stream holds its own producer back and no other.
final class HTTP2Exchange: HTTP2Delegate {
  private struct Stream {
    var request: HTTPRequest?
    var task: Task<Void, Never>?
    /// A piece that waits for the client's window, and what ends the wait.
    var pending: EventLoopPromise<Void>?
    var stall: Scheduled<Void>?
  }

  private let core: ListenerCore
  private let facts: ConnectionFacts
  private var streams: [StreamID: Stream] = [:]

  init(core: ListenerCore, facts: ConnectionFacts) {
    self.core = core
    self.facts = facts
  }

  /// The handler for the channel. It keeps this object for as long as the channel lives.
  func makeHandler() -> HTTP2Handler {
    var limits = HTTP2Limits()
    limits.maxConcurrentStreams = core.limits.concurrentStreams
    limits.maxHeaderListSize = core.limits.requestHeadBytes
    limits.drainTimeout = core.limits.drain
    return HTTP2Handler(
      connection: HTTP2Connection(role: .server, limits: limits), delegate: self)
  }

  // MARK: Requests

  func http2(
    _ handler: HTTP2Handler, headers: HeaderBlock, on stream: StreamID, endStream: Bool
  ) {
    guard let target = RequestTarget(String(decoding: headers.path, as: UTF8.self)) else {
      refuse(handler, stream, 400, "the request's target is malformed")
      return
    }
    if headers.contentLength > Int64(core.limits.requestBodyBytes) {
      refuse(handler, stream, 413, "the request's body is too large")
      return
    }
    var fields = HTTPFields()
    for (name, value) in headers.copyFields() where !name.hasPrefix(":") {
      fields.append(name, value)
    }
    streams[stream] = Stream(
      request: HTTPRequest(
        method: String(decoding: headers.method, as: UTF8.self), target: target, fields: fields,
        body: [], connection: facts))
    if endStream { dispatch(handler, stream) }
  }

  func http2(
    _ handler: HTTP2Handler, data: UnsafeRawBufferPointer, on stream: StreamID, endStream: Bool
  ) {
    guard let size = streams[stream]?.request?.body.count else { return }
    if size + data.count > core.limits.requestBodyBytes {
      streams[stream] = nil
      refuse(handler, stream, 413, "the request's body is too large")
      return
    }
    streams[stream]?.request?.body.append(contentsOf: data)
    if endStream { dispatch(handler, stream) }
  }

  func http2(_ handler: HTTP2Handler, trailers: HeaderBlock, on stream: StreamID) {
    dispatch(handler, stream)
  }

  private func dispatch(_ handler: HTTP2Handler, _ stream: StreamID) {
    guard let loop = handler.eventLoop, let request = streams[stream]?.request else { return }
    streams[stream]?.request = nil
    let output = StreamOutput(
      exchange: NIOLoopBound(self, eventLoop: loop),
      handler: NIOLoopBound(handler, eventLoop: loop), loop: loop, stream: stream)
    let run = core.handler
    let isHead = request.method == "HEAD"
    streams[stream]?.task = Task {
      let response = await run(request)
      await output.send(response, isHead: isHead)
    }
  }

  private func refuse(_ handler: HTTP2Handler, _ stream: StreamID, _ status: Int, _ text: String) {
    finishWhole(handler, stream, .text(status, text), isHead: false)
  }

  // MARK: The end of streams

  func http2(_ handler: HTTP2Handler, reset stream: StreamID, code: HTTP2ErrorCode) {
    drop(stream)
  }

  func http2Closed(_ handler: HTTP2Handler, error: (any Error)?) {
    for stream in Array(streams.keys) { drop(stream) }
  }

  private func drop(_ id: StreamID) {
    guard let stream = streams.removeValue(forKey: id) else { return }
    stream.task?.cancel()
    stream.stall?.cancel()
    stream.pending?.fail(
      HTTPServerError(.connectionClosed, "the client gave the request up"))
  }

  // MARK: Responses, on the event loop

  fileprivate func finishWhole(
    _ handler: HTTP2Handler, _ stream: StreamID, _ response: HTTPResponse, isHead: Bool
  ) {
    streams[stream] = nil
    guard case .bytes(let bytes) = response.body else { return }
    let hasBody = !isHead && !bytes.isEmpty && response.status != 204 && response.status != 304
    var response = response
    if response.status != 204 && response.status != 304 {
      response.fields["Content-Length"] = String(bytes.count)
    }
    handler.connection.sendHeaders(stream, head(response), endStream: !hasBody)
    if hasBody {
      bytes.withUnsafeBytes { _ = handler.connection.sendData(stream, $0, endStream: true) }
    }
    handler.flush()
  }

  fileprivate func beginStream(
    _ handler: HTTP2Handler, _ stream: StreamID, _ response: HTTPResponse
  ) -> Bool {
    guard streams[stream] != nil,
      handler.connection.sendHeaders(stream, head(response))
    else { return false }
    handler.flush()
    return true
  }

  fileprivate func writePiece(
    _ handler: HTTP2Handler, _ stream: StreamID, _ bytes: [UInt8],
    promise: EventLoopPromise<Void>
  ) {
    let isSent =
      streams[stream] != nil
      && bytes.withUnsafeBytes { handler.connection.sendData(stream, $0) }
    guard isSent, let loop = handler.eventLoop else {
      promise.fail(HTTPServerError(.connectionClosed, "the client gave the request up"))
      return
    }
    // Set before flushing, which may report the stream writable at once.
    streams[stream]?.pending = promise
    let exchange = NIOLoopBound(self, eventLoop: loop)
    let bound = NIOLoopBound(handler, eventLoop: loop)
    streams[stream]?.stall = loop.scheduleTask(in: TimeAmount(core.limits.writeStall)) {
      bound.value.connection.reset(stream, .cancel)
      exchange.value.drop(stream)
      bound.value.flush()
    }
    handler.flush()
    if handler.connection.queuedBytes(on: stream) == 0, !handler.isCongested {
      http2(handler, writable: stream)
    } else if handler.isCongested {
      congested.insert(stream)
    }
  }

  /// Streams whose piece is framed but waits for the socket.
  private var congested: Set<StreamID> = []

  /// The socket has caught up: what waited only for it goes on.
  func resumeCongested(_ handler: HTTP2Handler) {
    guard !congested.isEmpty, !handler.isCongested else { return }
    let waiting = congested
    congested = []
    for stream in waiting where handler.connection.queuedBytes(on: stream) == 0 {
      http2(handler, writable: stream)
    }
  }

  func http2(_ handler: HTTP2Handler, writable stream: StreamID) {
    guard let pending = streams[stream]?.pending else { return }
    streams[stream]?.pending = nil
    streams[stream]?.stall?.cancel()
    streams[stream]?.stall = nil
    pending.succeed()
  }

  fileprivate func endStream(_ handler: HTTP2Handler, _ stream: StreamID, isComplete: Bool) {
    guard streams.removeValue(forKey: stream) != nil else { return }
    if isComplete {
      handler.connection.sendData(
        stream, UnsafeRawBufferPointer(start: nil, count: 0), endStream: true)
    } else {
      handler.connection.reset(stream, .internalError)
    }
    handler.flush()
  }

  private func head(_ response: HTTPResponse) -> HeaderTemplate {
    var fields = [HeaderField(":status", String(response.status))]
    for field in response.fields.fields {
      let name = field.name.lowercased()
      // What belongs to a connection has no place here (RFC 9113, section 8.2.2).
      if ["connection", "keep-alive", "transfer-encoding", "upgrade"].contains(name) { continue }
      fields.append(HeaderField(name, field.value, indexing: .plain))
    }
    fields.append(HeaderField("date", HTTPDate.now(), indexing: .plain))
    return HeaderTemplate(fields, isReusable: false)
  }
}

/// The way from a request's task to its stream.
private struct StreamOutput: Sendable {
  let exchange: NIOLoopBound<HTTP2Exchange>
  let handler: NIOLoopBound<HTTP2Handler>
  let loop: any EventLoop
  let stream: StreamID

  func send(_ response: HTTPResponse, isHead: Bool) async {
    switch response.body {
    case .stream(let produce) where !isHead:
      do {
        let begun = try await loop.submit {
          exchange.value.beginStream(handler.value, stream, response)
        }.get()
        guard begun else { return }
        try await produce(ResponseWriter { bytes in try await write(bytes) })
        end(isComplete: true)
      } catch {
        end(isComplete: false)
      }
    case .bytes, .stream, .upgrade:
      var whole = response
      switch response.body {
      case .bytes: break
      case .stream: whole.body = .bytes([])
      // RFC 9113, section 8.6: HTTP/2 has no upgrade.
      case .upgrade: whole = .text(400, "an upgrade needs HTTP/1.1")
      }
      let answer = whole
      loop.execute {
        exchange.value.finishWhole(handler.value, stream, answer, isHead: isHead)
      }
    }
  }

  private func end(isComplete: Bool) {
    loop.execute { exchange.value.endStream(handler.value, stream, isComplete: isComplete) }
  }

  private func write(_ bytes: [UInt8]) async throws {
    let promise = loop.makePromise(of: Void.self)
    loop.execute {
      exchange.value.writePiece(handler.value, stream, bytes, promise: promise)
    }
    try await promise.futureResult.get()
  }
}

/// Stands behind the HTTP/2 handler and tells it, and the exchange, what happens to the channel.
final class HTTP2Attendant: ChannelInboundHandler {
  typealias InboundIn = Never

  private let handler: HTTP2Handler
  private let exchange: HTTP2Exchange

  init(handler: HTTP2Handler, exchange: HTTP2Exchange) {
    self.handler = handler
    self.exchange = exchange
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if event is DrainEvent { handler.drain() }
    context.fireUserInboundEventTriggered(event)
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    exchange.resumeCongested(handler)
    context.fireChannelWritabilityChanged()
  }
}
