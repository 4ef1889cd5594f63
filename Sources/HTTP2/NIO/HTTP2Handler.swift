import NIOCore
import Primitives

/// What the user of a connection is told. All calls come on the channel's event loop. Bytes and
/// header blocks are borrowed: good until the call returns.
///
/// Any method of `handler.connection` may be called meanwhile. What is sent during a read burst goes
/// out at its end in one write; at other times call `handler.flush()` once after sending.
public protocol HTTP2Delegate: AnyObject {
  /// The connection is up: a client may open streams (before the server's settings, as HTTP/2 allows).
  func http2Connected(_ handler: HTTP2Handler)
  /// A request's head on a server, a response's on a client.
  func http2(
    _ handler: HTTP2Handler, headers: HeaderBlock, on stream: StreamID, endStream: Bool)
  /// A piece of the body; may be empty where it only ends the stream.
  func http2(
    _ handler: HTTP2Handler, data: UnsafeRawBufferPointer, on stream: StreamID, endStream: Bool)
  /// Trailers, which end the peer's half of the stream.
  func http2(_ handler: HTTP2Handler, trailers: HeaderBlock, on stream: StreamID)
  /// The stream is gone: the peer reset it, or broke a rule on it.
  func http2(_ handler: HTTP2Handler, reset stream: StreamID, code: HTTP2ErrorCode)
  /// Nothing waits on the stream any more, so more may be sent.
  func http2(_ handler: HTTP2Handler, writable stream: StreamID)
  /// The peer's settings arrived or changed.
  func http2SettingsChanged(_ handler: HTTP2Handler)
  /// The peer takes no new streams.
  func http2(_ handler: HTTP2Handler, goingAway lastStream: StreamID, code: HTTP2ErrorCode)
  /// All events of one read have been delivered; the output is about to be sent.
  func http2ReadComplete(_ handler: HTTP2Handler)
  /// The connection is gone, and all its streams with it. Called once.
  func http2Closed(_ handler: HTTP2Handler, error: (any Error)?)
}

extension HTTP2Delegate {
  public func http2Connected(_ handler: HTTP2Handler) {}
  public func http2(_ handler: HTTP2Handler, writable stream: StreamID) {}
  public func http2SettingsChanged(_ handler: HTTP2Handler) {}
  public func http2(
    _ handler: HTTP2Handler, goingAway lastStream: StreamID, code: HTTP2ErrorCode
  ) {}
  public func http2ReadComplete(_ handler: HTTP2Handler) {}
}

/// Joins an `HTTP2Connection` to a NIO channel: the one handler of that channel (behind TLS, if any).
///
/// One read from the socket is one burst: its frames are handed out one by one, and what was answered
/// meanwhile leaves in one write. A socket that takes no more writes stops being read, so a peer that
/// doesn't read its answers can't make us prepare more of them.
public final class HTTP2Handler: ChannelInboundHandler, ChannelOutboundHandler {
  public typealias InboundIn = ByteBuffer
  public typealias OutboundIn = Never
  public typealias OutboundOut = ByteBuffer

  public let connection: HTTP2Connection
  /// Held until the channel is closed.
  public private(set) var delegate: (any HTTP2Delegate)?
  private var context: ChannelHandlerContext?
  /// A frame whose end has not arrived.
  private var partial = ByteBuffer()
  private var isInBurst = false
  private var readWasSuppressed = false
  private var isClosing = false
  private var keepAliveTask: RepeatedTask?
  private var failure: (any Error)?
  /// Where this connection accounts for what it holds, with all others of its server; nil to account nowhere.
  public var held: HeldBytes?
  /// What it has accounted for.
  private var accounted = 0

  public init(connection: HTTP2Connection, delegate: any HTTP2Delegate) {
    self.connection = connection
    self.delegate = delegate
  }

  /// The channel's event loop; nil before the channel is up and after it is closed.
  public var eventLoop: (any EventLoop)? { context?.eventLoop }
  public var channel: (any Channel)? { context?.channel }

  /// Whether the socket is behind: nothing more leaves until it has caught up.
  public var isCongested: Bool { context.map { !$0.channel.isWritable } ?? true }

  // MARK: Life

