import HTTPServer
import KubeAPI
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NIOTLS
import Synchronization
import X509

/// Requests from the API server to a node's port: HTTPS with the API server's client certificate.
///
/// The node must show a certificate of the cluster's authority that was made for that very node
/// (`system:node:NAME`), so a node can't be mistaken for another one whatever its address is.
final class NodeConnector: Sendable {
  enum Limits {
    static let connect: TimeAmount = .seconds(5)
    /// From the request to the head of the answer.
    static let answer: TimeAmount = .seconds(30)
  }

  let context: NIOSSLContext
  let group: MultiThreadedEventLoopGroup

  init(
    credential: ClusterPKI.Credential, authority: String, group: MultiThreadedEventLoopGroup
  ) throws {
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.trustRoots = .certificates(
      try NIOSSLCertificate.fromPEMBytes(Array(authority.utf8)))
    // The name is checked below, against the node's own.
    configuration.certificateVerification = .noHostnameVerification
    configuration.certificateChain = try NIOSSLCertificate.fromPEMBytes(
      Array(credential.certificatePEM.utf8)
    ).map { .certificate($0) }
    configuration.privateKey = .privateKey(
      try NIOSSLPrivateKey(bytes: Array(credential.keyPEM.utf8), format: .pem))
    context = try NIOSSLContext(configuration: configuration)
    self.group = group
  }

  /// Where a node listens, from its status.
  struct Address: Sendable, Equatable {
    var name: String
    var host: String
    var port: Int

    /// - Returns: nil where the node hasn't told.
    init?(node: Value) {
      let addresses = node["status"]["addresses"].elements
      func first(_ type: String) -> String? {
        addresses.first { $0["type"].string == type }?["address"].string
      }
      guard let name = node["metadata"]["name"].string,
        let host = first("InternalIP") ?? first("ExternalIP") ?? first("Hostname"),
        let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].int,
        (1...65_535).contains(port)
      else { return nil }
      self.name = name
      self.host = host
      self.port = port
    }
  }

  /// Whether the other end of a connection has shown the certificate of that very node.
  static func isNode(_ name: String, at context: ChannelHandlerContext) -> Bool {
    guard
      let handler = try? context.pipeline.syncOperations.handler(type: NIOSSLClientHandler.self),
      let bytes = try? handler.peerCertificate?.toDERBytes()
    else { return false }
    return Authenticator.subject(of: bytes)?.name == "system:node:\(name)"
  }

  /// Sends a GET and waits for the head of the answer.
  func get(_ uri: String, from address: Address) async throws -> NodeAnswer {
    let answer = NodeAnswer()
    let context = context
    let channel = try await ClientBootstrap(group: group)
      .connectTimeout(Limits.connect)
      .channelOption(.socketOption(.tcp_nodelay), value: 1)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          try pipeline.addHandler(
            try NIOSSLClientHandler(context: context, serverHostname: nil))
          try pipeline.addHTTPClientHandlers()
          try pipeline.addHandler(
            NodeExchange(uri: uri, node: address.name, host: address.host, answer: answer))
        }
      }
      .connect(host: address.host, port: address.port).get()
    answer.attach(channel)
    let timer = channel.eventLoop.scheduleTask(in: Limits.answer) { channel.close(promise: nil) }
    defer { timer.cancel() }
    try await answer.waitForHead()
    return answer
  }
}

/// A node's answer: its head, and its body piece by piece.
///
/// The connection is read only as pieces are taken, so a slow client of the API server slows the node
/// down instead of filling memory.
final class NodeAnswer: Sendable {
  struct Head: Sendable {
    var status: Int
    var contentType: String
  }

  private struct State {
    var channel: (any Channel)?
    var head: Head?
    var pieces: [[UInt8]] = []
    var end: Result<Void, any Error>?
    var headWaiter: CheckedContinuation<Void, any Error>?
    var reader: CheckedContinuation<[UInt8]?, any Error>?
  }
  private let state = Mutex(State())

