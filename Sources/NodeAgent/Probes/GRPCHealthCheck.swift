import HTTP2
import NIOCore
import NIOPosix

/// One call of `grpc.health.v1.Health/Check`, on a connection of its own.
///
/// Source: "GRPC Health Checking Protocol". The request is `{1: service}`, the answer `{1: status}` with
/// 1 for serving.
final class GRPCHealthCheck: GRPCClientDelegate {
  private enum Answer: Sendable {
    case status(Int)
    case failed(GRPCStatus)
    case lost(String)
  }

  private let service: String
  private let promise: EventLoopPromise<Answer>
  private var answer: Int?
  private var isDone = false

  private init(service: String, promise: EventLoopPromise<Answer>) {
    self.service = service
    self.promise = promise
  }

  static func run(
    host: String, port: Int, service: String, timeout: Duration
  ) async -> ProbeTracker.Outcome {
    let place = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    let seconds = timeout.components.seconds
    let late = "timeout: failed to connect service \"\(place)\" within \(seconds)s"
    do {
      let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .channelOption(.autoRead, value: false)
        .connectTimeout(TimeAmount(timeout)).connect(host: host, port: port).get()
      defer { channel.close(promise: nil) }
      let promise = channel.eventLoop.makePromise(of: Answer.self)
      let timer = channel.eventLoop.scheduleTask(in: TimeAmount(timeout)) {
        promise.succeed(.lost(late))
      }
      defer { timer.cancel() }
      // Bound to the channel's life: the connection holds its delegate weakly.
      let check = try await channel.eventLoop.submit {
        let check = GRPCHealthCheck(service: service, promise: promise)
        let client = GRPCClientConnection(
          authority: place, delegate: check, maxMessageSize: 4_096)
        try channel.pipeline.syncOperations.addHandler(client.makeHandler())
        return NIOLoopBound(check, eventLoop: channel.eventLoop)
      }.get()
      try await channel.setOption(.autoRead, value: true).get()
      let answer = try await promise.futureResult.get()
      withExtendedLifetime(check) {}
      switch answer {
      case .status(1): return .success
      case .status(let number):
        let name = [0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"][number] ?? "\(number)"
        return .failure("service unhealthy (responded with \"\(name)\")")
      case .failed(let status) where status.code == .unimplemented:
        return .failure(
          "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "
            + status.message)
      case .failed(let status) where status.code == .deadlineExceeded:
        return .failure("timeout: health rpc did not complete within \(seconds)s")
      case .failed(let status):
        return .failure("error: health rpc probe failed: \(status)")
      case .lost(let words): return .failure(words)
      }
    } catch {
      return .failure(late)
    }
  }

  private func finish(_ answer: Answer) {
    if isDone { return }
    isDone = true
    promise.succeed(answer)
  }

  func grpcConnected(_ client: GRPCClientConnection) {
    let name = Array(service.utf8)
    var message: [UInt8] = []
    if !name.isEmpty {
      message.append(0x0A)
      var count = name.count
      while count >= 0x80 {
        message.append(UInt8(truncatingIfNeeded: count) | 0x80)
        count >>= 7
      }
      message.append(UInt8(count))
      message += name
    }
    let template = client.makeTemplate(path: "/grpc.health.v1.Health/Check")
    let stream = message.withUnsafeBytes { client.call(template, $0, tag: 1) }
    if stream == nil { return finish(.lost("the server takes no call")) }
    client.flush()
  }

  func grpc(
    _ client: GRPCClientConnection, received message: UnsafeRawBufferPointer, stream: StreamID,
    tag: UInt64
  ) {
    // The default of an absent field is UNKNOWN.
    answer = message.count >= 2 && message[0] == 0x08 ? Int(message[1]) : 0
  }

  func grpc(
    _ client: GRPCClientConnection, finished status: GRPCStatus, stream: StreamID, tag: UInt64
  ) {
    if status.code == .ok, let answer {
      finish(.status(answer))
    } else {
      finish(.failed(status))
    }
  }

  func grpcClosed(_ client: GRPCClientConnection, error: (any Error)?) {
    finish(.lost("error: the connection was closed"))
  }
}
