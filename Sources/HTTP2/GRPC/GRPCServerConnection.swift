import NIOCore
import Primitives

/// The methods that a gRPC server has, numbered in the order given.
public struct GRPCRouter: Sendable {
  public struct Method: Sendable {
    /// Such as `/etcdserverpb.KV/Range`.
    public var path: [UInt8]
    /// Messages are handed out one by one, and the call stays open until it is finished.
    public var isStreaming: Bool
    public init(_ path: String, isStreaming: Bool = false) {
      self.path = Array(path.utf8)
      self.isStreaming = isStreaming
    }
  }
  public let methods: [Method]
  public init(_ methods: [Method]) { self.methods = methods }

  func find(_ path: UnsafeRawBufferPointer) -> Int? {
    for index in methods.indices where methods[index].path.count == path.count {
      if methods[index].path.withUnsafeBytes({ equalBytes($0, path) }) { return index }
    }
    return nil
  }

  func hasService(of path: UnsafeRawBufferPointer) -> Bool {
    guard let end = path.lastIndex(of: UInt8(ascii: "/")), end > 0 else { return false }
    return methods.contains { $0.path.starts(with: path[...end]) }
  }
}

/// What a gRPC server does with its calls. All calls come on the connection's event loop; bytes and
/// headers are borrowed until the call returns. Answers may be given at once or later.
public protocol GRPCServerDelegate: AnyObject {
  /// A call comes with a `token` or `authorization` header: the number by which the delegate will know
  /// the credential when the call's messages come (`GRPCServerConnection.eventCredential`), not zero.
  func grpc(_ connection: GRPCServerConnection, credential: UnsafeRawBufferPointer) -> UInt32
  /// A unary call with its whole request.
  func grpc(
    _ connection: GRPCServerConnection, unary method: Int, stream: StreamID,
    message: UnsafeRawBufferPointer)
  /// A streaming call begins.
  func grpc(
    _ connection: GRPCServerConnection, opened method: Int, stream: StreamID, headers: HeaderBlock)
  /// A message of a streaming call.
  func grpc(
    _ connection: GRPCServerConnection, received message: UnsafeRawBufferPointer, method: Int,
    stream: StreamID)
  /// The client of a streaming call sends no more.
  func grpc(_ connection: GRPCServerConnection, halfClosed stream: StreamID, method: Int)
  /// The client gave the call up before it was answered.
  func grpc(_ connection: GRPCServerConnection, cancelled stream: StreamID, method: Int)
  /// What waited on the stream for the client to read has been sent.
  func grpc(_ connection: GRPCServerConnection, writable stream: StreamID, method: Int)
  /// One read's calls have all been delivered.
  func grpcReadComplete(_ connection: GRPCServerConnection)
  /// The connection is gone, and all its calls with it.
  func grpcClosed(_ connection: GRPCServerConnection)
}

/// Takes the answers to calls that are made in this process, past HTTP/2. On the delegate's event loop.
public protocol LocalCallSink: AnyObject {
  /// Whether a call is still waited for.
  func isOpen(_ stream: StreamID) -> Bool
  /// Bytes of a call's answers that nobody has taken yet.
  func queuedBytes(on stream: StreamID) -> Int
  func received(_ message: [UInt8], on stream: StreamID)
  /// The call is over; nothing more comes of it.
  func finished(_ status: GRPCStatus, on stream: StreamID)
}

extension GRPCServerDelegate {
  /// Of no interest.
  public func grpc(
    _ connection: GRPCServerConnection, credential: UnsafeRawBufferPointer
  ) -> UInt32 { 0 }
}

