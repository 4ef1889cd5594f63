import HTTP2
import NIOCore
import NIOPosix
import NIOSSL
import Primitives
import Synchronization

/// gRPC calls over one HTTP/2 connection to one member.
///
/// Callers are tasks on any thread; the connection's state belongs to its event loop. A call hops there
/// once to start and its task resumes from there once when it ends.
public final class HTTP2Transport: CallTransport {
  public enum Limits {
    /// Bytes of one answer. A page of 500 large objects stays below this.
    public static let messageBytes = 512 << 20
    /// Bytes of a stream's messages that wait for their reader; more ends the stream, which a watch
    /// then opens again where it was.
    public static let queuedStreamBytes = 128 << 20
  }

  /// How connections to `https` endpoints are made.
  public struct TLS: Sendable {
    /// PEM text; empty: the system's roots.
    public var roots: String
    /// The client's certificate and key as PEM text, where the store asks for them.
    public var certificate: String?
    public var key: String?
    /// False takes whatever certificate the server shows: for trying out, never for data.
    public var verifiesServer = true
    /// The name that the server's certificate must be for, where it isn't the endpoint's.
    public var serverName: String?

    public init(roots: String = "", certificate: String? = nil, key: String? = nil) {
      self.roots = roots
      self.certificate = certificate
      self.key = key
    }

    func makeContext() throws -> NIOSSLContext {
      var configuration = TLSConfiguration.makeClientConfiguration()
      configuration.applicationProtocols = ["h2"]
      if !verifiesServer { configuration.certificateVerification = .none }
      if !roots.isEmpty {
        configuration.trustRoots = .certificates(
          try NIOSSLCertificate.fromPEMBytes(Array(roots.utf8)))
      }
      if let certificate, let key {
        configuration.certificateChain = try NIOSSLCertificate.fromPEMBytes(
          Array(certificate.utf8)
        ).map { .certificate($0) }
        configuration.privateKey = .privateKey(
          try NIOSSLPrivateKey(bytes: Array(key.utf8), format: .pem))
      }
      return try NIOSSLContext(configuration: configuration)
    }
  }

  private let loop: any EventLoop
  private let calls: NIOLoopBound<ConnectionCalls>
  private let usability: Usability

  private init(loop: any EventLoop, calls: NIOLoopBound<ConnectionCalls>, usability: Usability) {
    self.loop = loop
    self.calls = calls
    self.usability = usability
  }

  /// What `StoreClient` connects with: plain where the endpoint is `http`.
  ///
  /// - Parameter metadata: headers of every call.
  public static func connector(
    group: MultiThreadedEventLoopGroup = .singleton, tls: TLS = TLS(),
    metadata: [HeaderField] = []
  ) -> StoreClient.Connect {
    { (endpoint, timeout) async throws(StoreError) in
      do {
        return try await connect(
          to: endpoint, timeout: timeout, group: group, tls: tls, metadata: metadata)
      } catch {
        throw StoreError(.unavailable, "can't connect to \(endpoint): \(error)")
      }
    }
  }

  private static func connect(
    to endpoint: StoreClient.Endpoint, timeout: Duration, group: MultiThreadedEventLoopGroup,
    tls: TLS, metadata: [HeaderField]
  ) async throws -> HTTP2Transport {
    let context = endpoint.isSecure ? try tls.makeContext() : nil
    // Nothing is read before the handler is in place.
    let channel = try await ClientBootstrap(group: group)
      .channelOption(.autoRead, value: false)
      .channelOption(.socketOption(.tcp_nodelay), value: 1)
      .connectTimeout(.nanoseconds(Int64(clamping: timeout.wholeNanoseconds)))
      .connect(host: endpoint.host, port: endpoint.port).get()
    let usability = Usability()
    let calls = try await channel.eventLoop.submit {
      let calls = ConnectionCalls(
        authority: endpoint.description, scheme: endpoint.isSecure ? "https" : "http",
        usability: usability, metadata: metadata)
      let pipeline = channel.pipeline.syncOperations
      if let context {
        let isAddress = (try? SocketAddress(ipAddress: endpoint.host, port: 0)) != nil
        try pipeline.addHandler(
          try NIOSSLClientHandler(
            context: context,
            serverHostname: tls.serverName ?? (isAddress ? nil : endpoint.host)))
      }
      try pipeline.addHandler(calls.makeHandler())
      return NIOLoopBound(calls, eventLoop: channel.eventLoop)
    }.get()
    try await channel.setOption(.autoRead, value: true).get()
    return HTTP2Transport(loop: channel.eventLoop, calls: calls, usability: usability)
  }

