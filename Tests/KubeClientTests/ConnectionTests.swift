import HTTP1Client
import NIOCore
import NIOPosix
import Synchronization
import Testing

/// The HTTP client against a scripted server in the clear.
@Suite("An HTTP connection", .timeLimit(.minutes(1)))
struct ConnectionTests {
  @Test("is used again for the next request")
  func reuse() async throws {
    try await withServer { pool, server in
      for _ in 0..<20 {
        let response = try await pool.send(
          OutgoingRequest(method: "GET", target: "/5"), isRepeatable: true)
        #expect(response.status == 200)
        #expect(try await response.body.collect(limit: 100).count == 5)
      }
      #expect(server.connections == 1)
    }
  }

  @Test("delivers a long body to a slow reader")
  func longBody() async throws {
    try await withServer { pool, _ in
      let response = try await pool.send(
        OutgoingRequest(method: "GET", target: "/8000000"), isRepeatable: true)
      var count = 0
      for try await piece in response.body {
        count += piece.count
        if count < 1_000_000 { try await Task.sleep(for: .milliseconds(1)) }
      }
      #expect(count == 8_000_000)
    }
  }

  @Test("isn't cut off by readers of earlier bodies", arguments: [4])
  func concurrent(tasks: Int) async throws {
    try await withServer { pool, _ in
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<tasks {
          group.addTask {
            for round in 1...100 {
              let size = round * 997 % 60_000
              let response = try await pool.send(
                OutgoingRequest(method: "GET", target: "/\(size)"), isRepeatable: false)
              #expect(try await response.body.collect(limit: 1 << 20).count == size)
            }
          }
        }
        try await group.waitForAll()
      }
    }
  }

  @Test("ends when its request is cancelled, and the next one gets another")
  func cancellation() async throws {
    try await withServer { pool, server in
      let waiting = Task {
        try await pool.send(OutgoingRequest(method: "GET", target: "/never"), isRepeatable: true)
      }
      try await Task.sleep(for: .milliseconds(50))
      waiting.cancel()
      await #expect(throws: CancellationError.self) { try await waiting.value }
      let response = try await pool.send(
        OutgoingRequest(method: "GET", target: "/3"), isRepeatable: true)
      #expect(try await response.body.collect(limit: 10).count == 3)
    }
  }

  @Test("that never answers times out")
  func timeout() async throws {
    try await withServer { pool, _ in
      await #expect {
        try await pool.send(
          OutgoingRequest(method: "GET", target: "/never"), headTimeout: .milliseconds(50),
          isRepeatable: true)
      } throws: {
        ($0 as? HTTPClientError)?.code == .timedOut
      }
    }
  }

  private func withServer(
    _ body: (HTTPConnectionPool, ScriptedServer) async throws -> Void
  ) async throws {
    let server = ScriptedServer()
    let port = try await server.start()
    let pool = try HTTPConnectionPool(
      settings: HTTPConnectionPool.Settings(host: "127.0.0.1", port: port, tls: nil))
    do {
      try await body(pool, server)
    } catch {
      pool.close()
      try await server.stop()
      throw error
    }
    pool.close()
    try await server.stop()
  }
}

/// Answers `GET /N` with N bytes, and `GET /never` not at all.
private final class ScriptedServer: Sendable {
  private let count = Mutex(0)
  private let listener = Mutex<(any Channel)?>(nil)
  var connections: Int { count.withLock { $0 } }

  func start() async throws -> Int {
    let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .childChannelInitializer { channel in
        self.count.withLock { $0 += 1 }
        return channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(Answerer())
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    listener.withLock { $0 = channel }
    return channel.localAddress!.port!
  }

  func stop() async throws { try await listener.withLock { $0 }?.close() }

  private final class Answerer: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer
    private var text = ""

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      text += String(buffer: unwrapInboundIn(data))
      guard text.contains("\r\n\r\n") else { return }
      let size = Int(text.split(separator: " ")[1].dropFirst())
      text = ""
      guard let size else { return }
      let head = ByteBuffer(string: "HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
      context.write(wrapOutboundOut(head), promise: nil)
      context.writeAndFlush(
        wrapOutboundOut(ByteBuffer(repeating: 120, count: size)), promise: nil)
    }
  }
}