  public func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    if context.channel.isActive { begin(context) }
  }

  public func channelActive(context: ChannelHandlerContext) {
    begin(context)
    context.fireChannelActive()
  }

  private func begin(_ context: ChannelHandlerContext) {
    guard keepAliveTask == nil, !isClosing else { return }
    connection.noteReceived(at: Self.now())
    connection.start()
    let period = TimeAmount.nanoseconds(
      Int64(clamping: max(connection.limits.keepAliveTimeout.wholeNanoseconds / 2, 1_000_000)))
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    keepAliveTask = context.eventLoop.scheduleRepeatedTask(initialDelay: period, delay: period) {
      _ in
      bound.value.keepAlive()
    }
    delegate?.http2Connected(self)
    flush()
  }

  public func channelInactive(context: ChannelHandlerContext) {
    ended()
    context.fireChannelInactive()
  }

  public func handlerRemoved(context: ChannelHandlerContext) { ended() }

  private func ended() {
    isClosing = true
    keepAliveTask?.cancel()
    keepAliveTask = nil
    context = nil
    if let held { _ = held.change(by: -accounted) }
    accounted = 0
    guard let delegate else { return }
    self.delegate = nil
    delegate.http2Closed(self, error: failure)
  }

  public func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if failure == nil { failure = error }
    close()
  }

  /// Closes the connection at once; streams that are open end with it.
  public func close() {
    guard !isClosing, let context else { return }
    isClosing = true
    context.close(promise: nil)
  }

  /// Ends the connection over a mistake that its user found: GOAWAY tells the peer.
  func fail(_ error: HTTP2Error) {
    if failure == nil { failure = error }
    connection.fail(error)
    flush()
  }

  /// Lets open streams end, takes no new ones, and closes then or after `limits.drainTimeout`.
  public func drain() {
    guard !isClosing, let context else { return }
    connection.drain()
    flush()
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    context.eventLoop.scheduleTask(
      in: .nanoseconds(Int64(clamping: connection.limits.drainTimeout.wholeNanoseconds))
    ) { bound.value.close() }
  }

  private func keepAlive() {
    connection.now = Self.now()
    if connection.keepAlive() {
      flush()
    } else {
      failure = HTTP2Error(.noError, "the peer did not answer a keep-alive PING")
      close()
    }
  }

  static func now() -> Instant { Instant(nanoseconds: NIODeadline.now().uptimeNanoseconds) }

  // MARK: In

  public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var buffer = unwrapInboundIn(data)
    if isClosing { return }
    connection.noteReceived(at: Self.now())
    isInBurst = true
    if partial.readableBytes > 0 {
      partial.writeBuffer(&buffer)
      let used = process(partial)
      partial.moveReaderIndex(forwardBy: used)
      partial.discardReadBytes()
      if partial.readableBytes == 0 { partial = ByteBuffer() }
    } else {
      let used = process(buffer)
      if used < buffer.readableBytes {
        buffer.moveReaderIndex(forwardBy: used)
        partial = context.channel.allocator.buffer(capacity: max(buffer.readableBytes, 1_024))
        partial.writeBuffer(&buffer)
      }
    }
  }

  private func process(_ buffer: ByteBuffer) -> Int {
    buffer.withUnsafeReadableBytes { bytes in
      var input = HTTP2Connection.Input(bytes)
      while let event = connection.nextEvent(&input) {
        deliver(event)
        if isClosing { return bytes.count }
      }
      return input.offset
    }
  }

  @inline(__always)
  private func deliver(_ event: HTTP2Connection.Event) {
    guard let delegate else { return }
    switch event {
    case .headers(let stream, let endStream):
      delegate.http2(self, headers: connection.headers, on: stream, endStream: endStream)
    case .data(let stream, let bytes, let endStream):
      delegate.http2(self, data: bytes, on: stream, endStream: endStream)
    case .trailers(let stream):
      delegate.http2(self, trailers: connection.headers, on: stream)
    case .reset(let stream, let code):
      delegate.http2(self, reset: stream, code: code)
    case .writable(let stream):
      delegate.http2(self, writable: stream)
    case .settings:
      delegate.http2SettingsChanged(self)
    case .goAway(let lastStream, let code):
      delegate.http2(self, goingAway: lastStream, code: code)
    case .pong:
      break
    case .failed(let error):
      failure = error
    }
  }

  public func channelReadComplete(context: ChannelHandlerContext) {
    if isInBurst {
      delegate?.http2ReadComplete(self)
      isInBurst = false
    }
    flush()
    context.fireChannelReadComplete()
  }

  /// Reads are asked for by the channel after each read; a congested socket's wait.
  public func read(context: ChannelHandlerContext) {
    if context.channel.isWritable {
      context.read()
    } else {
      readWasSuppressed = true
    }
  }

  public func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable {
      flush()
      if readWasSuppressed, context.channel.isWritable {
        readWasSuppressed = false
        context.read()
      }
    }
    context.fireChannelWritabilityChanged()
  }

  // MARK: Out

  /// Sends what has been written to the connection. Does nothing within a read burst, at whose end
  /// everything is sent at once.
  public func flush() {
    guard !isInBurst, let context else { return }
    // A write may complete at once and let waiting streams go on, whose users may write more.
    while context.channel.isWritable {
      connection.pump()
      if connection.output.isEmpty {
        guard let event = connection.takePendingEvent() else { break }
        deliver(event)
        continue
      }
      var buffer = context.channel.allocator.buffer(capacity: connection.output.count)
      buffer.writeBytes(connection.output.bytes)
      connection.output.removeAll()
      context.writeAndFlush(wrapOutboundOut(buffer), promise: nil)
    }
    account(context)
    if connection.isFailed || connection.isDrained, self.context != nil { close() }
  }

  /// Tells `held` what this connection holds, and ends it if that is too much.
  private func account(_ context: ChannelHandlerContext) {
    guard let held, self.context != nil else { return }
    var own =
      connection.queuedBytes &+ connection.output.count &+ connection.unfinishedBytes
      &+ partial.readableBytes
    if !context.channel.isWritable {
      // What the socket doesn't take.
      own &+= (try? context.channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
    }
    if own == accounted { return }
    let isTooMuch = held.change(by: own &- accounted)
    accounted = own
    guard isTooMuch, own > held.share, !connection.isFailed else { return }
    let error = HTTP2Error(
      .enhanceYourCalm, "\(own) bytes are held for the peer, while the server holds too many")
    if failure == nil { failure = error }
    connection.fail(error)
  }
}
