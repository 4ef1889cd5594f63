import Foundation
import NIOCore
import NIOPosix
import Testing

@testable import HTTP2

/// gRPC between our own client and server, and with other people's, over real sockets.
@Suite(.serialized) struct GRPCTests {
  @Test("Percent-encoding of messages")
  func percentEncoding() {
    let texts = ["", "plain", "etcdserver: ünïcode 100%", "line\nbreak", " spaces ", "%41"]
    for text in texts {
      let encoded = GRPCStatus.percentEncoded(text)
      #expect(encoded.allSatisfy { $0 > 0x1F && $0 < 0x7F })
      #expect(encoded.withUnsafeBytes { GRPCStatus.percentDecoded($0) } == text)
    }
    let broken = Array("100%zz%4".utf8)
    #expect(broken.withUnsafeBytes { GRPCStatus.percentDecoded($0) } == "100%zz%4")
  }

  @Test("grpc-timeout")
  func timeouts() {
    func parse(_ text: String) -> UInt64? {
      Array(text.utf8).withUnsafeBytes { GRPCTimeout.parse($0) }
    }
    #expect(parse("5S") == 5_000_000_000)
    #expect(parse("100m") == 100_000_000)
    #expect(parse("99999999H") == .max)
    for bad in ["", "S", "5", "5x", "-1S", "123456789S"] { #expect(parse(bad) == nil) }
    for nanoseconds in [0, 1, 999, 5_000_000_000, 123_456_789_012, UInt64.max] as [UInt64] {
      let parsed = parse(GRPCTimeout.format(nanoseconds: nanoseconds)) ?? 0
      #expect(
        parsed <= nanoseconds && Double(nanoseconds) - Double(parsed) <= Double(nanoseconds) / 1e5)
    }
  }

  @Test("Messages are found however DATA frames cut them", arguments: 1..<40)
  func framing(piece: Int) {
    let messages: [[UInt8]] = [[], [1], Array(repeating: 2, count: 100), [3, 4, 5]]
    var bytes: [UInt8] = []
    for message in messages {
      bytes += [0] + FrameBuilder.bigEndian(UInt32(message.count)) + message
    }
    var reader = GRPCMessages()
    var found: [[UInt8]] = []
    for start in stride(from: 0, to: bytes.count, by: piece) {
      let fault = bytes[start..<min(start + piece, bytes.count)].withUnsafeBytes { part in
        reader.receive(part, maxSize: 100) { found.append(Array($0)) }
      }
      #expect(fault == nil)
    }
    #expect(found == messages)
    #expect(reader.isEmpty)
  }

