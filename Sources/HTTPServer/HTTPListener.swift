import HTTP2
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NIOTLS
import Synchronization

/// A port that serves HTTP: the API server's and the node agent's.
///
/// # The problem
///
/// Both servers answer many short requests and keep thousands of long ones open (watches, followed
/// logs). A long response must not be produced faster than its reader takes it, must stop when its
/// reader leaves, and must not keep the process from stopping.
///
/// # The design
///
/// A connection is one `Channel` on one event loop. TLS comes first where it is configured, and ALPN
/// decides between HTTP/2 and HTTP/1.1; without TLS it is HTTP/1.1. A request is collected, within
/// bounds, and then handed to `handler` in one `Task` of its own, which is cancelled when its
/// connection (or HTTP/2 stream) closes. The handler returns a response whose body is bytes, or is
/// written piece by piece through a `ResponseWriter` that suspends until the piece is on its way.
///
/// Stopping is orderly: cancel the task that runs `run()`. The port closes at once, idle connections
/// close, requests in flight have `limits.drain` to finish and are then cancelled.
///
/// # Worked example
///
///     let listener = HTTPListener(address: "127.0.0.1", port: 6443, tls: tls) { request in
///       .text(200, "you asked for \(request.target.path)")
///     }
///     let port = try await listener.bind()   // the port, also where 0 asked for any
///     try await listener.run()               // until cancelled
///
/// # What is left out
///
/// Streamed request bodies (see `HTTPRequest`) and HTTP/2 without TLS, which no client of ours speaks.
public final class HTTPListener: Sendable {
  public typealias Handler = @Sendable (HTTPRequest) async -> HTTPResponse

  let address: String
  let port: Int
  let tls: TLSSettings?
  let core: ListenerCore
  private let group: MultiThreadedEventLoopGroup
  private let onDrain: @Sendable () -> Void
  private let bound = Mutex<(any Channel)?>(nil)

  /// - Parameters:
  ///   - address: a numeric address or a host name of this machine; `::` means all addresses.
  ///   - port: 0 asks for any free one.
  ///   - onDrain: called when the port has closed and before requests in flight are waited for; here
  ///     a server ends the responses that would never end by themselves.
  public init(
    address: String, port: Int, tls: TLSSettings?, limits: HTTPLimits = HTTPLimits(),
    group: MultiThreadedEventLoopGroup = .singleton,
    logger: Logger = Logger(label: "martlet.http"), onDrain: @escaping @Sendable () -> Void = {},
    handler: @escaping Handler
  ) {
    self.onDrain = onDrain
    self.address = address
    self.port = port
    self.tls = tls
    self.group = group
    self.core = ListenerCore(limits: limits, logger: logger, handler: handler)
  }

  /// Opens the port. Requests are served from here on.
  ///
  /// - Returns: the port that was opened.
  /// - Throws: `HTTPServerError` with a message that names the address.
  @discardableResult
  public func bind() async throws -> Int {
    let context = try tls?.makeContext(protocols: core.protocols)
    let core = core
    let bootstrap = ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 1024)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try core.install(on: channel, context: context) }
      }
    let channel: any Channel
    do {
      channel = try await bootstrap.bind(host: address, port: port).get()
    } catch {
      throw HTTPServerError(.cannotListen, "can't listen on \(address):\(port): \(error)")
    }
    bound.withLock { $0 = channel }
    return channel.localAddress?.port ?? port
  }

  /// The port that is open; nil before `bind`.
  public var boundPort: Int? { bound.withLock { $0?.localAddress?.port } }

  /// Serves until the surrounding task is cancelled, then drains. Opens the port if `bind` didn't.
  public func run() async throws {
    if bound.withLock({ $0 }) == nil { try await bind() }
    guard let channel = bound.withLock({ $0 }) else { return }
    let closed = channel.closeFuture
    try await withTaskCancellationHandler {
      try await closed.get()
    } onCancel: {
      channel.close(promise: nil)
    }
    onDrain()
    await core.drain()
  }
}

/// What the connections of one listener share.
final class ListenerCore: Sendable {
  let limits: HTTPLimits
  let logger: Logger
  let handler: HTTPListener.Handler
  /// The protocols offered by ALPN, preferred one first.
  let protocols = ["h2", "http/1.1"]

  private struct State {
    var connections: [ObjectIdentifier: any Channel] = [:]
    var isDraining = false
  }
  private let state = Mutex(State())

  init(limits: HTTPLimits, logger: Logger, handler: @escaping HTTPListener.Handler) {
    self.limits = limits
    self.logger = logger
    self.handler = handler
  }

  var isDraining: Bool { state.withLock { $0.isDraining } }

