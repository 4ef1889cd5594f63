import Foundation
import HTTP2
import NIOCore
import NIOHTTP1

/// etcd's JSON gateway on one HTTP/1.1 connection: the gRPC services at `POST /v3/...`.
///
/// A request's JSON becomes the protobuf message of its method, which is handed to the event loop's services
/// like any other call (`GRPCServerConnection.init(local:)`): checks, rights, batching and order are the
/// same. What comes back becomes JSON: one object, or for streams one a line, `{"result":...}`.
///
/// One call at a time, as HTTP/1.1 has it. A watch goes on until its client leaves; the other streams end
/// when every request of the body is answered.
///
/// Source: etcd's own gateway (grpc-gateway v1), asked by hand; the test compares.
final class GatewayHandler: LocalCallSink {
  private unowned let loop: ServerLoop
  private let context: ChannelHandlerContext
  /// What the services take for a connection.
  private var connection: GRPCServerConnection!
  private var stream = StreamID(1)
  private var route: GatewayRoute?
  private var head: HTTPRequestHead?
  /// A unary call's response, until its status is known.
  private var message: [UInt8]?
  /// A stream's head has been sent.
  private var isStreamOpen = false
  /// Requests of a stream that are to be answered before it ends; nil for a watch.
  private var unanswered: Int?
  private var unwritten = 0

  init(loop: ServerLoop, context: ChannelHandlerContext, maxMessageSize: Int) {
    self.loop = loop
    self.context = context
    connection = GRPCServerConnection(
      local: self, router: EtcdMethod.router, delegate: loop, maxMessageSize: maxMessageSize)
  }

  /// Whether a call is being answered.
  var isBusy: Bool { route != nil }

  /// The connection is gone.
  func close() {
    if route != nil { finishCall() }
    loop.grpcClosed(connection)
  }

  // MARK: Requests

  /// Whether the gateway is asked. Answers the request if it is.
  func handle(_ request: HTTPRequestHead, _ path: Substring, _ body: [UInt8]) -> Bool {
    guard path.hasPrefix("/v3/") || path.hasPrefix("/v3beta/") else { return false }
    head = request
    guard let route = GatewayRoute.find(path) else {
      reply(.notFound, "text/plain; charset=utf-8", Array("Not Found\n".utf8))
      return true
    }
    if request.method == .OPTIONS {
      reply(.ok, nil, [])
      return true
    }
    guard request.method == .POST else {
      reply(.methodNotAllowed, "text/plain; charset=utf-8", Array("Method Not Allowed\n".utf8))
      return true
    }
    self.route = route
    stream = StreamID(stream.rawValue &+ 2)
    let credential = request.headers.first(name: "authorization") ?? ""
    connection.localCredential =
      credential.isEmpty
      ? 0 : Array(credential.utf8).withUnsafeBytes { loop.grpc(connection, credential: $0) }
    if route.isStreaming, route.method.isStreaming {
      startStream(route, body)
    } else {
      startCall(route, body)
    }
    loop.flush()
    return true
  }

  private func startCall(_ route: GatewayRoute, _ body: [UInt8]) {
    let bytes: [UInt8]
    do { bytes = try route.request(Data(body)) } catch {
      fail(GRPCStatus(.invalidArgument, "malformed request: \(error)"))
      return
    }
    bytes.withUnsafeBytes {
      loop.grpc(connection, unary: route.method.rawValue, stream: stream, message: $0)
    }
  }

  private func startStream(_ route: GatewayRoute, _ body: [UInt8]) {
    var requests: [[UInt8]] = []
    do {
      guard let values = JSONValues.split(body) else {
        fail(GRPCStatus(.unknown, "malformed request: not a series of JSON objects"))
        return
      }
      requests = try values.map { try route.request(Data(body[$0])) }
    } catch {
      fail(GRPCStatus(.unknown, "malformed request: \(error)"))
      return
    }
    unanswered = route.method == .watch ? nil : requests.count
    let method = route.method.rawValue
    loop.grpc(connection, opened: method, stream: stream, headers: HeaderBlock.empty)
    for request in requests where self.route != nil {
      request.withUnsafeBytes {
        loop.grpc(connection, received: $0, method: method, stream: stream)
      }
    }
    if unanswered == 0, self.route != nil {
      loop.grpc(connection, halfClosed: stream, method: method)
    }
  }

  // MARK: LocalCallSink

  func isOpen(_ stream: StreamID) -> Bool { route != nil && stream == self.stream }

  func queuedBytes(on stream: StreamID) -> Int { unwritten }

  func received(_ message: [UInt8], on stream: StreamID) {
    guard isOpen(stream), let route else { return }
    guard route.isStreaming else {
      self.message = message
      return
    }
    do {
      write(Array("{\"result\":".utf8) + (try route.response(message)) + Array("}\n".utf8))
    } catch {
      connection.finish(stream, GRPCStatus(.internal, "\(error)"))
      return
    }
    if let left = unanswered {
      unanswered = left - 1
      if left == 1 {
        loop.grpc(connection, halfClosed: stream, method: route.method.rawValue)
      }
    }
  }

