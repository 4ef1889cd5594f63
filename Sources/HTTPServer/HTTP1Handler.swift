import Logging
import NIOCore
import NIOHTTP1
import NIOWebSocket

/// HTTP/1.1 on one connection: collects a request, runs the listener's handler, sends the response.
///
/// NIOHTTP1's pipelining handler below holds back the next request until this one's response has
/// ended, so there is at most one request in flight. All state belongs to the event loop; the
/// request's task reaches it through `ConnectionOutput`.
final class HTTP1Handler: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  private enum State {
    /// Between requests.
    case idle
    case collecting(HTTPRequestHead, body: [UInt8])
    /// Answered before its end was read: the rest is dropped and the connection then closed.
    case refusing
    case responding(Task<Void, Never>)
    case closed
    /// The connection is no longer ours.
    case upgraded(Task<Void, Never>?)
  }

  private let core: ListenerCore
  /// Takes the handlers that speak HTTP out of the pipeline, but for this one.
  private let removeHTTP: (ChannelHandlerContext) -> Void
  private let facts: ConnectionFacts
  private var state = State.idle
  /// Closes the connection where the client is too slow in the current state.
  private var timeout: Scheduled<Void>?

  init(
    core: ListenerCore, facts: ConnectionFacts,
    removeHTTP: @escaping (ChannelHandlerContext) -> Void
  ) {
    self.core = core
    self.facts = facts
    self.removeHTTP = removeHTTP
  }

  func handlerAdded(context: ChannelHandlerContext) {
    restartTimeout(core.limits.idle, context.channel)
  }

  func channelInactive(context: ChannelHandlerContext) {
    timeout?.cancel()
    if case .responding(let task) = state { task.cancel() }
    state = .closed
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    core.logger.debug("connection failed", metadata: ["error": "\(error)"])
    context.close(promise: nil)
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if event is DrainEvent, case .idle = state { context.close(promise: nil) }
    context.fireUserInboundEventTriggered(event)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch (unwrapInboundIn(data), state) {
    case (.head(let head), .idle):
      restartTimeout(core.limits.requestRead, context.channel)
      if let length = head.headers.first(name: "content-length").flatMap({ Int($0) }),
        length > core.limits.requestBodyBytes
      {
        refuse(context, head, 413, "the request's body is too large")
      } else {
        if head.headers.first(name: "expect")?.lowercased() == "100-continue" {
          context.writeAndFlush(
            wrapOutboundOut(.head(HTTPResponseHead(version: head.version, status: .continue))),
            promise: nil)
        }
        state = .collecting(head, body: [])
      }
    case (.body(let buffer), .collecting(let head, var body)):
      if body.count + buffer.readableBytes > core.limits.requestBodyBytes {
        refuse(context, head, 413, "the request's body is too large")
      } else {
        state = .idle  // Gives up the other reference, so that appending doesn't copy.
        body.append(contentsOf: buffer.readableBytesView)
        state = .collecting(head, body: body)
      }
    case (.end, .collecting(let head, let body)):
      timeout?.cancel()
      respond(context, head, body)
    case (.end, .refusing):
      context.close(promise: nil)
    case (_, .refusing), (_, .closed), (_, .upgraded):
      break
    case (_, .idle), (_, .collecting), (_, .responding):
      // The decoder and the pipelining handler below exclude these orders.
      context.close(promise: nil)
    }
  }

  private func restartTimeout(_ duration: Duration, _ channel: any Channel) {
    timeout?.cancel()
    timeout = channel.eventLoop.scheduleTask(in: TimeAmount(duration)) {
      channel.close(promise: nil)
    }
  }

  private func refuse(
    _ context: ChannelHandlerContext, _ head: HTTPRequestHead, _ status: Int, _ text: String
  ) {
    state = .refusing
    var response = HTTPResponse.text(status, text)
    response.fields["Connection"] = "close"
    writeWhole(context, response, isHead: false, keepAlive: false, version: head.version)
  }

  private func respond(_ context: ChannelHandlerContext, _ head: HTTPRequestHead, _ body: [UInt8]) {
    guard let target = RequestTarget(head.uri) else {
      refuse(context, head, 400, "the request's target is malformed")
      context.close(promise: nil)
      return
    }
    let request = HTTPRequest(
      method: head.method.rawValue, target: target,
      fields: HTTPFields(head.headers.map { HTTPFields.Field(name: $0.name, value: $0.value) }),
      body: body, connection: facts)
    let output = ConnectionOutput(
      handler: NIOLoopBound(self, eventLoop: context.eventLoop),
      context: NIOLoopBound(context, eventLoop: context.eventLoop),
      loop: context.eventLoop, channel: context.channel, limits: core.limits)
    let run = core.handler
    let isHead = head.method == .HEAD
    let version = head.version
    // NIO's parser stops behind a request that asks for another protocol, taken or not.
    let mayKeepAlive = head.isKeepAlive && !head.headers.contains(name: "upgrade")
    state = .responding(
      Task {
        let response = await run(request)
        await output.send(response, isHead: isHead, mayKeepAlive: mayKeepAlive, version: version)
      })
  }

  // MARK: Called by `ConnectionOutput`, on the event loop

  /// Writes a whole response and gets ready for the next request.
  fileprivate func finishWhole(
    _ context: ChannelHandlerContext, _ response: HTTPResponse, isHead: Bool, mayKeepAlive: Bool,
    version: HTTPVersion
  ) {
    guard case .responding = state else { return }
    let keepAlive = mayKeepAlive && !core.isDraining
    state = keepAlive ? .idle : .refusing
    restartTimeout(keepAlive ? core.limits.idle : core.limits.writeStall, context.channel)
    writeWhole(context, response, isHead: isHead, keepAlive: keepAlive, version: version)
  }

  /// Writes the head of a streamed response.
  fileprivate func beginStream(
    _ context: ChannelHandlerContext, _ response: HTTPResponse, version: HTTPVersion
  ) -> Bool {
    guard case .responding = state else { return false }
    var head = makeHead(response, version: version)
    if version != .http1_1 { head.headers.replaceOrAdd(name: "Connection", value: "close") }
    context.writeAndFlush(wrapOutboundOut(.head(head)), promise: nil)
    return true
  }

  fileprivate func writePiece(
    _ context: ChannelHandlerContext, _ bytes: [UInt8], promise: EventLoopPromise<Void>
  ) {
    guard case .responding = state else {
      promise.fail(HTTPServerError(.connectionClosed, "the client closed the connection"))
      return
    }
    let channel = context.channel
    restartTimeout(core.limits.writeStall, channel)
    let stall = timeout
    promise.futureResult.whenComplete { _ in stall?.cancel() }
    let buffer = channel.allocator.buffer(bytes: bytes)
    context.writeAndFlush(wrapOutboundOut(.body(.byteBuffer(buffer))), promise: promise)
  }

  fileprivate func endStream(
    _ context: ChannelHandlerContext, mayKeepAlive: Bool, version: HTTPVersion
  ) {
    guard case .responding = state else { return }
    let keepAlive = mayKeepAlive && version == .http1_1 && !core.isDraining
    state = keepAlive ? .idle : .refusing
    restartTimeout(keepAlive ? core.limits.idle : core.limits.writeStall, context.channel)
    let promise = keepAlive ? nil : context.eventLoop.makePromise(of: Void.self)
    let channel = context.channel
    promise?.futureResult.whenComplete { _ in channel.close(promise: nil) }
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: promise)
  }

  /// Answers with 101 and hands the connection over; nil if it is gone.
  fileprivate func upgrade(
    _ context: ChannelHandlerContext, _ response: HTTPResponse, to framing: HTTPResponse.Framing,
    version: HTTPVersion
  ) throws -> ByteStream? {
    guard case .responding = state, version == .http1_1, context.channel.isActive else {
      context.close(promise: nil)
      return nil
    }
    timeout?.cancel()
    state = .upgraded(nil)
    context.write(wrapOutboundOut(.head(makeHead(response, version: version))), promise: nil)
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    let pipeline = context.pipeline.syncOperations
    if case .webSocket = framing {
      // The decoder comes last: it forwards what it has to what stands behind it.
      try pipeline.addHandler(WebSocketFrameEncoder())
      try pipeline.addHandler(
        ByteToMessageHandler(WebSocketFrameDecoder(maxFrameSize: core.limits.messageBytes)))
      try pipeline.addHandler(WebSocketProtocolErrorHandler())
      try pipeline.addHandler(
        NIOWebSocketFrameAggregator(
          minNonFinalFragmentSize: 0, maxAccumulatedFrameCount: 1_024,
          maxAccumulatedFrameSize: core.limits.messageBytes))
      try pipeline.addHandler(WebSocketMessages())
    }
    let stream = try ByteStream.attach(to: context.channel)
    removeHTTP(context)
    pipeline.removeHandler(self, promise: nil)
    return stream
  }

  private func makeHead(_ response: HTTPResponse, version: HTTPVersion) -> HTTPResponseHead {
    var headers = HTTPHeaders()
    for field in response.fields.fields { headers.add(name: field.name, value: field.value) }
    headers.add(name: "Date", value: HTTPDate.now())
    return HTTPResponseHead(
      version: version, status: HTTPResponseStatus(statusCode: response.status), headers: headers)
  }

  private func writeWhole(
    _ context: ChannelHandlerContext, _ response: HTTPResponse, isHead: Bool, keepAlive: Bool,
    version: HTTPVersion
  ) {
    guard case .bytes(let bytes) = response.body else { return }
    var head = makeHead(response, version: version)
    if response.status != 204, response.status != 304 {
      head.headers.replaceOrAdd(name: "Content-Length", value: String(bytes.count))
    }
    if !keepAlive { head.headers.replaceOrAdd(name: "Connection", value: "close") }
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    if !isHead, !bytes.isEmpty, response.status != 204, response.status != 304 {
      let buffer = context.channel.allocator.buffer(bytes: bytes)
      context.write(wrapOutboundOut(.body(.byteBuffer(buffer))), promise: nil)
    }
    let promise = keepAlive ? nil : context.eventLoop.makePromise(of: Void.self)
    let channel = context.channel
    promise?.futureResult.whenComplete { _ in channel.close(promise: nil) }
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: promise)
  }
}