/// The gRPC of one server connection: routing, message framing, statuses.
///
/// A call's method is found once per distinct request head and kept with it (`HeaderBlock.route`); a
/// unary request in one DATA frame goes to the delegate where it lies in the read buffer, and its answer
/// is written as one piece. So a small call allocates nothing here.
public final class GRPCServerConnection: HTTP2Delegate {
  public let router: GRPCRouter
  /// Bytes of the largest request message; etcd's default for requests plus its gRPC overhead.
  public let maxMessageSize: Int
  /// Not there for calls made in this process, so nobody outside may rely on it.
  private(set) var handler: HTTP2Handler!
  /// For the delegate: it has written answers here and owes a `flush`.
  public var isFlushPending = false
  /// For the delegate: the name that the peer's certificate vouches for, if there is one.
  public var peerName: [UInt8]?
  /// For calls made in this process: who takes the answers. Nil for HTTP/2.
  private weak var local: (any LocalCallSink)?
  private let isLocal: Bool
  /// What `eventCredential` is for calls made in this process.
  public var localCredential: UInt32 = 0
  private weak var delegate: (any GRPCServerDelegate)?
  /// Told why this side ended the connection, if it did.
  public var onFailure: ((HTTP2Error) -> Void)?
  /// Messages that cross DATA frames, by stream.
  private var partial: [StreamID: GRPCMessages] = [:]

  // What `HeaderBlock.route` says beyond a method's number.
  private static let notGRPC = -2
  private static let unknownMethod = -3
  private static let notPOST = -4
  /// The bit of a route that says that the head carries a credential; methods are far fewer.
  private static let hasCredential = 1 << 16
  /// The bit of a route, and of a stream's tag, that says that the call is of no use without a leader.
  private static let requiresLeader = 1 << 17

  static let responseHead = HeaderTemplate([
    HeaderField(":status", "200"), HeaderField("content-type", "application/grpc"),
  ])
  static let okTrailers = HeaderTemplate([HeaderField("grpc-status", "0")])
  private static let unsupportedMediaType = HeaderTemplate([
    HeaderField(":status", "415"), HeaderField("accept", "application/grpc"),
  ])
  private static let methodNotAllowed = HeaderTemplate([
    HeaderField(":status", "405"), HeaderField("allow", "POST"),
  ])

  /// `delegate` must outlive the connection; it is not retained.
  public init(router: GRPCRouter, delegate: any GRPCServerDelegate, maxMessageSize: Int) {
    self.router = router
    self.delegate = delegate
    self.maxMessageSize = maxMessageSize
    isLocal = false
  }

  /// A connection without HTTP/2, for a gateway: it hands calls to the delegate itself, and the answers come
  /// to `local`, which must outlive the connection and is not retained.
  public init(
    local: any LocalCallSink, router: GRPCRouter, delegate: any GRPCServerDelegate,
    maxMessageSize: Int
  ) {
    self.router = router
    self.delegate = delegate
    self.maxMessageSize = maxMessageSize
    self.local = local
    isLocal = true
  }

  /// The handler for the channel's pipeline, which keeps this object alive as long as the channel.
  public func makeHandler(limits: HTTP2Limits = HTTP2Limits()) -> HTTP2Handler {
    let handler = HTTP2Handler(
      connection: HTTP2Connection(role: .server, limits: limits), delegate: self)
    self.handler = handler
    return handler
  }

  // MARK: Answers

  /// Answers a unary call. The message is `first` followed by `second`. Nothing happens where the
  /// client has given up meanwhile.
  public func respond(
    _ stream: StreamID, _ first: UnsafeRawBufferPointer,
    _ second: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
  ) {
    if isLocal {
      local?.received(Array(first) + Array(second), on: stream)
      local?.finished(.ok, on: stream)
      return
    }
    withUnsafeTemporaryAllocation(
      byteCount: GRPCMessages.prefixSize &+ first.count, alignment: 8
    ) { prefix in
      let start = prefix.baseAddress!
      GRPCMessages.writePrefix(first.count &+ second.count, to: start)
      if let from = first.baseAddress {
        (start + GRPCMessages.prefixSize).copyMemory(from: from, byteCount: first.count)
      }
      handler.connection.sendUnary(
        stream, head: Self.responseHead, prefix: UnsafeRawBufferPointer(prefix), body: second,
        trailers: Self.okTrailers)
    }
  }

