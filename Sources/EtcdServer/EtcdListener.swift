import HTTP2
import Logging
import MVCC
import NIOCore
import NIOHTTP1
import NIOPosix
import Primitives
import Replica
import Synchronization

/// The client port: etcd's gRPC services and, on the same port, its HTTP endpoints.
///
///     TCP (TLS, if any) ─▶ PrefaceDetector ─┬─▶ HTTP2Handler ─▶ GRPCServerConnection ─▶ ServerLoop
///                                           └─▶ HTTP/1.1 codec ─▶ EndpointHandler (health, metrics;
///                                                                 JSON gateway ─▶ ServerLoop)
///
/// Each event loop has one `ServerLoop`, which knows all connections of that loop and nothing of the
/// others. A connection stays on the loop that accepted it.
///
/// Made with a replica, it does nothing until `listen`; `shutdown` lets calls in flight end.
public final class EtcdListener: Sendable {
  public let settings: EtcdServerSettings
  private let front: any ReplicaFront
  private let group: MultiThreadedEventLoopGroup
  private let loops: [ObjectIdentifier: NIOLoopBound<ServerLoop>]
  private let channels: Mutex<Channels>
  private let logger: Logger
  private let passwords = PasswordWorker()
  private let connectionLog: ConnectionLog
  private let held = HeldBytes(bound: EtcdServerLimits.heldBytes)

  private struct Channels {
    var listeners: [any Channel] = []
    var connections: [ObjectIdentifier: any Channel] = [:]
    var isShutDown = false
  }

  /// A server for `front` whose connections are spread over the loops of `group`, which must outlive it.
  public init(
    front: any ReplicaFront, settings: EtcdServerSettings = EtcdServerSettings(),
    group: MultiThreadedEventLoopGroup, logger: Logger
  ) async throws {
    self.front = front
    self.settings = settings
    self.group = group
    self.logger = logger
    connectionLog = ConnectionLog(logger)
    channels = Mutex(Channels())
    var loops: [ObjectIdentifier: NIOLoopBound<ServerLoop>] = [:]
    let passwords = passwords
    for eventLoop in group.makeIterator() {
      let bound = eventLoop.submit {
        NIOLoopBound(
          ServerLoop(
            eventLoop: eventLoop, front: front, settings: settings, passwords: passwords),
          eventLoop: eventLoop)
      }
      loops[ObjectIdentifier(eventLoop)] = try await bound.get()
    }
    self.loops = loops
  }

  /// What is served on an address.
  public enum Service: Sendable {
    /// gRPC and HTTP/1.1.
    case everything
    case grpc
    /// The JSON gateway, health checks and metrics.
    case http
    /// Health checks and metrics, and nothing of the data.
    case metrics

    var hasGRPC: Bool { self == .everything || self == .grpc }
    var hasHTTP: Bool { self != .grpc }
  }

  public enum Address: Sendable {
    /// `port` 0 lets the system choose.
    case tcp(host: String, port: Int)
    /// A socket file; one that is left over from before is replaced.
    case unix(path: String)
  }

