import HTTPServer
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NIOTLS

/// What a node says to a request to leave HTTP.
enum NodeUpgradeAnswer: Sendable {
  /// The head of its 101, and the connection.
  case upgraded(HTTPFields, ByteStream)
  case refused(status: Int, text: String)
}

extension NodeConnector {
  /// Sends a client's upgrade request on to a node.
  ///
  /// - Parameter uri: path and query at the node.
  func upgrade(
    _ request: HTTPRequest, uri: String, to address: Address
  ) async throws -> NodeUpgradeAnswer {
    var head = HTTPRequestHead(
      version: .http1_1, method: HTTPMethod(rawValue: request.method), uri: uri)
    head.headers.add(name: "Host", value: address.host)
    head.headers.add(name: "User-Agent", value: "martlet-apiserver")
    head.headers.add(name: "Connection", value: "Upgrade")
    // Only what the upgrade itself needs: the client's credentials are not the node's to see.
    for field in request.fields.fields {
      let name = field.name.lowercased()
      if name == "upgrade" || name.hasPrefix("sec-websocket-")
        || name == "x-stream-protocol-version"
      {
        head.headers.add(name: field.name, value: field.value)
      }
    }
    if request.method == "POST" { head.headers.add(name: "Content-Length", value: "0") }
    let context = context
    let requestHead = head
    // The answer may come or fail at any time from here on.
    let loop = group.next()
    let promise = loop.makePromise(of: NodeUpgradeAnswer.self)
    let channel: any Channel
    do {
      channel = try await ClientBootstrap(group: loop)
        .connectTimeout(Limits.connect)
        .channelOption(.socketOption(.tcp_nodelay), value: 1)
        .channelOption(.socketOption(.so_keepalive), value: 1)
        .channelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            let pipeline = channel.pipeline.syncOperations
            try pipeline.addHandler(try NIOSSLClientHandler(context: context, serverHostname: nil))
            let encoder = HTTPRequestEncoder()
            let decoder = ByteToMessageHandler(
              HTTPResponseDecoder(leftOverBytesStrategy: .forwardBytes))
            try pipeline.addHandler(encoder)
            try pipeline.addHandler(decoder)
            try pipeline.addHandler(
              NodeUpgrade(requestHead, node: address.name, promise: promise) { context in
                context.pipeline.syncOperations.removeHandler(encoder, promise: nil)
                context.pipeline.syncOperations.removeHandler(decoder, promise: nil)
              })
          }
        }
        .connect(host: address.host, port: address.port).get()
    } catch {
      promise.fail(error)
      throw error
    }
    let timer = loop.scheduleTask(in: Limits.answer) { channel.close(promise: nil) }
    defer { timer.cancel() }
    return try await promise.futureResult.get()
  }
}

/// One upgrade on one connection.
private final class NodeUpgrade: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPClientResponsePart
  typealias OutboundOut = HTTPClientRequestPart

  /// The part of a refusal that is passed on.
  private static let textBytes = 16_384

  private let request: HTTPRequestHead
  private let node: String
  private let promise: EventLoopPromise<NodeUpgradeAnswer>
  private let removeHTTP: (ChannelHandlerContext) -> Void
  private var head: HTTPResponseHead?
  private var text: [UInt8] = []
  private var isAnswered = false

  init(
    _ request: HTTPRequestHead, node: String, promise: EventLoopPromise<NodeUpgradeAnswer>,
    removeHTTP: @escaping (ChannelHandlerContext) -> Void
  ) {
    self.request = request
    self.node = node
    self.promise = promise
    self.removeHTTP = removeHTTP
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    context.fireUserInboundEventTriggered(event)
    guard case .handshakeCompleted? = event as? TLSUserEvent else { return }
    guard NodeConnector.isNode(node, at: context) else {
      return fail(
        context,
        HTTPServerError(
          .connectionClosed, "the server at the node's address is not system:node:\(node)"))
    }
    context.write(wrapOutboundOut(.head(request)), promise: nil)
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head): self.head = head
    case .body(let buffer):
      if text.count < Self.textBytes { text += buffer.readableBytesView }
    case .end:
      guard let head, !isAnswered else { return }
      isAnswered = true
      guard head.status == .switchingProtocols else {
        promise.succeed(
          .refused(
            status: Int(head.status.code), text: String(decoding: text, as: UTF8.self)))
        return context.close(promise: nil)
      }
      var fields = HTTPFields()
      for header in head.headers where header.name.lowercased() != "date" {
        fields.append(header.name, header.value)
      }
      do {
        let stream = try ByteStream.attach(to: context.channel)
        removeHTTP(context)
        context.pipeline.syncOperations.removeHandler(self, promise: nil)
        promise.succeed(.upgraded(fields, stream))
      } catch {
        promise.fail(error)
        context.close(promise: nil)
      }
    }
  }

  private func fail(_ context: ChannelHandlerContext, _ error: any Error) {
    if !isAnswered { promise.fail(error) }
    isAnswered = true
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    fail(context, HTTPServerError(.connectionClosed, "the node closed the connection"))
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { fail(context, error) }
}
