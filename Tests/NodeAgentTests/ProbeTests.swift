import Foundation
import HTTPServer
import KubeAPI
import Logging
import NIOPosix
import Testing

@testable import NodeAgent

/// Probes against real servers on loopback.
@Suite("Probes over the network") struct ProbeTests {
  /// Answers as its paths say, on a port of its own.
  private func withServer<Result>(_ body: (Int) async throws -> Result) async throws -> Result {
    let listener = HTTPListener(address: "127.0.0.1", port: 0, tls: nil) { request in
      switch request.target.path {
      case "/ok": return .text(200, "fine")
      case "/agent":
        return .text(request.fields["User-Agent"] == "kube-probe/1.32" ? 200 : 500, "")
      case "/named": return .text(request.fields["Host"] == "inside.test" ? 200 : 500, "")
      case "/moved": return HTTPResponse(status: 302, fields: ["Location": "/ok"])
      case "/lost": return HTTPResponse(status: 302, fields: ["Location": "/bad"])
      case "/away": return HTTPResponse(status: 302, fields: ["Location": "http://198.51.100.1/"])
      case "/circle": return HTTPResponse(status: 302, fields: ["Location": "/circle"])
      case "/slow":
        try? await Task.sleep(for: .seconds(20))
        return .text(200, "late")
      default: return .text(503, "bad")
      }
    }
    let port = try await listener.bind()
    let task = Task { try await listener.run() }
    defer { task.cancel() }
    return try await body(port)
  }

  private func outcome(_ probe: Value) async throws -> ProbeTracker.Outcome {
    let settings = try #require(ProbeSettings(probe, ports: [["name": "web", "containerPort": 1]]))
    return await HandlerRunner(runtime: NoRuntime()).probe(
      settings, ContainerID(rawValue: "c"), address: "127.0.0.1")
  }

  @Test func `HTTP: the status decides, redirects are followed on the same host`() async throws {
    try await withServer { (port: Int) async throws -> Void in
      func get(_ path: String, _ headers: Value = []) async throws -> ProbeTracker.Outcome {
        try await outcome([
          "httpGet": ["path": Value(path), "port": Value(port), "httpHeaders": headers]
        ])
      }
      #expect(try await get("/ok") == .success)
      #expect(try await get("ok") == .success)
      #expect(try await get("/agent") == .success)
      #expect(try await get("/named", [["name": "Host", "value": "inside.test"]]) == .success)
      #expect(try await get("/moved") == .success)
      #expect(try await get("/away") == .success)
      #expect(try await get("/bad") == .failure("HTTP probe failed with statuscode: 503"))
      #expect(try await get("/lost") == .failure("HTTP probe failed with statuscode: 503"))
      #expect(
        try await get("/circle")
          == .failure("Get \"http://127.0.0.1:\(port)/circle\": stopped after 10 redirects"))
      #expect(
        try await get("/slow")
          == .failure(
            "Get \"http://127.0.0.1:\(port)/slow\": context deadline exceeded "
              + "(Client.Timeout exceeded while awaiting headers)"))
      #expect(try await outcome(["tcpSocket": ["port": Value(port)]]) == .success)
    }
  }

  @Test func `nobody listens`() async throws {
    #expect(
      try await outcome(["httpGet": ["port": "web"]])
        == .failure(
          "Get \"http://127.0.0.1:1/\": dial tcp 127.0.0.1:1: connect: connection refused"))
    #expect(
      try await outcome(["tcpSocket": ["port": 1]])
        == .failure("dial tcp 127.0.0.1:1: connect: connection refused"))
    #expect(
      try await outcome(["tcpSocket": ["port": "none"]])
        == .unknown("couldn't find port: none"))
    #expect(
      try await outcome(["grpc": ["port": 1]])
        == .failure("timeout: failed to connect service \"127.0.0.1:1\" within 1s"))
  }

  @Test(.enabled(if: PythonHealthServer.python != nil, "Scripts/fetch-peers fetches grpcio"))
  func `gRPC: the health service decides`() async throws {
    let server = try PythonHealthServer()
    defer { server.stop() }
    func check(_ service: String) async throws -> ProbeTracker.Outcome {
      try await outcome([
        "grpc": ["port": Value(server.port), "service": Value(service)], "timeoutSeconds": 5,
      ])
    }
    #expect(try await check("") == .success)
    #expect(
      try await check("down") == .failure("service unhealthy (responded with \"NOT_SERVING\")"))
    guard case .failure(let words) = try await check("absent") else {
      Issue.record("an unknown service is healthy")
      return
    }
    #expect(words.hasPrefix("error: health rpc probe failed"))
  }

  @Test func `a probe has Kubernetes' defaults`() throws {
    let settings = try #require(ProbeSettings(["exec": ["command": ["x"]]], ports: []))
    #expect(settings.handler == .execute(["x"]))
    #expect(settings.initialDelaySeconds == 0)
    #expect(settings.periodSeconds == 10)
    #expect(settings.timeoutSeconds == 1)
    #expect(settings.successThreshold == 1)
    #expect(settings.failureThreshold == 3)
    #expect(ProbeSettings(nil, ports: []) == nil)
  }
}