  public var isUsable: Bool { usability.isUsable }

  public func close() {
    usability.end()
    loop.execute { [calls] in calls.value.close() }
  }

  public func call(
    _ method: String, _ request: [UInt8], timeout: Duration
  ) async throws(StoreError) -> [UInt8] {
    let tag = CallTag.next()
    let result: Result<[UInt8], StoreError> = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        loop.execute { [calls] in
          calls.value.start(tag, method, request, timeout: timeout) {
            continuation.resume(returning: $0)
          }
        }
      }
    } onCancel: {
      loop.execute { [calls] in calls.value.cancel(tag) }
    }
    return try result.get()
  }

  public func open(
    _ method: String, timeout: Duration
  ) async throws(StoreError) -> any CallStream {
    let stream = HTTP2CallStream(tag: CallTag.next(), loop: loop, calls: calls)
    let result: Result<Void, StoreError> = await withCheckedContinuation { continuation in
      loop.execute { [calls] in
        continuation.resume(returning: calls.value.open(stream, method))
      }
    }
    try result.get()
    return stream
  }
}

/// Whether a connection can still be used, seen from any thread.
final class Usability: Sendable {
  private let flag = Atomic<Bool>(true)
  var isUsable: Bool { flag.load(ordering: .acquiring) }
  func end() { flag.store(false, ordering: .releasing) }
}

/// Numbers calls over all connections.
enum CallTag {
  private static let counter = Atomic<UInt64>(1)
  static func next() -> UInt64 { counter.wrappingAdd(1, ordering: .relaxed).oldValue }
}

/// A streaming call: messages wait here for their reader.
final class HTTP2CallStream: CallStream {
  let tag: UInt64
  private let loop: any EventLoop
  private let calls: NIOLoopBound<ConnectionCalls>

  private struct State {
    var messages: [[UInt8]] = []
    var queuedBytes = 0
    var end: Result<Void, StoreError>?
    var reader: CheckedContinuation<Result<[UInt8]?, StoreError>, Never>?
  }
  private let state = Mutex(State())

  init(tag: UInt64, loop: any EventLoop, calls: NIOLoopBound<ConnectionCalls>) {
    self.tag = tag
    self.loop = loop
    self.calls = calls
  }

  func send(_ message: [UInt8]) async throws(StoreError) {
    let result: Result<Void, StoreError> = await withCheckedContinuation { continuation in
      loop.execute { [calls, tag] in
        continuation.resume(returning: calls.value.send(tag, message))
      }
    }
    try result.get()
  }

  func next() async throws(StoreError) -> [UInt8]? {
    let result: Result<[UInt8]?, StoreError> = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let ready: Result<[UInt8]?, StoreError>? = state.withLock { state in
          if !state.messages.isEmpty {
            let message = state.messages.removeFirst()
            state.queuedBytes -= message.count
            return .success(message)
          }
          if let end = state.end { return end.map { nil } }
          state.reader = continuation
          return nil
        }
        if let ready { continuation.resume(returning: ready) }
      }
    } onCancel: {
      cancel()
    }
    return try result.get()
  }

  func cancel() {
    finish(.failure(StoreError(.cancelled, "the call was cancelled")))
    loop.execute { [calls, tag] in calls.value.cancel(tag) }
  }

  func finishSending() {
    loop.execute { [calls, tag] in calls.value.finishSending(tag) }
  }

  /// - Returns: false where the reader is too far behind.
  func deliver(_ message: [UInt8]) -> Bool {
    let (accepted, reader) = state.withLock {
      state -> (Bool, CheckedContinuation<Result<[UInt8]?, StoreError>, Never>?) in
      if let reader = state.reader {
        state.reader = nil
        return (true, reader)
      }
      guard state.queuedBytes + message.count <= HTTP2Transport.Limits.queuedStreamBytes else {
        return (false, nil)
      }
      state.messages.append(message)
      state.queuedBytes += message.count
      return (true, nil)
    }
    reader?.resume(returning: .success(message))
    return accepted
  }

  func finish(_ end: Result<Void, StoreError>) {
    let reader = state.withLock { state in
      if state.end == nil { state.end = end }
      defer { state.reader = nil }
      return state.reader
    }
    reader?.resume(returning: end.map { nil })
  }
}
