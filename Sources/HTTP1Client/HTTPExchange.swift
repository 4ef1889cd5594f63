import NIOCore
import NIOHTTP1

/// A request to be sent: everything but where it goes.
public struct OutgoingRequest: Sendable {
  public var method: String
  /// Path and query, as they stand in the request line.
  public var target: String
  public var headers: [(name: String, value: String)]
  public var body: [UInt8]

  public init(
    method: String, target: String, headers: [(name: String, value: String)] = [],
    body: [UInt8] = []
  ) {
    self.method = method
    self.target = target
    self.headers = headers
    self.body = body
  }
}

/// A response whose head has arrived.
public struct IncomingResponse: Sendable {
  public let status: Int
  public let headers: [(name: String, value: String)]
  /// The body as it arrives. Dropping it before its end closes the connection.
  public let body: ResponseBody

  public func header(_ name: String) -> String? {
    headers.first { $0.name.lowercased() == name.lowercased() }?.value
  }
}

/// The bytes of a response's body, in the pieces in which they came. Can be iterated once.
///
/// A reader that is slow stops the connection from being read, so a body never piles up in memory.
public struct ResponseBody: AsyncSequence, Sendable {
  public typealias Element = [UInt8]

  typealias Producer = NIOThrowingAsyncSequenceProducer<
    ByteBuffer, any Error, NIOAsyncSequenceProducerBackPressureStrategies.HighLowWatermark,
    HTTPExchangeHandler.Demand
  >
  let sequence: Producer

  public struct AsyncIterator: AsyncIteratorProtocol {
    var iterator: Producer.AsyncIterator
    public mutating func next() async throws -> [UInt8]? {
      try await iterator.next().map { Array($0.readableBytesView) }
    }
  }

  public func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(iterator: sequence.makeAsyncIterator())
  }

  /// The whole body.
  ///
  /// - Throws: `HTTPClientError` if it is longer than `limit` bytes.
  public func collect(limit: Int) async throws -> [UInt8] {
    var bytes: [UInt8] = []
    for try await piece in self {
      guard bytes.count + piece.count <= limit else {
        throw HTTPClientError(.tooLarge, "the response is longer than \(limit) bytes")
      }
      bytes += piece
    }
    return bytes
  }
}

/// Why a request got no response.
public struct HTTPClientError: Error, Sendable, CustomStringConvertible {
  public enum Code: Sendable, Hashable {
    /// No connection could be made: surely nothing was processed.
    case cannotConnect
    /// A connection that was kept had ended before the request was written: nothing was processed.
    case notSent
    /// The connection broke: the request may or may not have been processed.
    case connectionLost
    case timedOut
    case tooLarge
    case invalid
  }
  public var code: Code
  public var message: String
  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }
  public var description: String { message }
}