  /// Sends a message of a streaming call, `first` followed by `second`. False if the call is over.
  @discardableResult
  public func send(
    _ stream: StreamID, _ first: UnsafeRawBufferPointer,
    _ second: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
  ) -> Bool {
    if isLocal {
      guard let local, local.isOpen(stream) else { return false }
      local.received(Array(first) + Array(second), on: stream)
      return true
    }
    let connection = handler.connection
    connection.sendHeaders(stream, Self.responseHead)
    return withUnsafeTemporaryAllocation(
      byteCount: GRPCMessages.prefixSize &+ first.count, alignment: 8
    ) { prefix in
      let start = prefix.baseAddress!
      GRPCMessages.writePrefix(first.count &+ second.count, to: start)
      if let from = first.baseAddress {
        (start + GRPCMessages.prefixSize).copyMemory(from: from, byteCount: first.count)
      }
      // Small messages go out as one frame.
      if second.count <= 1_024 {
        return withUnsafeTemporaryAllocation(
          byteCount: prefix.count &+ second.count, alignment: 8
        ) { whole in
          whole.copyMemory(from: UnsafeRawBufferPointer(prefix))
          if let from = second.baseAddress {
            (whole.baseAddress! + prefix.count).copyMemory(from: from, byteCount: second.count)
          }
          return connection.sendData(stream, UnsafeRawBufferPointer(whole))
        }
      }
      return connection.sendData(stream, UnsafeRawBufferPointer(prefix))
        && connection.sendData(stream, second)
    }
  }

  /// Sends several messages of a streaming call, each behind its prefix. False if the call is over.
  @discardableResult
  public func send(_ stream: StreamID, framed messages: UnsafeRawBufferPointer) -> Bool {
    if isLocal {
      _ = GRPCMessages.split(messages, maxSize: .max) { send(stream, $0) }
      return local?.isOpen(stream) ?? false
    }
    handler.connection.sendHeaders(stream, Self.responseHead)
    return handler.connection.sendData(stream, messages)
  }

  /// Sends the response's head of a streaming call ahead of its first message.
  public func sendHead(_ stream: StreamID) {
    if isLocal { return }
    handler.connection.sendHeaders(stream, Self.responseHead)
  }

  /// Ends a call: in one HEADERS frame where nothing was sent yet, else with trailers.
  public func finish(_ stream: StreamID, _ status: GRPCStatus) {
    if isLocal {
      local?.finished(status, on: stream)
      return
    }
    _ = takePartial(stream)
    let connection = handler.connection
    var fields = [HeaderField("grpc-status", "\(status.code.rawValue)", indexing: .plain)]
    if !status.message.isEmpty {
      fields.append(
        HeaderField(
          name: Array("grpc-message".utf8), value: GRPCStatus.percentEncoded(status.message),
          indexing: .plain))
    }
    if connection.sendHeaders(stream, Self.responseHead, extra: fields, endStream: true) { return }
    connection.sendTrailers(
      stream, status == .ok ? Self.okTrailers : HeaderTemplate(fields, isReusable: false))
  }

  /// Sends what was answered outside of a read burst. Call it once after a batch of answers.
  public func flush() {
    if !isLocal { handler.flush() }
  }

  /// Whether a call can still be answered.
  public func isOpen(_ stream: StreamID) -> Bool {
    isLocal ? local?.isOpen(stream) ?? false : handler.connection.isOpen(stream)
  }

  /// Bytes that wait on the stream for the client to read.
  public func queuedBytes(on stream: StreamID) -> Int {
    isLocal ? local?.queuedBytes(on: stream) ?? 0 : handler.connection.queuedBytes(on: stream)
  }

  /// When the client will have given up the call, by the clock of `NIODeadline`; nil if it didn't say.
  public func deadline(of stream: StreamID) -> Instant? {
    isLocal ? nil : handler.connection.deadline(of: stream)
  }

  /// The credential of the call that the delegate is being told of, as it numbered it; zero for none.
  public var eventCredential: UInt32 {
    isLocal ? localCredential : UInt32(handler.connection.eventTag >> 32)
  }