  var head: Head { state.withLock { $0.head } ?? Head(status: 502, contentType: "") }

  fileprivate func attach(_ channel: any Channel) { state.withLock { $0.channel = channel } }

  fileprivate func waitForHead() async throws {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let ready: Result<Void, any Error>? = state.withLock { state in
          if state.head != nil { return .success(()) }
          if let end = state.end {
            return .failure(Self.failure(of: end))
          }
          state.headWaiter = continuation
          return nil
        }
        if let ready { continuation.resume(with: ready) }
      }
    } onCancel: {
      close()
    }
  }

  private static func failure(of end: Result<Void, any Error>) -> any Error {
    if case .failure(let error) = end { return error }
    return HTTPServerError(.connectionClosed, "the node closed the connection without an answer")
  }

  /// The next piece of the body; nil at its end.
  func next() async throws -> [UInt8]? {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let (ready, channel) = state.withLock {
          state -> (Result<[UInt8]?, any Error>?, (any Channel)?) in
          if !state.pieces.isEmpty { return (.success(state.pieces.removeFirst()), nil) }
          if let end = state.end { return (end.map { nil }, nil) }
          state.reader = continuation
          return (nil, state.channel)
        }
        if let ready { continuation.resume(with: ready) } else { channel?.read() }
      }
    } onCancel: {
      close()
    }
  }

  func close() { state.withLock { $0.channel }?.close(promise: nil) }

  fileprivate func begin(_ head: Head) {
    let waiter = state.withLock { state in
      state.head = head
      defer { state.headWaiter = nil }
      return state.headWaiter
    }
    waiter?.resume()
  }

  fileprivate func add(_ piece: [UInt8]) {
    let reader = state.withLock { state in
      defer { state.reader = nil }
      if state.reader == nil { state.pieces.append(piece) }
      return state.reader
    }
    reader?.resume(returning: piece)
  }

  fileprivate func finish(_ end: Result<Void, any Error>) {
    let (waiter, reader) = state.withLock { state in
      if state.end == nil { state.end = end }
      defer {
        state.headWaiter = nil
        state.reader = nil
      }
      return (state.headWaiter, state.reader)
    }
    waiter?.resume(throwing: Self.failure(of: end))
    reader?.resume(with: end.map { nil })
  }
}

/// One request on one connection.
private final class NodeExchange: ChannelInboundHandler {
  typealias InboundIn = HTTPClientResponsePart
  typealias OutboundOut = HTTPClientRequestPart

  private let uri: String
  private let node: String
  private let host: String
  private let answer: NodeAnswer

  init(uri: String, node: String, host: String, answer: NodeAnswer) {
    self.uri = uri
    self.node = node
    self.host = host
    self.answer = answer
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    context.fireUserInboundEventTriggered(event)
    guard case .handshakeCompleted? = event as? TLSUserEvent else { return }
    guard NodeConnector.isNode(node, at: context) else {
      answer.finish(
        .failure(
          HTTPServerError(
            .connectionClosed, "the server at the node's address is not system:node:\(node)")))
      context.close(promise: nil)
      return
    }
    var head = HTTPRequestHead(version: .http1_1, method: .GET, uri: uri)
    head.headers.add(name: "Host", value: host)
    head.headers.add(name: "User-Agent", value: "martlet-apiserver")
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head):
      // From here on, the reader of the body says when to read.
      context.channel.setOption(.autoRead, value: false).whenComplete { _ in }
      answer.begin(
        NodeAnswer.Head(
          status: Int(head.status.code),
          contentType: head.headers.first(name: "content-type") ?? "text/plain"))
    case .body(let buffer): answer.add(Array(buffer.readableBytesView))
    case .end:
      answer.finish(.success(()))
      context.close(promise: nil)
    }
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    context.fireChannelReadComplete()
  }

  func channelInactive(context: ChannelHandlerContext) {
    answer.finish(
      .failure(HTTPServerError(.connectionClosed, "the node closed the connection")))
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    answer.finish(.failure(error))
    context.close(promise: nil)
  }
}
