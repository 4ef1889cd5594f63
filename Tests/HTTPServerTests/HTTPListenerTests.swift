import HTTPServer
import NIOCore
import NIOPosix
import Synchronization
import Testing

@Suite("A listener", .timeLimit(.minutes(1)))
struct HTTPListenerTests {
  @Test("answers requests one after the other on one connection")
  func keepAlive() async throws {
    try await withListener { request in
      .text(200, "\(request.method) \(request.target.path) \(request.body.count)")
    } body: { port in
      let client = try await RawClient(port: port)
      // Two requests in one write: the second waits for the first one's answer.
      try await client.send(
        "GET /one HTTP/1.1\r\nHost: x\r\n\r\nPOST /two HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
      )
      let answer = try await client.receive { $0.contains("POST /two 3") }
      #expect(answer.contains("GET /one 0"))
      #expect(answer.contains("Content-Length: 11\r\n"))
      try await client.close()
    }
  }

  @Test("refuses a body over its limit, by its length or as it comes, and closes")
  func bodyLimit() async throws {
    var limits = HTTPLimits()
    limits.requestBodyBytes = 10
    try await withListener(limits: limits) { _ in
      .text(200, "never")
    } body: { port in
      for request in [
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nabcdefghijk\r\n0\r\n\r\n",
      ] {
        let client = try await RawClient(port: port)
        try await client.send(request)
        #expect(try await client.receiveToEnd().hasPrefix("HTTP/1.1 413"))
      }
    }
  }

  @Test("answers nonsense with 400 and closes")
  func nonsense() async throws {
    try await withListener { _ in
      .text(200, "never")
    } body: { port in
      for request in ["\u{16}\u{3}\u{1} nonsense\r\n\r\n", "GET /../x HTTP/1.1\r\nHost: x\r\n\r\n"]
      {
        let client = try await RawClient(port: port)
        try await client.send(request)
        #expect(try await client.receiveToEnd().hasPrefix("HTTP/1.1 400"))
      }
    }
  }