  /// Sets up an accepted connection, on its event loop.
  func install(on channel: any Channel, context: NIOSSLContext?) throws {
    let admitted = state.withLock { state in
      if state.isDraining || state.connections.count >= limits.connections { return false }
      state.connections[ObjectIdentifier(channel)] = channel
      return true
    }
    guard admitted else {
      channel.close(promise: nil)
      return
    }
    channel.closeFuture.whenComplete { [self] _ in
      state.withLock { $0.connections[ObjectIdentifier(channel)] = nil }
    }
    if let context {
      let handshake = NIOSSLServerHandler(context: context)
      try channel.pipeline.syncOperations.addHandler(handshake)
      try channel.pipeline.syncOperations.addHandler(
        ProtocolChooser(core: self, tls: handshake))
    } else {
      try installHTTP1(
        on: channel,
        facts: ConnectionFacts(
          peerAddress: channel.peerText, isSecure: false, clientCertificate: nil))
    }
  }

  func installHTTP1(on channel: any Channel, facts: ConnectionFacts) throws {
    let pipeline = channel.pipeline.syncOperations
    // As NIO's own arrangement, with a decoder that gives up its unread bytes: an upgraded connection
    // may have sent some behind its request.
    let decoder = ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes))
    let others: [any ChannelHandler & RemovableChannelHandler] = [
      HTTPResponseEncoder(), HTTPServerPipelineHandler(), NIOHTTPResponseHeadersValidator(),
      HTTPServerProtocolErrorHandler(),
    ]
    try pipeline.addHandler(others[0])
    try pipeline.addHandler(decoder)
    for handler in others.dropFirst() { try pipeline.addHandler(handler) }
    let handler = HTTP1Handler(core: self, facts: facts) { context in
      for handler in others { context.pipeline.syncOperations.removeHandler(handler, promise: nil) }
      context.pipeline.syncOperations.removeHandler(decoder, promise: nil)
    }
    try pipeline.addHandler(handler)
  }

  func installHTTP2(on channel: any Channel, facts: ConnectionFacts) throws {
    let exchange = HTTP2Exchange(core: self, facts: facts)
    let handler = exchange.makeHandler()
    let pipeline = channel.pipeline.syncOperations
    try pipeline.addHandler(handler)
    try pipeline.addHandler(HTTP2Attendant(handler: handler, exchange: exchange))
  }

  /// Tells every connection to finish, waits, and cuts what is left.
  func drain() async {
    let open = state.withLock { state in
      state.isDraining = true
      return Array(state.connections.values)
    }
    for channel in open { channel.pipeline.fireUserInboundEventTriggered(DrainEvent()) }
    let deadline = ContinuousClock.now + limits.drain
    while ContinuousClock.now < deadline {
      if state.withLock({ $0.connections.isEmpty }) { return }
      // Not `Task.sleep`: this runs in a cancelled task, where sleeping returns at once.
      await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
        MultiThreadedEventLoopGroup.singleton.any().scheduleTask(in: .milliseconds(20)) {
          continuation.resume()
        }
      }
    }
    for channel in state.withLock({ Array($0.connections.values) }) { channel.close(promise: nil) }
  }
}

/// Sent through every pipeline when the listener stops.
struct DrainEvent: Sendable {}

/// Waits for the end of the TLS handshake and puts the negotiated protocol's handlers in its own place.
private final class ProtocolChooser: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer

  private let core: ListenerCore
  private let tls: NIOSSLServerHandler
  private var timeout: Scheduled<Void>?
  /// Bytes that came with the handshake's last flight.
  private var held: [NIOAny] = []

  init(core: ListenerCore, tls: NIOSSLServerHandler) {
    self.core = core
    self.tls = tls
  }

  func handlerAdded(context: ChannelHandlerContext) {
    let channel = context.channel
    timeout = context.eventLoop.scheduleTask(in: TimeAmount(core.limits.handshake)) {
      channel.close(promise: nil)
    }
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    timeout?.cancel()
    for data in held { context.fireChannelRead(data) }
    if !held.isEmpty { context.fireChannelReadComplete() }
    held = []
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) { held.append(data) }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case .handshakeCompleted(let negotiated)? = event as? TLSUserEvent else {
      if event is DrainEvent { context.close(promise: nil) }
      context.fireUserInboundEventTriggered(event)
      return
    }
    let facts = ConnectionFacts(
      peerAddress: context.channel.peerText, isSecure: true,
      clientCertificate: try? tls.peerCertificate?.toDERBytes())
    do {
      if negotiated == "h2" {
        try core.installHTTP2(on: context.channel, facts: facts)
      } else {
        try core.installHTTP1(on: context.channel, facts: facts)
      }
      context.pipeline.syncOperations.removeHandler(self, promise: nil)
    } catch {
      context.close(promise: nil)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // A port scan, a client with a foreign certificate, a reset: the client's affair.
    core.logger.debug("handshake failed", metadata: ["error": "\(error)"])
    context.close(promise: nil)
  }
}

extension Channel {
  fileprivate var peerText: String {
    guard let remote = remoteAddress else { return "" }
    return "\(remote.ipAddress ?? "unix"):\(remote.port ?? 0)"
  }
}