  @Test("Our client and server: unary, streaming, errors, large messages, many at once")
  func ownClient() async throws {
    let server = try await EchoServer()
    let client = try await TestClient(port: server.port)
    #expect(try await client.call("/test.Echo/Unary", [1, 2, 3]).get() == [1, 2, 3])
    #expect(try await client.call("/test.Echo/Unary", []).get() == [])
    let large = [UInt8](repeating: 7, count: 3_000_000)
    #expect(try await client.call("/test.Echo/Unary", large).get() == large)
    await #expect(throws: GRPCStatus(.notFound, "nö: 100%")) {
      try await client.call("/test.Echo/Fail", [1]).get()
    }
    await #expect(throws: GRPCStatus(.unimplemented, "unknown method Nope for service test.Echo")) {
      try await client.call("/test.Echo/Nope", [1]).get()
    }
    await #expect(throws: GRPCStatus(.unimplemented, "unknown service other.Service")) {
      try await client.call("/other.Service/Nope", [1]).get()
    }
    await #expect(throws: GRPCStatus.self) {
      try await client.call("/test.Echo/Unary", [UInt8](repeating: 0, count: 5_000_000)).get()
    }
    let many = (0..<2_000).map { number in
      client.call("/test.Echo/Unary", FrameBuilder.bigEndian(UInt32(number)))
    }
    for (number, call) in many.enumerated() {
      #expect(try await call.get() == FrameBuilder.bigEndian(UInt32(number)))
    }
    try await client.disconnect()
    try await client.shutDown()
    try await server.close()
  }

  @Test("Calls that are under way when the connection goes fail as unavailable")
  func lostConnection() async throws {
    let server = try await EchoServer()
    let client = try await TestClient(port: server.port)
    let call = client.call("/test.Echo/Never", [1])
    try await Task.sleep(for: .milliseconds(50))
    try await client.disconnect()
    await #expect(throws: GRPCStatus(.unavailable, "the connection was closed")) {
      try await call.get()
    }
    try await client.shutDown()
    try await server.close()
  }

  static let hasGRPCIO = run("python3", ["-c", "import grpc"]).status == 0
  static let hasH2Load = run("h2load", ["--version"]).status == 0
  static let hasCurl = run("curl", ["--version"]).output.contains("HTTP2")

  @Test(
    "Python's grpcio: unary, errors, streams, cancellation, deadlines, flow control",
    .enabled(if: hasGRPCIO, "needs Python's grpcio (pip install grpcio)"))
  func grpcio() async throws {
    let server = try await EchoServer()
    let script = #filePath.replacingOccurrences(
      of: "GRPCTests.swift", with: "Clients/echo_client.py")
    let result = await runAside("python3", [script, "\(server.port)"])
    #expect(result.status == 0 && result.output.hasSuffix("all good\n"), "\(result.output)")
    try await server.close()
  }

  @Test(
    "h2load: a hundred thousand requests over many streams",
    .enabled(if: hasH2Load, "needs h2load (nghttp2-client)"))
  func h2load() async throws {
    let server = try await EchoServer()
    let body = FileManager.default.temporaryDirectory.appendingPathComponent("echo-\(server.port)")
    try Data([0, 0, 0, 0, 3, 1, 2, 3]).write(to: body)
    defer { try? FileManager.default.removeItem(at: body) }
    let result = await runAside(
      "h2load",
      [
        "-c", "8", "-m", "32", "-n", "20000", "-d", body.path, "-H",
        "content-type: application/grpc", "-H", "te: trailers",
        "http://127.0.0.1:\(server.port)/test.Echo/Unary",
      ])
    #expect(result.output.contains("20000 succeeded, 0 failed, 0 errored"), "\(result.output)")
    try await server.close()
  }

  @Test("curl: what isn't gRPC is told so", .enabled(if: hasCurl, "needs curl with HTTP/2"))
  func curl() async throws {
    let server = try await EchoServer()
    let result = await runAside(
      "curl",
      [
        "-s", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", "--http2-prior-knowledge",
        "http://127.0.0.1:\(server.port)/anything",
      ])
    #expect(result.output == "2 415")
    try await server.close()
  }
}

// MARK: - Fixtures

private func run(_ program: String, _ arguments: [String]) -> (status: Int32, output: String) {
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = [program] + arguments
  let pipe = Pipe()
  process.standardOutput = pipe
  process.standardError = pipe
  do { try process.run() } catch { return (127, "\(error)") }
  let output = pipe.fileHandleForReading.readDataToEndOfFile()
  process.waitUntilExit()
  return (process.terminationStatus, String(decoding: output, as: UTF8.self))
}

private func runAside(_ program: String, _ arguments: [String]) async -> (
  status: Int32, output: String
) {
  await withCheckedContinuation { continuation in
    Thread { continuation.resume(returning: run(program, arguments)) }.start()
  }
}

/// A server with one of each kind of method.
private final class EchoServer: Sendable {
  private static let router = GRPCRouter([
    .init("/test.Echo/Unary"), .init("/test.Echo/Fail"), .init("/test.Echo/Never"),
    .init("/test.Echo/Stream", isStreaming: true),
  ])
  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private let channel: any Channel
  let port: Int

  init() async throws {
    let service = EchoBox()
    channel = try await ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let connection = GRPCServerConnection(
            router: Self.router, delegate: service.value(on: channel.eventLoop),
            maxMessageSize: 4 << 20)
          try channel.pipeline.syncOperations.addHandler(connection.makeHandler())
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    port = channel.localAddress?.port ?? 0
  }