  /// Starts to accept connections.
  ///
  /// - Parameter configure: adds handlers such as TLS to the pipeline of each new connection, before all others.
  /// - Returns: the address bound.
  @discardableResult
  public func listen(
    on address: Address, serving service: Service = .everything,
    configure: (@Sendable (any Channel) throws -> Void)? = nil
  ) async throws -> SocketAddress {
    passwords.start()
    for bound in loops.values { try await bound.eventLoop.submit { bound.value.start() }.get() }
    var bootstrap = ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 1_024)
      // One turn of the loop should take all that a burst of requests left in the socket; a channel keeps
      // its buffer, so those that are idle should have small ones.
      .childChannelOption(
        .recvAllocator,
        value: AdaptiveRecvByteBufferAllocator(minimum: 1_024, initial: 2_048, maximum: 262_144)
      )
      .childChannelOption(
        .writeBufferWaterMark, value: .init(low: 256 << 10, high: 1 << 20)
      )
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try configure?(channel)
          try self.prepare(channel, service)
        }
      }
    let listener: any Channel
    switch address {
    case .tcp(let host, let port):
      bootstrap =
        bootstrap
        .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
        .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      listener = try await bootstrap.bind(host: host, port: port).get()
    case .unix(let path):
      listener = try await bootstrap.bind(
        unixDomainSocketPath: path, cleanupExistingSocketFile: true
      ).get()
    }
    channels.withLock { $0.listeners.append(listener) }
    guard let bound = listener.localAddress else { throw ChannelError.unknownLocalAddress }
    logger.info(
      service == .metrics ? "serving metrics" : "serving clients",
      metadata: ["address": "\(bound)"])
    return bound
  }

  /// Starts to accept connections of all kinds on a TCP port.
  public func listen(host: String, port: Int) async throws -> SocketAddress {
    try await listen(on: .tcp(host: host, port: port))
  }

  /// Accepts no more, ends streams, lets calls in flight end for a while (`HTTP2Limits.drainTimeout`), closes
  /// the rest.
  public func shutdown() async {
    let channels = channels.withLock { channels in
      channels.isShutDown = true
      return channels
    }
    for listener in channels.listeners { try? await listener.close().get() }
    for bound in loops.values {
      try? await bound.eventLoop.submit { bound.value.endStreams() }.get()
    }
    for connection in channels.connections.values {
      connection.eventLoop.execute {
        if let handler = try? connection.pipeline.syncOperations.handler(type: HTTP2Handler.self) {
          handler.drain()
        } else {
          connection.close(promise: nil)
        }
      }
    }
    for connection in channels.connections.values { try? await connection.closeFuture.get() }
    for bound in loops.values {
      try? await bound.eventLoop.submit {
        bound.value.stop()
        bound.value.sink.detach()
      }.get()
    }
    passwords.stop()
  }

  /// What all loops have counted.
  func collectMetrics() -> EventLoopFuture<LoopMetrics> {
    let parts = loops.values.map { bound in
      bound.eventLoop.submit { bound.value.currentMetrics() }
    }
    return EventLoopFuture.whenAllSucceed(parts, on: group.any()).map { parts in
      var sum = LoopMetrics()
      for part in parts { sum.add(part) }
      return sum
    }
  }

  // MARK: Connections

  private func prepare(_ channel: any Channel, _ service: Service) throws {
    let key = ObjectIdentifier(channel)
    let isLate = channels.withLock { channels in
      channels.connections[key] = channel
      return channels.isShutDown
    }
    channel.closeFuture.whenComplete { _ in
      self.channels.withLock { $0.connections[key] = nil }
    }
    if isLate { throw ChannelError.ioOnClosedChannel }
    // Whoever connects and says nothing would otherwise hold a descriptor for good.
    let timeout = channel.eventLoop.scheduleTask(
      in: .nanoseconds(Int64(EtcdServerLimits.firstBytesTimeout.wholeNanoseconds))
    ) {
      self.connectionLog.ended(
        channel.remoteAddress,
        "it finished no greeting (TLS, HTTP/2 or HTTP/1.1) within \(EtcdServerLimits.firstBytesTimeout)")
      channel.close(promise: nil)
    }
    channel.closeFuture.whenComplete { _ in timeout.cancel() }
    let detector = PrefaceDetector { channel, detected in
      timeout.cancel()
      switch detected {
      case .http2 where service.hasGRPC: try self.installGRPC(channel)
      case .http1 where service.hasHTTP: try self.installEndpoints(channel, service)
      case .http1, .http2: channel.close(promise: nil)
      }
    }
    try channel.pipeline.syncOperations.addHandler(detector)
  }

  private func installGRPC(_ channel: any Channel) throws {
    guard let bound = loops[ObjectIdentifier(channel.eventLoop)] else {
      throw ChannelError.inappropriateOperationForState
    }
    let loop = bound.value
    loop.metrics.connections += 1
    channel.closeFuture.whenComplete { _ in bound.value.metrics.connections -= 1 }
    var limits = HTTP2Limits()
    limits.maxConcurrentStreams = settings.maximumStreams
    limits.minimumPingInterval = settings.minimumPingInterval
    limits.keepAliveInterval = settings.keepAliveInterval
    limits.keepAliveTimeout = settings.keepAliveTimeout
    let connection = GRPCServerConnection(
      router: EtcdMethod.router, delegate: loop,
      maxMessageSize: settings.maxRequestBytes + EtcdServerLimits.messageOverheadBytes)
    let peer = channel.remoteAddress
    connection.onFailure = { [connectionLog] in connectionLog.ended(peer, "\($0)") }
    let identity = try? channel.pipeline.syncOperations.handler(type: ConnectionIdentity.self)
    // No user has a longer name, and commands could not carry it.
    if let name = identity?.commonName, name.utf8.count <= Limits.maximumUserNameBytes {
      connection.peerName = Array(name.utf8)
    }
    let handler = connection.makeHandler(limits: limits)
    handler.held = held
    try channel.pipeline.syncOperations.addHandler(handler)
  }

  private func installEndpoints(_ channel: any Channel, _ service: Service) throws {
    try channel.pipeline.syncOperations.configureHTTPServerPipeline(withErrorHandling: true)
    guard let bound = loops[ObjectIdentifier(channel.eventLoop)] else {
      throw ChannelError.inappropriateOperationForState
    }
    try channel.pipeline.syncOperations.addHandler(
      IdleStateHandler(
        readTimeout: .nanoseconds(Int64(EtcdServerLimits.httpIdleTimeout.wholeNanoseconds))))
    try channel.pipeline.syncOperations.addHandler(
      EndpointHandler(
        server: self, front: front, loop: bound.value, isForMetrics: service == .metrics))
  }
}