  /// Whether the call that the delegate is being told of is to fail while there is no leader (etcd's
  /// `WithRequireLeader`).
  public var eventRequiresLeader: Bool {
    isLocal ? false : handler.connection.eventTag & UInt64(Self.requiresLeader) != 0
  }

  /// The credential of an open call.
  public func credential(of stream: StreamID) -> UInt32 {
    isLocal ? localCredential : UInt32(handler.connection.tag(of: stream) >> 32)
  }

  private static let methodMask = 0xFFFF

  /// A stream's tag is its method's number below, its credential's above, and `requiresLeader` in between.
  @inline(__always)
  private static func method(_ tag: UInt64) -> Int { Int(tag & UInt64(methodMask)) }

  // MARK: HTTP2Delegate

  public func http2(
    _ handler: HTTP2Handler, headers: HeaderBlock, on stream: StreamID, endStream: Bool
  ) {
    if headers.route == -1 { headers.route = route(headers) }
    var route = headers.route
    guard route >= 0 else {
      refuse(stream, route, headers)
      return
    }
    var tag = UInt64(route & ~Self.hasCredential)
    if route & Self.hasCredential != 0 {
      // `token` is what gRPC clients send, `authorization` what others do.
      let credential = headers.first(.token) ?? headers.first(.authorization)
      let number = credential.flatMap { delegate?.grpc(self, credential: $0) } ?? 0
      tag |= UInt64(number) << 32
    }
    route &= Self.methodMask
    handler.connection.setTag(tag, of: stream)
    if let timeout = headers.first(.grpcTimeout) {
      guard let nanoseconds = GRPCTimeout.parse(timeout) else {
        finish(stream, GRPCStatus(.internal, "malformed grpc-timeout"))
        return
      }
      handler.connection.setDeadline(
        handler.connection.now.advanced(byNanoseconds: nanoseconds), of: stream)
    }
    if router.methods[route].isStreaming {
      delegate?.grpc(self, opened: route, stream: stream, headers: headers)
      if endStream { delegate?.grpc(self, halfClosed: stream, method: route) }
    } else if endStream {
      finish(stream, GRPCStatus(.internal, "the call ended without a request"))
    }
  }

  private func route(_ headers: HeaderBlock) -> Int {
    guard let type = headers.first(.contentType), type.starts(with: "application/grpc".utf8) else {
      return Self.notGRPC
    }
    if !equal(headers.method, "POST") { return Self.notPOST }
    guard let method = router.find(headers.path) else { return Self.unknownMethod }
    let isCredentialed = headers.first(.token) != nil || headers.first(.authorization) != nil
    let isLeaderRequired = headers.first(.hasleader)?.elementsEqual("true".utf8) ?? false
    return method | (isCredentialed ? Self.hasCredential : 0)
      | (isLeaderRequired ? Self.requiresLeader : 0)
  }

  private func refuse(_ stream: StreamID, _ route: Int, _ headers: HeaderBlock) {
    switch route {
    case Self.notGRPC:
      handler.connection.sendHeaders(stream, Self.unsupportedMediaType, endStream: true)
    case Self.notPOST:
      handler.connection.sendHeaders(stream, Self.methodNotAllowed, endStream: true)
    default:
      let path = String(decoding: headers.path.dropFirst(), as: UTF8.self)
      let end = path.lastIndex(of: "/") ?? path.endIndex
      let service = path[..<end]
      let method = path[end...].dropFirst()
      let message =
        router.hasService(of: headers.path)
        ? "unknown method \(method) for service \(service)" : "unknown service \(service)"
      finish(stream, GRPCStatus(.unimplemented, message))
    }
  }

  public func http2(
    _ handler: HTTP2Handler, data: UnsafeRawBufferPointer, on stream: StreamID, endStream: Bool
  ) {
    let method = Self.method(handler.connection.eventTag)
    if router.methods[method].isStreaming {
      receiveStreaming(data, method, stream, endStream: endStream)
    } else if endStream, partial.isEmpty || partial[stream] == nil,
      let message = GRPCMessages.single(data), message.count <= maxMessageSize
    {
      delegate?.grpc(self, unary: method, stream: stream, message: message)
    } else {
      receiveUnary(data, method, stream, endStream: endStream)
    }
  }