  @Test("hands a connection over, with what was sent behind the request")
  func upgradeToBytes() async throws {
    try await withListener { _ in
      HTTPResponse(
        status: 101, fields: ["Connection": "Upgrade", "Upgrade": "echo"],
        body: .upgrade(.bytes) { stream in
          while let bytes = try? await stream.read() { try? await stream.write(bytes) }
        })
    } body: { port in
      let client = try await RawClient(port: port)
      try await client.send(
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ")
      let answer = try await client.receive { $0.hasSuffix("early ") }
      #expect(answer.hasPrefix("HTTP/1.1 101 Switching Protocols\r\n"))
      #expect(!answer.lowercased().contains("transfer-encoding"))
      try await client.send("GET is no request any more")
      #expect(try await client.receive { $0.hasSuffix("any more") }.hasSuffix("GET is no request any more"))
      try await client.close()
    }
  }

  @Test("closes behind an upgrade that it refuses")
  func refusedUpgrade() async throws {
    try await withListener { _ in
      .text(400, "no")
    } body: { port in
      let client = try await RawClient(port: port)
      try await client.send(
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly")
      #expect(try await client.receiveToEnd().hasPrefix("HTTP/1.1 400"))
    }
  }

  @Test("speaks WebSocket: whole messages from fragments, ping, a bound, a clean end")
  func webSocket() async throws {
    var limits = HTTPLimits()
    limits.messageBytes = 64
    try await withListener(limits: limits) { _ in
      HTTPResponse(
        status: 101, fields: ["Connection": "Upgrade", "Upgrade": "websocket"],
        body: .upgrade(.webSocket) { stream in
          while let bytes = try? await stream.read(), bytes != Array("bye".utf8) {
            try? await stream.write(bytes)
          }
        })
    } body: { port in
      func open() async throws -> RawClient {
        let client = try await RawClient(port: port)
        try await client.send(
          "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        _ = try await client.receive { $0.hasSuffix("\r\n\r\n") }
        return client
      }
      // A mask of zeros keeps the payload readable. 0x02 binary, 0x00 continuation, 0x80 final.
      let client = try await open()
      try await client.send(bytes: [0x02, 0x82, 0, 0, 0, 0] + Array("he".utf8))
      try await client.send(bytes: [0x89, 0x81, 0, 0, 0, 0] + Array("?".utf8))
      try await client.send(bytes: [0x80, 0x83, 0, 0, 0, 0] + Array("llo".utf8))
      _ = try await client.receive { $0.hasSuffix("hello") }
      try await client.send(bytes: [0x82, 0x83, 0, 0, 0, 0] + Array("bye".utf8))
      // The pong, the message, then close with code 1000.
      let all = try await client.receiveToEnd()
      #expect(all.contains("?"))
      let long = try await open()
      try await long.send(bytes: [0x82, 0xFE, 0x01, 0x00, 0, 0, 0, 0])
      _ = try await long.receiveToEnd()
    }
  }

  @Test("streams piece by piece, each of them at once")
  func streaming() async throws {
    let (released, release) = AsyncStream.makeStream(of: Void.self)
    try await withListener { _ in
      HTTPResponse(
        status: 200,
        body: .stream { writer in
          try await writer.write(Array("first".utf8))
          for await _ in released { break }
          try await writer.write(Array("second".utf8))
        })
    } body: { port in
      let client = try await RawClient(port: port)
      try await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      let early = try await client.receive { $0.contains("first") }
      #expect(early.contains("transfer-encoding: chunked"))
      #expect(!early.contains("second"))
      release.yield()
      let whole = try await client.receive { $0.hasSuffix("0\r\n\r\n") }
      #expect(whole.contains("6\r\nsecond\r\n"))
      try await client.close()
    }
  }

  @Test("cancels a stream's producer when its reader leaves")
  func cancellation() async throws {
    let (cancelled, cancel) = AsyncStream.makeStream(of: Void.self)
    try await withListener { _ in
      HTTPResponse(
        status: 200,
        body: .stream { writer in
          try await writer.write(Array("x".utf8))
          do { try await Task.sleep(for: .seconds(60)) } catch { cancel.yield() }
        })
    } body: { port in
      let client = try await RawClient(port: port)
      try await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      _ = try await client.receive { $0.contains("x") }
      try await client.close()
      for await _ in cancelled { break }
    }
  }

  @Test("holds a producer back while its reader doesn't read")
  func backPressure() async throws {
    let written = Counter()
    try await withListener { _ in
      HTTPResponse(
        status: 200,
        body: .stream { writer in
          let piece = [UInt8](repeating: 0x61, count: 1 << 20)
          for _ in 0..<200 {
            try await writer.write(piece)
            written.increment()
          }
        })
    } body: { port in
      let client = try await RawClient(port: port, reads: false)
      try await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      // Kernel buffers take a few pieces; then nothing more is produced.
      var last = -1
      while written.value != last || last == 0 {
        last = written.value
        try await Task.sleep(for: .milliseconds(200))
      }
      #expect(written.value < 100)
      try await client.close()
    }
  }

  @Test(
    "cuts the connection where a producer fails, so that half a body isn't taken for a whole one")
  func producerFailure() async throws {
    struct Failure: Error {}
    try await withListener { _ in
      HTTPResponse(
        status: 200,
        body: .stream { writer in
          try await writer.write(Array("half".utf8))
          throw Failure()
        })
    } body: { port in
      let client = try await RawClient(port: port)
      try await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      #expect(try await !client.receiveToEnd().hasSuffix("0\r\n\r\n"))
    }
  }

  @Test("lets a request in flight end when it is stopped, and closes idle connections")
  func drain() async throws {
    let (entered, enter) = AsyncStream.makeStream(of: Void.self)
    let listener = HTTPListener(address: "127.0.0.1", port: 0, tls: nil) { _ in
      enter.yield()
      try? await Task.sleep(for: .milliseconds(300))
      return .text(200, "done")
    }
    let port = try await listener.bind()
    let running = Task { try await listener.run() }
    let idle = try await RawClient(port: port)
    let busy = try await RawClient(port: port)
    try await busy.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    for await _ in entered { break }
    running.cancel()
    #expect(try await busy.receiveToEnd().hasSuffix("done\n"))
    #expect(try await idle.receiveToEnd() == "")
    try await running.value
    await #expect(throws: (any Error).self) { try await RawClient(port: port) }
  }

  @Test("says which address it can't listen on")
  func portInUse() async throws {
    try await withListener { _ in
      .text(200, "")
    } body: { port in
      let second = HTTPListener(address: "127.0.0.1", port: port, tls: nil) { _ in .text(200, "") }
      let error = await #expect(throws: HTTPServerError.self) { try await second.bind() }
      #expect(error?.message.contains("can't listen on 127.0.0.1:\(port)") == true)
    }
  }

  private func withListener(
    limits: HTTPLimits = HTTPLimits(), handler: @escaping HTTPListener.Handler,
    body: (Int) async throws -> Void
  ) async throws {
    let listener = HTTPListener(
      address: "127.0.0.1", port: 0, tls: nil, limits: limits, handler: handler)
    let port = try await listener.bind()
    let running = Task { try await listener.run() }
    try await body(port)
    running.cancel()
    try await running.value
  }
}

private final class Counter: Sendable {
  private let count = Atomic(0)
  var value: Int { count.load(ordering: .relaxed) }
  func increment() { count.wrappingAdd(1, ordering: .relaxed) }
}

/// A connection that sends text and collects what comes.
private final class RawClient: Sendable {
  private let channel: any Channel
  private let received = Mutex("")

  private final class Collector: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    let append: (String) -> Void
    init(append: @escaping (String) -> Void) { self.append = append }
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      append(String(buffer: unwrapInboundIn(data)))
    }
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
      context.close(promise: nil)
    }
  }

  init(port: Int, reads: Bool = true) async throws {
    channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .channelOption(.autoRead, value: false)
      .connect(host: "127.0.0.1", port: port).get()
    guard reads else { return }
    try await channel.eventLoop.submit { [self, channel] in
      try channel.pipeline.syncOperations.addHandler(
        Collector { text in self.received.withLock { $0 += text } })
    }.get()
    try await channel.setOption(.autoRead, value: true).get()
  }

  func send(_ text: String) async throws {
    try await channel.writeAndFlush(ByteBuffer(string: text))
  }

  func send(bytes: [UInt8]) async throws {
    try await channel.writeAndFlush(ByteBuffer(bytes: bytes))
  }

  func receive(until condition: (String) -> Bool) async throws -> String {
    while true {
      let text = received.withLock { $0 }
      if condition(text) { return text }
      guard channel.isActive else { return text }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  func receiveToEnd() async throws -> String {
    try await channel.closeFuture.get()
    return received.withLock { $0 }
  }

  func close() async throws { try await channel.close() }
}