  func finished(_ status: GRPCStatus, on stream: StreamID) {
    guard isOpen(stream), let route else { return }
    if route.isStreaming {
      endStream(status)
      return
    }
    do {
      if status.code == .ok, let message {
        let json = try route.response(message)
        succeed(json)
      } else {
        fail(status)
      }
    } catch {
      fail(GRPCStatus(.internal, "\(error)"))
    }
  }

  // MARK: Responses

  private func succeed(_ json: [UInt8]) {
    endCall()
    reply(.ok, "application/json", json, isFromService: true)
  }

  private func fail(_ status: GRPCStatus) {
    if isStreamOpen {
      endStream(status)
      return
    }
    endCall()
    let text = Self.quoted(status.message)
    reply(
      Self.httpStatus(status.code), "application/json",
      Array("{\"error\":\(text),\"code\":\(status.code.rawValue),\"message\":\(text)}".utf8))
  }

  private func endStream(_ status: GRPCStatus) {
    if !isStreamOpen, status.code != .ok {
      fail(status)
      return
    }
    if status.code != .ok {
      let http = Self.httpStatus(status.code)
      write(
        Array(
          """
          {"error":{"grpc_code":\(status.code.rawValue),"http_code":\(http.code),\
          "message":\(Self.quoted(status.message)),"http_status":"\(http.reasonPhrase)"}}

          """.utf8))
    }
    openStream()
    endCall()
    context.writeAndFlush(NIOAny(HTTPServerResponsePart.end(nil)), promise: nil)
    if head?.isKeepAlive != true { context.close(promise: nil) }
  }

  private func endCall() {
    route = nil
    message = nil
    unanswered = nil
    isStreamOpen = false
  }

  /// The client left a call unanswered.
  private func finishCall() {
    guard let method = route?.method else { return }
    endCall()
    loop.grpc(connection, cancelled: stream, method: method.rawValue)
  }

  private func openStream() {
    guard !isStreamOpen, let head else { return }
    isStreamOpen = true
    var response = HTTPResponseHead(version: head.version, status: .ok)
    Self.addHeaders(&response.headers)
    response.headers.add(name: "content-type", value: "application/json")
    response.headers.add(name: "transfer-encoding", value: "chunked")
    context.write(NIOAny(HTTPServerResponsePart.head(response)), promise: nil)
  }

  private func write(_ line: [UInt8]) {
    openStream()
    unwritten += line.count
    let count = line.count
    let bound = NIOLoopBound(self, eventLoop: loop.eventLoop)
    let part = HTTPServerResponsePart.body(.byteBuffer(ByteBuffer(bytes: line)))
    context.writeAndFlush(NIOAny(part)).whenComplete { _ in bound.value.written(count) }
  }

  private func written(_ count: Int) {
    unwritten -= count
    if unwritten == 0, let route {
      loop.grpc(connection, writable: stream, method: route.method.rawValue)
    }
  }

  private func reply(
    _ status: HTTPResponseStatus, _ type: String?, _ body: [UInt8], isFromService: Bool = false
  ) {
    guard let head, context.channel.isActive else { return }
    var response = HTTPResponseHead(version: head.version, status: status)
    Self.addHeaders(&response.headers)
    if let type { response.headers.add(name: "content-type", value: type) }
    if isFromService {
      response.headers.add(name: "grpc-metadata-content-type", value: "application/grpc")
    }
    response.headers.add(name: "content-length", value: "\(body.count)")
    context.write(NIOAny(HTTPServerResponsePart.head(response)), promise: nil)
    context.write(
      NIOAny(HTTPServerResponsePart.body(.byteBuffer(ByteBuffer(bytes: body)))), promise: nil)
    context.writeAndFlush(NIOAny(HTTPServerResponsePart.end(nil)), promise: nil)
    if !head.isKeepAlive { context.close(promise: nil) }
  }

  /// Browsers' scripts from anywhere may ask, as with etcd's own defaults.
  private static func addHeaders(_ headers: inout HTTPHeaders) {
    headers.add(name: "access-control-allow-headers", value: "accept, content-type, authorization")
    headers.add(name: "access-control-allow-methods", value: "POST, GET, OPTIONS, PUT, DELETE")
    headers.add(name: "access-control-allow-origin", value: "*")
  }

  private static func quoted(_ text: String) -> String {
    let data = try? JSONEncoder().encode(text)
    return data.map { String(decoding: $0, as: UTF8.self) }?
      .replacing("\\/", with: "/") ?? "\"\""
  }

  /// The HTTP status that goes with a gRPC one. Source: grpc-gateway's table.
  static func httpStatus(_ code: GRPCStatus.Code) -> HTTPResponseStatus {
    switch code {
    case .ok: .ok
    case .cancelled: .requestTimeout
    case .invalidArgument, .failedPrecondition, .outOfRange: .badRequest
    case .deadlineExceeded: .gatewayTimeout
    case .notFound: .notFound
    case .alreadyExists, .aborted: .conflict
    case .permissionDenied: .forbidden
    case .resourceExhausted: .tooManyRequests
    case .unimplemented: .notImplemented
    case .unavailable: .serviceUnavailable
    case .unauthenticated: .unauthorized
    case .unknown, .internal, .dataLoss: .internalServerError
    }
  }
}