/// A health service in Python's gRPC: serving for "", not for "down", unknown else.
private final class PythonHealthServer {
  static let python: String? = {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let path = root.appendingPathComponent(".cache/venv/bin/python").path
    return FileManager.default.isExecutableFile(atPath: path) ? path : nil
  }()

  private static let script = """
    import grpc, sys
    from concurrent import futures
    def check(request, context):
        service = request[2:].decode()
        if service == "": return b"\\x08\\x01"
        if service == "down": return b"\\x08\\x02"
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {
        "Check": grpc.unary_unary_rpc_method_handler(check)}),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    """

  let port: Int
  private let process = Process()
  private let input = Pipe()

  init() throws {
    process.executableURL = URL(fileURLWithPath: Self.python!)
    process.arguments = ["-c", Self.script]
    let output = Pipe()
    process.standardInput = input
    process.standardOutput = output
    try process.run()
    var line = Data()
    while !line.contains(10) {
      let piece = output.fileHandleForReading.availableData
      if piece.isEmpty { break }
      line += piece
    }
    port = Int(String(decoding: line, as: UTF8.self).prefix { $0 != "\n" }) ?? 0
  }

  func stop() {
    try? input.fileHandleForWriting.close()
    process.waitUntilExit()
  }
}

/// For handlers that need no container.
private struct NoRuntime: ContainerRuntime {
  private struct Unused: Error {}
  let version = "none"
  var events: AsyncStream<RuntimeEvent> { AsyncStream { $0.finish() } }
  func runPodSandbox(_: SandboxConfiguration) async throws -> SandboxID { throw Unused() }
  func stopPodSandbox(_: SandboxID) async throws { throw Unused() }
  func removePodSandbox(_: SandboxID) async throws { throw Unused() }
  func createContainer(
    in _: SandboxID, _: ContainerConfiguration
  ) async throws -> ContainerID { throw Unused() }
  func startContainer(_: ContainerID) async throws { throw Unused() }
  func stopContainer(_: ContainerID, timeout: Duration) async throws { throw Unused() }
  func removeContainer(_: ContainerID) async throws { throw Unused() }
  func execute(_: ContainerID, _: ExecRequest) async throws -> ExecSession { throw Unused() }
  func attach(_: ContainerID, input: Bool) async throws -> AttachSession { throw Unused() }
  func connect(to _: SandboxID, port: UInt16) async throws -> ByteStream { throw Unused() }
  func pods() -> [SandboxStatus] { [] }
  func pods(uid: String) -> [SandboxStatus] { [] }
  func usage(of _: [SandboxStatus], now _: Timestamp) async -> RuntimeUsage { RuntimeUsage() }
  func logPath(_: ContainerID) -> String? { nil }
  func imageStatus(_: String) async throws -> Image? { nil }
  func listImages() async throws -> [Image] { [] }
  func pullImage(_: String) async throws -> Image { throw Unused() }
}
