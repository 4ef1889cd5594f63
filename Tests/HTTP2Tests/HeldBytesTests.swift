import NIOCore
import NIOEmbedded
import Testing

@testable import HTTP2

/// What a server holds for its peers is bounded, for each connection and for all together.
@Suite struct HeldBytesTests {
  typealias F = FrameBuilder

  /// A server that takes every call and answers none, on a channel without a network.
  final class Server {
    let channel = EmbeddedChannel()
    let connection: GRPCServerConnection
    private let delegate = Idle()
    private(set) var failure: HTTP2Error?
    var isClosed: Bool { !channel.isActive }

    init(_ held: HeldBytes? = nil, limits: HTTP2Limits = HTTP2Limits()) throws {
      connection = GRPCServerConnection(
        router: GRPCRouter([.init("/a.B/Unary"), .init("/a.B/Stream", isStreaming: true)]),
        delegate: delegate, maxMessageSize: 100_000)
      let handler = connection.makeHandler(limits: limits)
      handler.held = held
      connection.onFailure = { [weak self] in self?.failure = $0 }
      try channel.pipeline.syncOperations.addHandler(handler)
      try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
      receive(F.preface + F.settings())
    }

    func receive(_ bytes: [UInt8]) {
      guard !isClosed else { return }
      _ = try? channel.writeInbound(ByteBuffer(bytes: bytes))
      channel.embeddedEventLoop.run()
    }

    func call(_ stream: UInt32, _ path: String, _ bytes: Int) {
      receive(
        F.headers(
          stream,
          [(":method", "POST"), (":scheme", "http"), (":path", path), ("content-type", "application/grpc")])
          + F.frame(FrameType.data, stream: stream, [0, 0, 1, 0, 0] + [UInt8](repeating: 1, count: bytes - 5)))
    }
  }

  @Test(
    "Messages that nobody finishes are kept up to a bound, and then the connection ends",
    arguments: ["/a.B/Unary", "/a.B/Stream"])
  func unfinishedMessages(path: String) throws {
    var limits = HTTP2Limits()
    limits.maxUnfinishedBytes = 100_000
    let server = try Server(limits: limits)
    for number in 0..<10 as Range<UInt32> { server.call(1 + 2 * number, path, 10_000) }
    #expect(server.failure == nil)
    #expect(server.connection.handler.connection.unfinishedBytes == 100_000)
    // What its client gives up is not held any more.
    server.receive(F.reset(1))
    #expect(server.connection.handler.connection.unfinishedBytes == 90_000)
    server.call(101, path, 10_000)
    #expect(server.failure == nil)
    server.call(103, path, 10)
    #expect(server.failure?.code == .enhanceYourCalm)
    #expect(server.isClosed)
  }

  @Test("Beyond the server's bound, connections that hold much end, and those that hold little stay")
  func serversBound() throws {
    let held = HeldBytes(bound: 256_000)
    let small = try Server(held)
    small.call(1, "/a.B/Unary", 500)
    let large = try (0..<16).map { _ in try Server(held) }
    for server in large { server.call(1, "/a.B/Unary", 16_000) }
    #expect(held.count <= held.bound)
    #expect(large.contains { $0.failure?.code == .enhanceYourCalm })
    #expect(large.contains { $0.failure == nil })
    small.call(3, "/a.B/Unary", 400)
    #expect(small.failure == nil)
    for server in large + [small] where !server.isClosed { server.connection.handler.close() }
    #expect(held.count == 0)
  }
}

/// Takes every call and answers none.
private final class Idle: GRPCServerDelegate {
  func grpc(_ connection: GRPCServerConnection, unary method: Int, stream: StreamID, message: UnsafeRawBufferPointer) {}
  func grpc(_ connection: GRPCServerConnection, opened method: Int, stream: StreamID, headers: HeaderBlock) {}
  func grpc(_ connection: GRPCServerConnection, received message: UnsafeRawBufferPointer, method: Int, stream: StreamID) {}
  func grpc(_ connection: GRPCServerConnection, halfClosed stream: StreamID, method: Int) {}
  func grpc(_ connection: GRPCServerConnection, cancelled stream: StreamID, method: Int) {}
  func grpc(_ connection: GRPCServerConnection, writable stream: StreamID, method: Int) {}
  func grpcReadComplete(_ connection: GRPCServerConnection) {}
  func grpcClosed(_ connection: GRPCServerConnection) {}
}