  func close() async throws {
    try await channel.close()
    try await group.shutdownGracefully()
  }
}

/// Makes the service on the loop that uses it.
private final class EchoBox: @unchecked Sendable {
  // Touched on the group's single event loop alone.
  private var service: EchoService?
  func value(on eventLoop: any EventLoop) -> EchoService {
    eventLoop.preconditionInEventLoop()
    if let service { return service }
    let made = EchoService()
    service = made
    return made
  }
}

private final class EchoService: GRPCServerDelegate {
  func grpc(
    _ connection: GRPCServerConnection, unary method: Int, stream: StreamID,
    message: UnsafeRawBufferPointer
  ) {
    switch method {
    case 0: connection.respond(stream, message)
    case 1: connection.finish(stream, GRPCStatus(.notFound, "nö: 100%"))
    default: break
    }
  }
  func grpc(
    _ connection: GRPCServerConnection, opened method: Int, stream: StreamID, headers: HeaderBlock
  ) {}
  func grpc(
    _ connection: GRPCServerConnection, received message: UnsafeRawBufferPointer, method: Int,
    stream: StreamID
  ) {
    connection.send(stream, message)
  }
  func grpc(_ connection: GRPCServerConnection, halfClosed stream: StreamID, method: Int) {
    connection.finish(stream, .ok)
  }
  func grpc(_ connection: GRPCServerConnection, cancelled stream: StreamID, method: Int) {}
  func grpc(_ connection: GRPCServerConnection, writable stream: StreamID, method: Int) {}
  func grpcReadComplete(_ connection: GRPCServerConnection) {}
  func grpcClosed(_ connection: GRPCServerConnection) {}
}

/// Unary calls as futures.
private final class TestClient: GRPCClientDelegate, @unchecked Sendable {
  // Touched on the connection's event loop alone, but for `call`, which goes there first.
  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private var connection: GRPCClientConnection!
  private var channel: (any Channel)!
  private var calls: [UInt64: EventLoopPromise<[UInt8]>] = [:]
  private var answers: [UInt64: [UInt8]] = [:]
  private var nextTag: UInt64 = 0

  init(port: Int) async throws {
    channel = try await ClientBootstrap(group: group)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let connection = GRPCClientConnection(authority: "localhost", delegate: self)
          self.connection = connection
          try channel.pipeline.syncOperations.addHandler(connection.makeHandler())
        }
      }
      .connect(host: "127.0.0.1", port: port).get()
  }

  func call(_ path: String, _ message: [UInt8]) -> EventLoopFuture<[UInt8]> {
    channel.eventLoop.flatSubmit {
      let promise = self.channel.eventLoop.makePromise(of: [UInt8].self)
      self.nextTag += 1
      self.calls[self.nextTag] = promise
      let head = self.connection.makeTemplate(path: path)
      let stream = message.withUnsafeBytes {
        self.connection.call(head, $0, timeout: .seconds(20), tag: self.nextTag)
      }
      if stream == nil { promise.fail(GRPCStatus(.unavailable, "no stream")) }
      self.connection.flush()
      return promise.futureResult
    }
  }

  func disconnect() async throws { try await channel.close() }

  /// Futures of the client's calls can't be awaited any more after this.
  func shutDown() async throws { try await group.shutdownGracefully() }

  func grpcConnected(_ client: GRPCClientConnection) {}
  func grpc(
    _ client: GRPCClientConnection, received message: UnsafeRawBufferPointer, stream: StreamID,
    tag: UInt64
  ) {
    answers[tag] = Array(message)
  }
  func grpc(
    _ client: GRPCClientConnection, finished status: GRPCStatus, stream: StreamID, tag: UInt64
  ) {
    let promise = calls.removeValue(forKey: tag)
    if status.code == .ok, let answer = answers.removeValue(forKey: tag) {
      promise?.succeed(answer)
    } else {
      promise?.fail(status)
    }
  }
  func grpcClosed(_ client: GRPCClientConnection, error: (any Error)?) {}
}
