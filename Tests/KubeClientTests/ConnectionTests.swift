import Foundation
import HTTP1Client
import NIOCore
import NIOPosix
import NIOSSL
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

  @Test(
    "speaks TLS: the handshake needs no reader, and a long body fits through",
    .enabled(if: Certificate.shared != nil, "openssl is needed to make a certificate"))
  func tls() async throws {
    let certificate = try #require(Certificate.shared)
    try await withServer(certificate: certificate) { pool, server in
      for size in [5, 3_000_000, 7] {
        let response = try await pool.send(
          OutgoingRequest(method: "GET", target: "/\(size)"), isRepeatable: true)
        #expect(try await response.body.collect(limit: 1 << 24).count == size)
      }
      #expect(server.connections == 1)
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
    certificate: Certificate? = nil,
    _ body: (HTTPConnectionPool, ScriptedServer) async throws -> Void
  ) async throws {
    let server = ScriptedServer(tls: try certificate?.server)
    let port = try await server.start()
    let pool = try HTTPConnectionPool(
      settings: HTTPConnectionPool.Settings(
        host: "127.0.0.1", port: port, tls: try certificate?.client))
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
  private let tls: NIOSSLContext?

  init(tls: NIOSSLContext?) { self.tls = tls }

  var connections: Int { count.withLock { $0 } }

  func start() async throws -> Int {
    let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .childChannelInitializer { channel in
        self.count.withLock { $0 += 1 }
        return channel.eventLoop.makeCompletedFuture {
          if let tls = self.tls {
            try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls))
          }
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

/// A self-signed certificate for 127.0.0.1 and its key.
private struct Certificate: Sendable {
  let pem: [UInt8]
  let key: [UInt8]

  static let shared: Certificate? = {
    let folder = FileManager.default.temporaryDirectory.path + "/martlet-\(UUID().uuidString)"
    try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
    process.arguments =
      ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test"]
      + ["-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
      + ["-keyout", folder + "/key", "-out", folder + "/certificate"]
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return nil }
    process.waitUntilExit()
    guard let pem = FileManager.default.contents(atPath: folder + "/certificate"),
      let key = FileManager.default.contents(atPath: folder + "/key")
    else { return nil }
    return Certificate(pem: Array(pem), key: Array(key))
  }()

  var server: NIOSSLContext {
    get throws {
      try NIOSSLContext(
        configuration: .makeServerConfiguration(
          certificateChain: NIOSSLCertificate.fromPEMBytes(pem).map { .certificate($0) },
          privateKey: .privateKey(NIOSSLPrivateKey(bytes: key, format: .pem))))
    }
  }

  /// Verifies the certificate, by address.
  var client: TLSConfiguration {
    get throws {
      var tls = TLSConfiguration.makeClientConfiguration()
      tls.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(pem))
      return tls
    }
  }
}
