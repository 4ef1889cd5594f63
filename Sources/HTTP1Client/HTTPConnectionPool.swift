import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// A client of one HTTP/1.1 server, over TLS or in the clear.
///
/// One connection carries one exchange at a time; a finished one is used again. Watches and followed
/// logs hold theirs for as long as they last.
public final class HTTPConnectionPool: Sendable {
  public struct Settings: Sendable {
    public var host: String
    public var port: Int
    /// Nil for cleartext.
    public var tls: TLSConfiguration?
    /// The name to verify in the server's certificate and to ask for by SNI; nil for `host`.
    public var serverName: String?
    public var connectTimeout = TimeAmount.seconds(5)
    /// Idle connections kept for the next requests.
    public var idleConnections = 16

    public init(host: String, port: Int, tls: TLSConfiguration?) {
      self.host = host
      self.port = port
      self.tls = tls
    }
  }

  private struct Connection: Sendable {
    let channel: any Channel
    let handler: NIOLoopBound<HTTPExchangeHandler>
  }

  public let settings: Settings
  private let group: any EventLoopGroup
  private let tlsContext: NIOSSLContext?
  private let idle = Mutex<[Connection]>([])
  /// Numbers exchanges, so that a late cancellation can't hit the next exchange of its connection.
  private let exchanges = Atomic<UInt64>(0)

  /// - Throws: if the TLS configuration names certificates or keys that can't be used.
  public init(
    settings: Settings, group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton
  ) throws {
    self.settings = settings
    self.group = group
    tlsContext = try settings.tls.map { try NIOSSLContext(configuration: $0) }
  }

  /// Sends a request and returns when the response's head has come.
  ///
  /// A request that failed on a connection that had been idle is sent once more on a fresh one, if it may
  /// be repeated: servers close idle connections at any time.
  ///
  /// - Parameters:
  ///   - headTimeout: how long to wait for the head, in all.
  ///   - isRepeatable: whether sending it twice does no harm.
  public func send(
    _ request: OutgoingRequest, headTimeout: TimeAmount = .seconds(60), isRepeatable: Bool
  ) async throws -> IncomingResponse {
    if let connection = takeIdle() {
      do {
        return try await exchange(request, on: connection, headTimeout)
      } catch let error as HTTPClientError
        where error.code == .notSent || error.code == .connectionLost && isRepeatable
      {
        try Task.checkCancellation()
      }
    }
    return try await exchange(request, on: try await connect(), headTimeout)
  }

  /// Closes the idle connections.
  public func close() {
    let connections = idle.withLock { connections in
      defer { connections = [] }
      return connections
    }
    for connection in connections { connection.channel.close(promise: nil) }
  }

  private func takeIdle() -> Connection? {
    idle.withLock { connections in
      while let connection = connections.popLast() {
        if connection.channel.isActive { return connection }
      }
      return nil
    }
  }

  private func giveBack(_ connection: Connection) {
    let isKept = idle.withLock { connections in
      guard connections.count < settings.idleConnections else { return false }
      connections.append(connection)
      return true
    }
    if !isKept { connection.channel.close(promise: nil) }
  }

  private func exchange(
    _ request: OutgoingRequest, on connection: Connection, _ headTimeout: TimeAmount
  ) async throws -> IncomingResponse {
    var headers = HTTPHeaders()
    let host = settings.host.contains(":") ? "[\(settings.host)]" : settings.host
    // A probe may name another host than the one it connects to.
    if !request.headers.contains(where: { $0.name.lowercased() == "host" }) {
      headers.add(name: "host", value: "\(host):\(settings.port)")
    }
    for (name, value) in request.headers { headers.add(name: name, value: value) }
    if !request.body.isEmpty || ["POST", "PUT", "PATCH"].contains(request.method) {
      headers.replaceOrAdd(name: "content-length", value: "\(request.body.count)")
    }
    let head = HTTPRequestHead(
      version: .http1_1, method: HTTPMethod(rawValue: request.method), uri: request.target,
      headers: headers)
    let loop = connection.channel.eventLoop
    let number = exchanges.wrappingAdd(1, ordering: .relaxed).newValue
    let timeout = loop.scheduleTask(in: headTimeout) {
      connection.handler.value.cancel(
        number,
        HTTPClientError(
          .timedOut, "no response within \(headTimeout.nanoseconds / 1_000_000_000) s"))
    }
    defer { timeout.cancel() }
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        loop.execute {
          connection.handler.value.start(number, head, body: request.body, continuation)
        }
      }
    } onCancel: {
      loop.execute { connection.handler.value.cancel(number, CancellationError()) }
    }
  }

  private func connect() async throws -> Connection {
    let loop = group.next()
    let tlsContext = tlsContext
    // An address isn't allowed as the name that SNI asks for; it is verified all the same.
    let name = settings.serverName ?? settings.host
    let isAddress = (try? SocketAddress(ipAddress: name, port: 0)) != nil
    do {
      // A watch may be silent for minutes, so TCP itself must notice that the server's machine is gone.
      let channel = try await ClientBootstrap(group: loop)
        .connectTimeout(settings.connectTimeout)
        .channelOption(.tcpOption(.tcp_nodelay), value: 1)
        .channelOption(.socketOption(.so_keepalive), value: 1)
        .channelOption(.tcpOption(NIOBSDSocket.Option(rawValue: TCP_KEEPIDLE)), value: 15)
        .channelOption(.tcpOption(NIOBSDSocket.Option(rawValue: TCP_KEEPINTVL)), value: 5)
        .channelOption(.tcpOption(NIOBSDSocket.Option(rawValue: TCP_KEEPCNT)), value: 3)
        .channelOption(.autoRead, value: false)
        .channelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            if let tlsContext {
              try channel.pipeline.syncOperations.addHandler(
                NIOSSLClientHandler(
                  context: tlsContext, serverHostname: isAddress ? nil : name))
            }
            try channel.pipeline.syncOperations.addHTTPClientHandlers()
          }
        }
        .connect(host: settings.host, port: settings.port).get()
      return try await loop.submit { [weak self] in
        let box = ConnectionBox()
        let handler = HTTPExchangeHandler(channel: channel) {
          if let self, let connection = box.connection { self.giveBack(connection) }
        }
        let connection = Connection(
          channel: channel, handler: NIOLoopBound(handler, eventLoop: loop))
        box.connection = connection
        try channel.pipeline.syncOperations.addHandler(handler)
        return connection
      }.get()
    } catch {
      throw HTTPClientError(
        .cannotConnect, "cannot connect to \(settings.host):\(settings.port): \(error)")
    }
  }

  private final class ConnectionBox {
    var connection: Connection?
  }
}