/// The way from a request's task to its connection.
private struct ConnectionOutput: Sendable {
  let handler: NIOLoopBound<HTTP1Handler>
  let context: NIOLoopBound<ChannelHandlerContext>
  let loop: any EventLoop
  let channel: any Channel
  let limits: HTTPLimits

  func send(
    _ response: HTTPResponse, isHead: Bool, mayKeepAlive: Bool, version: HTTPVersion
  ) async {
    switch response.body {
    case .upgrade(let framing, let serve):
      do {
        let stream = try await loop.submit {
          try handler.value.upgrade(context.value, response, to: framing, version: version)
        }.get()
        guard let stream else { return }
        await serve(stream)
        stream.close()
      } catch {
        channel.close(promise: nil)
      }
    case .stream(let produce) where !isHead:
      do {
        let begun = try await loop.submit {
          handler.value.beginStream(context.value, response, version: version)
        }.get()
        guard begun else { return }
        try await produce(ResponseWriter { bytes in try await write(bytes) })
        loop.execute {
          handler.value.endStream(context.value, mayKeepAlive: mayKeepAlive, version: version)
        }
      } catch {
        // Cutting the connection is the only way to say "incomplete" once the head is out.
        channel.close(promise: nil)
      }
    case .bytes, .stream:
      var whole = response
      if case .stream = response.body { whole.body = .bytes([]) }
      let answer = whole
      loop.execute {
        handler.value.finishWhole(
          context.value, answer, isHead: isHead, mayKeepAlive: mayKeepAlive, version: version)
      }
    }
  }

  private func write(_ bytes: [UInt8]) async throws {
    let promise = loop.makePromise(of: Void.self)
    loop.execute { handler.value.writePiece(context.value, bytes, promise: promise) }
    try await promise.futureResult.get()
  }
}