  /// The long way for unary calls: a request in several DATA frames, or a broken one.
  private func receiveUnary(
    _ data: UnsafeRawBufferPointer, _ method: Int, _ stream: StreamID, endStream: Bool
  ) {
    var collected = takePartial(stream)
    // A message is kept whole, with its prefix, until the client has ended its half: only then is
    // it certain that there is one and no more.
    if let fault = collected.collect(data, maxSize: maxMessageSize) {
      finish(stream, status(of: fault))
      return
    }
    guard endStream else { return keepPartial(stream, collected) }
    let isDelivered = collected.withSingle { message in
      delegate?.grpc(self, unary: method, stream: stream, message: message)
    }
    if !isDelivered {
      finish(stream, GRPCStatus(.internal, "the request is not exactly one message"))
    }
  }

  private func receiveStreaming(
    _ data: UnsafeRawBufferPointer, _ method: Int, _ stream: StreamID, endStream: Bool
  ) {
    var messages = takePartial(stream)
    let fault = messages.receive(data, maxSize: maxMessageSize) { message in
      if handler.connection.isOpen(stream) {
        delegate?.grpc(self, received: message, method: method, stream: stream)
      }
    }
    guard handler.connection.isOpen(stream) else { return }
    if let fault {
      delegate?.grpc(self, cancelled: stream, method: method)
      finish(stream, status(of: fault))
      return
    }
    if endStream {
      if messages.isEmpty {
        delegate?.grpc(self, halfClosed: stream, method: method)
      } else {
        delegate?.grpc(self, cancelled: stream, method: method)
        finish(stream, GRPCStatus(.internal, "the stream ended inside a message"))
      }
    } else if !messages.isEmpty {
      keepPartial(stream, messages)
    }
  }

  private func takePartial(_ stream: StreamID) -> GRPCMessages {
    guard !partial.isEmpty, let messages = partial.removeValue(forKey: stream) else { return GRPCMessages() }
    handler.connection.unfinishedBytes -= messages.count
    return messages
  }

  private func keepPartial(_ stream: StreamID, _ messages: GRPCMessages) {
    partial[stream] = messages
    let connection = handler.connection
    connection.unfinishedBytes += messages.count
    if connection.unfinishedBytes > connection.limits.maxUnfinishedBytes {
      handler.fail(HTTP2Error(.enhanceYourCalm, "too many bytes of messages that don't end"))
    }
  }

  private func status(of fault: GRPCMessages.Fault) -> GRPCStatus {
    switch fault {
    case .compressed:
      GRPCStatus(.unimplemented, "grpc: Decompressor is not installed for grpc-encoding")
    case .tooLarge(let size):
      GRPCStatus(
        .resourceExhausted,
        "grpc: received message larger than max (\(size) vs. \(maxMessageSize))")
    }
  }

  public func http2(_ handler: HTTP2Handler, trailers: HeaderBlock, on stream: StreamID) {
    // gRPC clients send none, but they end a request as END_STREAM on DATA does.
    self.http2(
      handler, data: UnsafeRawBufferPointer(start: nil, count: 0), on: stream, endStream: true)
  }

  public func http2(_ handler: HTTP2Handler, reset stream: StreamID, code: HTTP2ErrorCode) {
    _ = takePartial(stream)
    delegate?.grpc(
      self, cancelled: stream, method: Self.method(handler.connection.eventTag))
  }

  public func http2(_ handler: HTTP2Handler, writable stream: StreamID) {
    delegate?.grpc(
      self, writable: stream, method: Self.method(handler.connection.eventTag))
  }

  public func http2ReadComplete(_ handler: HTTP2Handler) { delegate?.grpcReadComplete(self) }

  public func http2Closed(_ handler: HTTP2Handler, error: (any Error)?) {
    partial = [:]
    handler.connection.unfinishedBytes = 0
    if let error = error as? HTTP2Error { onFailure?(error) }
    delegate?.grpcClosed(self)
  }
}