/// One connection's handler: writes a request, hands its response on, then the next.
///
/// Lives on its channel's event loop.
final class HTTPExchangeHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPClientResponsePart
  typealias OutboundOut = HTTPClientRequestPart

  /// Turns the reader's demand into reads of the socket.
  ///
  /// It belongs to one exchange: a reader may let go of its body when the connection already serves the
  /// next one, which must not notice.
  struct Demand: NIOAsyncSequenceProducerDelegate {
    let channel: any Channel
    let exchange: UInt64

    func produceMore() { withHandler { $0.bodyWanted(exchange) } }
    func didTerminate() { withHandler { $0.bodyAbandoned(exchange) } }

    private func withHandler(_ body: @escaping @Sendable (HTTPExchangeHandler) -> Void) {
      let channel = channel
      channel.eventLoop.execute {
        if let handler = try? channel.pipeline.syncOperations.handler(
          type: HTTPExchangeHandler.self)
        {
          body(handler)
        }
      }
    }
  }

  private enum State {
    case idle
    case waitingForHead(CheckedContinuation<IncomingResponse, any Error>)
    case inBody(ResponseBody.Producer.Source, keepAlive: Bool)
    case closed
  }

  private var state = State.idle
  /// The exchange that `state` speaks of, or the last one; exchanges of a connection count up.
  private var exchange: UInt64 = 0
  /// The last exchange that was cancelled, perhaps before it started.
  private var cancelled: UInt64 = 0
  private let channel: any Channel
  /// Called when an exchange ended and the connection can take the next.
  private let becameIdle: () -> Void
  /// Whether the body's reader has room for more. While it hasn't, the socket isn't read.
  private var wantsMore = true

  init(channel: any Channel, becameIdle: @escaping () -> Void) {
    self.channel = channel
    self.becameIdle = becameIdle
  }

  /// - Parameter number: this exchange's, greater than those before it.
  func start(
    _ number: UInt64, _ head: HTTPRequestHead, body: [UInt8],
    _ continuation: CheckedContinuation<IncomingResponse, any Error>
  ) {
    guard case .idle = state, channel.isActive, cancelled != number else {
      channel.close(promise: nil)
      return continuation.resume(
        throwing: HTTPClientError(.notSent, "the connection was closed before the request"))
    }
    exchange = number
    state = .waitingForHead(continuation)
    channel.write(HTTPClientRequestPart.head(head), promise: nil)
    if !body.isEmpty {
      channel.write(HTTPClientRequestPart.body(.byteBuffer(ByteBuffer(bytes: body))), promise: nil)
    }
    channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
    channel.read()
  }

  /// Ends an exchange whose response nobody waits for any longer. Without effect on later ones.
  func cancel(_ number: UInt64, _ error: any Error) {
    cancelled = max(cancelled, number)
    guard number >= exchange else { return }
    guard case .waitingForHead(let continuation) = state else { return }
    state = .closed
    continuation.resume(throwing: error)
    channel.close(promise: nil)
  }

  private func bodyWanted(_ number: UInt64) {
    guard case .inBody = state, exchange == number else { return }
    wantsMore = true
    channel.read()
  }

  private func bodyAbandoned(_ number: UInt64) {
    guard case .inBody = state, exchange == number else { return }
    state = .closed
    channel.close(promise: nil)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch (unwrapInboundIn(data), state) {
    case (.head(let head), .waitingForHead(let continuation)):
      let producer = ResponseBody.Producer.makeSequence(
        elementType: ByteBuffer.self, failureType: (any Error).self,
        backPressureStrategy: .init(lowWatermark: 4, highWatermark: 16), finishOnDeinit: true,
        delegate: Demand(channel: channel, exchange: exchange))
      state = .inBody(producer.source, keepAlive: head.isKeepAlive)
      wantsMore = true
      continuation.resume(
        returning: IncomingResponse(
          status: Int(head.status.code), headers: head.headers.map { ($0.name, $0.value) },
          body: ResponseBody(sequence: producer.sequence)))
    case (.body(let bytes), .inBody(let source, _)):
      // When the reader has caught up again, `bodyWanted` says so.
      if case .stopProducing = source.yield(bytes) { wantsMore = false }
    case (.end, .inBody(let source, let keepAlive)):
      state = keepAlive ? .idle : .closed
      // First: who reads the end may send the next request at once, and shall find this connection.
      if keepAlive { becameIdle() } else { context.close(promise: nil) }
      source.finish()
    default:
      // A response nobody asked for.
      context.close(promise: nil)
    }
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    switch state {
    case .waitingForHead: context.read()
    case .inBody: if wantsMore { context.read() }
    case .idle:
      // An idle connection is read so that its end is noticed.
      context.read()
    case .closed: break
    }
    context.fireChannelReadComplete()
  }

  func channelInactive(context: ChannelHandlerContext) {
    fail(HTTPClientError(.connectionLost, "the server closed the connection"))
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    fail(HTTPClientError(.connectionLost, "\(error)"))
    context.close(promise: nil)
  }

  private func fail(_ error: HTTPClientError) {
    switch state {
    case .waitingForHead(let continuation): continuation.resume(throwing: error)
    case .inBody(let source, _): source.finish(error)
    case .idle, .closed: break
    }
    state = .closed
  }
}
