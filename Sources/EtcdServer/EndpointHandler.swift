import EtcdWire
import MVCC
import NIOCore
import NIOHTTP1
import Primitives
import Replica

/// etcd's plain HTTP endpoints: version, health checks and metrics.
///
/// Sources: etcd `server/etcdserver/api/etcdhttp`.
final class EndpointHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  private unowned let server: EtcdListener
  private let front: any ReplicaFront
  private let loop: ServerLoop
  private var gateway: GatewayHandler?
  /// Whether the port is for observers, who see nothing of the data.
  private let isForMetrics: Bool
  private var request: HTTPRequestHead?
  private var body: [UInt8] = []
  private var isTooLarge = false

  init(server: EtcdListener, front: any ReplicaFront, loop: ServerLoop, isForMetrics: Bool) {
    self.server = server
    self.front = front
    self.loop = loop
    self.isForMetrics = isForMetrics
  }

  func handlerAdded(context: ChannelHandlerContext) {
    if isForMetrics || !loop.settings.servesGateway { return }
    gateway = GatewayHandler(
      loop: loop, context: context, maxMessageSize: loop.settings.maxRequestBytes)
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    // A watch may be silent for long; a request that trickles in may not.
    if event is IdleStateHandler.IdleStateEvent, gateway?.isBusy != true {
      context.close(promise: nil)
    }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    gateway?.close()
    context.fireChannelInactive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head):
      request = head
      body.removeAll(keepingCapacity: body.capacity <= 64 << 10)
      isTooLarge = false
    case .body(let bytes):
      // JSON's base 64 takes a third more than the bytes, and names some more.
      if body.count + bytes.readableBytes > 2 * loop.settings.maxRequestBytes
        + EtcdServerLimits.httpBodyBytes
      {
        isTooLarge = true
        body = []
      }
      if !isTooLarge { body.append(contentsOf: bytes.readableBytesView) }
    case .end:
      guard let request else { return }
      self.request = nil
      if isTooLarge {
        reply(context, request, .payloadTooLarge, "text/plain", "Request Entity Too Large\n")
        return
      }
      let path = request.uri.prefix { $0 != "?" }
      if gateway?.handle(request, path, body) != true { answer(request, context) }
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

  // MARK: Routing

  private func answer(_ request: HTTPRequestHead, _ context: ChannelHandlerContext) {
    let parts = request.uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    let path = String(parts[0])
    let query = parts.count > 1 ? String(parts[1]) : ""
    if gateway == nil, path.hasPrefix("/v3") {
      return reply(context, request, .notFound, "text/plain", "404 page not found\n")
    }
    guard request.method == .GET || request.method == .HEAD else {
      reply(context, request, .methodNotAllowed, "text/plain", "Method Not Allowed\n")
      return
    }
    switch path {
    case "/version":
      reply(
        context, request, .ok, "application/json",
        """
        {"etcdserver":"\(EtcdServerSettings.reportedVersion)",\
        "etcdcluster":"\(EtcdServerSettings.reportedClusterVersion)"}
        """)
    case "/health":
      // The old check looks at leader and alarms, and reads unless told not to be linearizable.
      let isSerializable = query.contains("serializable=true")
      if let alarm = activeAlarm(query) {
        health(context, request, "ALARM \(alarm.kind.name)")
      } else if front.status.leader == nil, !isSerializable {
        health(context, request, "RAFT NO LEADER")
      } else if isSerializable {
        health(context, request, nil)
      } else {
        probeRead(context, request) { self.health($0, $1, $2) }
      }
    case "/livez", "/livez/serializable_read":
      check(context, request, query, [("serializable_read", nil)])
    case "/readyz/data_corruption":
      check(context, request, query, [("data_corruption", corruption)])
    case "/readyz/serializable_read": check(context, request, query, [("serializable_read", nil)])
    case "/readyz/linearizable_read":
      probeRead(context, request) { self.check($0, $1, query, [("linearizable_read", $2)]) }
    case "/readyz":
      let checks: [(String, String?)] = [
        ("data_corruption", corruption), ("serializable_read", nil),
      ]
      if query.contains("exclude=linearizable_read") {
        check(context, request, query, checks)
      } else {
        probeRead(context, request) {
          self.check($0, $1, query, checks + [("linearizable_read", $2)])
        }
      }
    case "/metrics": metrics(context, request)
    default: reply(context, request, .notFound, "text/plain", "404 page not found\n")
    }
  }

  /// An alarm that makes the member unhealthy, of a kind that the query doesn't exclude.
  private func activeAlarm(_ query: String) -> Alarm? {
    let excluded = query.split(separator: "&").compactMap { part in
      part.hasPrefix("exclude=") ? part.dropFirst("exclude=".count) : nil
    }
    return front.status.alarms.first { alarm in !excluded.contains { $0 == alarm.kind.name } }
  }

  private var corruption: String? {
    front.status.alarms.contains { $0.kind == .corrupt } ? "alarm activated: CORRUPT" : nil
  }

  /// Asks for a linearizable view and passes on what went wrong, if anything.
  private func probeRead(
    _ context: ChannelHandlerContext, _ request: HTTPRequestHead,
    _ done: @escaping (ChannelHandlerContext, HTTPRequestHead, String?) -> Void
  ) {
    let bound = NIOLoopBound((context, request, done), eventLoop: context.eventLoop)
    let eventLoop = context.eventLoop
    let probe = ReadProbe { problem in
      eventLoop.execute {
        let (context, request, done) = bound.value
        done(context, request, problem)
      }
    }
    front.requestRead(token: 0, sink: probe)
  }

  private func health(
    _ context: ChannelHandlerContext, _ request: HTTPRequestHead, _ problem: String?
  ) {
    let reason = problem.map { ",\"reason\":\"\($0)\"" } ?? ",\"reason\":\"\""
    reply(
      context, request, problem == nil ? .ok : .serviceUnavailable, "application/json",
      // The line's end comes with errors alone, as in etcd.
      "{\"health\":\"\(problem == nil)\"\(reason)}" + (problem == nil ? "" : "\n"))
  }

  private func check(
    _ context: ChannelHandlerContext, _ request: HTTPRequestHead, _ query: String,
    _ checks: [(name: String, problem: String?)]
  ) {
    let isHealthy = checks.allSatisfy { $0.problem == nil }
    var text = ""
    if !isHealthy || query.contains("verbose") {
      for check in checks {
        text +=
          check.problem.map { "[-]\(check.name) failed: \($0)\n" } ?? "[+]\(check.name) ok\n"
      }
    }
    text += isHealthy ? "ok\n" : "failed\n"
    reply(
      context, request, isHealthy ? .ok : .serviceUnavailable, "text/plain; charset=utf-8", text)
  }

  private func metrics(_ context: ChannelHandlerContext, _ request: HTTPRequestHead) {
    let bound = NIOLoopBound((self, context, request), eventLoop: context.eventLoop)
    let eventLoop = context.eventLoop
    let front = front
    server.collectMetrics().hop(to: eventLoop).whenSuccess { sums in
      let (handler, context, request) = bound.value
      handler.reply(
        context, request, .ok, "text/plain; version=0.0.4; charset=utf-8",
        MetricsPage.render(sums, front))
    }
  }

  private func reply(
    _ context: ChannelHandlerContext, _ request: HTTPRequestHead, _ status: HTTPResponseStatus,
    _ type: String, _ text: String
  ) {
    guard context.channel.isActive else { return }
    var head = HTTPResponseHead(version: request.version, status: status)
    head.headers.add(name: "content-type", value: type)
    head.headers.add(name: "content-length", value: "\(text.utf8.count)")
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    if request.method != .HEAD {
      context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: text)))), promise: nil)
    }
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    if !request.isKeepAlive { context.close(promise: nil) }
  }
}

/// Waits for one linearizable read and says what went wrong, if anything.
private final class ReadProbe: ReplySink {
  private let done: @Sendable (String?) -> Void

  init(_ done: @escaping @Sendable (String?) -> Void) { self.done = done }

  func deliver(_ replies: [Reply]) {
    guard let reply = replies.first else { return }
    if case .failed(let error) = reply.outcome { done("\(error)") } else { done(nil) }
  }
}
