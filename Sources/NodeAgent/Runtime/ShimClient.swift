import CLinux
import KubeAPI
import NIOCore
import NIOPosix
import Synchronization

/// The agent's connection to one shim.
///
/// Requests may overlap; answers come back by id. When the connection ends, which a shim never does by
/// itself while its sandbox lives, all waiting requests fail and `onEnd` is called once.
final class ShimClient: Sendable {
  private let channel: any Channel
  private let state: Mutex<State>

  private struct State {
    var nextID: Int64 = 1
    var waiting: [Int64: CheckedContinuation<Value, any Error>] = [:]
    var hasEnded = false
  }

  /// The longest line a shim may send, in bytes: the states of all containers of a pod.
  static let lineBytes = 4 << 20

  /// Connects to the shim of a sandbox directory.
  static func connect(
    directory: String, group: any EventLoopGroup,
    onEvent: @escaping @Sendable (ContainerID, ContainerState) -> Void,
    onEnd: @escaping @Sendable () -> Void
  ) async throws -> ShimClient {
    let descriptor = try SystemError.check(
      clinux_connect(directory, SandboxFiles.socketName), "connect to the shim in", directory)
    let handler = Handler(onEvent: onEvent, onEnd: onEnd)
    let channel = try await ClientBootstrap(group: group)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(handler)
        }
      }
      .withConnectedSocket(descriptor).get()
    let client = ShimClient(channel)
    handler.attach(client)
    return client
  }

  private init(_ channel: any Channel) {
    self.channel = channel
    state = Mutex(State())
  }

  /// Sends a request and waits for its answer: the `states` member of a `list`, null otherwise.
  @discardableResult
  func perform(_ request: ShimRequest) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
      let id: Int64? = state.withLock { state in
        if state.hasEnded { return nil }
        let id = state.nextID
        state.nextID += 1
        state.waiting[id] = continuation
        return id
      }
      guard let id else {
        continuation.resume(throwing: Self.ended)
        return
      }
      var buffer = channel.allocator.buffer(capacity: 128)
      buffer.writeBytes(request.json(id: id).json + [UInt8(ascii: "\n")])
      channel.writeAndFlush(buffer).whenFailure { [self] error in
        state.withLock { $0.waiting.removeValue(forKey: id) }?.resume(throwing: error)
      }
    }
  }

  func close() { channel.close(mode: .all, promise: nil) }

  private static var ended: RuntimeError {
    RuntimeError(.notFound, "the sandbox's shim has ended")
  }

  fileprivate func answer(_ value: Value) {
    guard let id = value["id"].integer,
      let continuation = state.withLock({ $0.waiting.removeValue(forKey: id) })
    else { return }
    if let error = value["error"].string {
      continuation.resume(throwing: RuntimeError(.startFailed, error))
    } else {
      continuation.resume(returning: value["states"])
    }
  }

  fileprivate func end() {
    let waiting = state.withLock { state in
      state.hasEnded = true
      defer { state.waiting = [:] }
      return state.waiting
    }
    for continuation in waiting.values { continuation.resume(throwing: Self.ended) }
  }

  /// Splits the stream into lines. Lives on its channel's event loop, but for `attach`.
  private final class Handler: ChannelInboundHandler, Sendable {
    typealias InboundIn = ByteBuffer

    private let onEvent: @Sendable (ContainerID, ContainerState) -> Void
    private let onEnd: @Sendable () -> Void
    private let state = Mutex(State())

    private struct State {
      var input: [UInt8] = []
      var client: ShimClient?
      var hasEnded = false
    }

    init(
      onEvent: @escaping @Sendable (ContainerID, ContainerState) -> Void,
      onEnd: @escaping @Sendable () -> Void
    ) {
      self.onEvent = onEvent
      self.onEnd = onEnd
    }

    func attach(_ client: ShimClient) {
      let hasEnded = state.withLock { state in
        state.client = client
        return state.hasEnded
      }
      if hasEnded { client.end() }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      let buffer = unwrapInboundIn(data)
      var lines: [[UInt8]] = []
      let (client, isTooLong) = state.withLock { state in
        state.input += buffer.readableBytesView
        var rest = state.input[...]
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
          lines.append(Array(rest[..<end]))
          rest = rest[(end + 1)...]
        }
        state.input = Array(rest)
        return (state.client, state.input.count > ShimClient.lineBytes)
      }
      for line in lines {
        guard let value = try? Value(json: line) else { continue }
        if value["event"].string == "container" {
          if let id = value["container"].string, let state = ContainerState(value["state"]) {
            onEvent(ContainerID(rawValue: id), state)
          }
        } else {
          client?.answer(value)
        }
      }
      if isTooLong { context.close(promise: nil) }
    }

    func channelInactive(context: ChannelHandlerContext) {
      let client = state.withLock { state in
        state.hasEnded = true
        defer { state.client = nil }
        return state.client
      }
      client?.end()
      onEnd()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
      context.close(promise: nil)
    }
  }
}
