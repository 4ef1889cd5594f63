import EtcdProto
import HTTP2
import NIOPosix
import Primitives
import SwiftProtobuf
import Synchronization

/// Calls of every method of the store in its generated messages, for tools.
///
/// `StoreClient` is for programs that want keys and watches and no more. A tool such as `martlet ctl` shows an
/// operator what the server says: all methods, all fields, and errors in the server's own words
/// (`StoreError.status`). It holds one connection at a time, to the first endpoint that takes it, and turns to the
/// next where a call certainly changed nothing.
public final class MessageClient: Sendable {
  /// Whom to call, and how.
  public struct Settings: Sendable {
    public var endpoints: [StoreClient.Endpoint]
    public var tls = HTTP2Transport.TLS()
    /// Logs in before the first call.
    public var user: (name: String, password: String)?
    /// For one attempt to connect.
    public var connectTimeout = Duration.seconds(2)
    /// For one call, over all endpoints.
    public var callTimeout = Duration.seconds(5)

    public init(endpoints: [StoreClient.Endpoint]) { self.endpoints = endpoints }
  }

  public let settings: Settings
  private let connection = Mutex<(any CallTransport)?>(nil)
  private let token = Mutex<String?>(nil)
  /// Between two rounds in which no endpoint could be reached.
  private static let retryPause = Duration.milliseconds(100)

  public init(_ settings: Settings) {
    invariant(!settings.endpoints.isEmpty, "a store client without endpoints")
    self.settings = settings
  }

  /// Makes a call with one request and one answer.
  ///
  /// - Parameters:
  ///   - method: such as `KV/Range`.
  ///   - isSafe: the call may be made again after its outcome became unknown.
  ///   - timeout: nil for that of the settings.
  public func call<Request: Message, Answer: Message>(
    _ method: String, _ request: Request, isSafe: Bool = false, timeout: Duration? = nil
  ) async throws(StoreError) -> Answer {
    let bytes: [UInt8]
    do { bytes = try request.serializedBytes() } catch {
      throw StoreError(.refused, "a request that can't be written: \(error)")
    }
    let deadline = ContinuousClock.now + (timeout ?? settings.callTimeout)
    while true {
      let transport = try await connected(until: deadline)
      let answer: [UInt8]
      do throws(StoreError) {
        let left = max(deadline - ContinuousClock.now, .milliseconds(1))
        answer = try await transport.call("/\(Self.package(method))", bytes, timeout: left)
      } catch {
        let mayRepeat = error.code == .unavailable || (isSafe && error.code == .unknownOutcome)
        // What a server answered is its answer; what broke on the way is tried elsewhere.
        guard error.status == nil, mayRepeat, ContinuousClock.now < deadline else { throw error }
        discard(transport)
        continue
      }
      do { return try Answer(serializedBytes: answer) } catch {
        throw StoreError(.malformedAnswer, "an answer can't be read: \(error)")
      }
    }
  }

  /// Opens a call with many answers.
  ///
  /// - Parameter requiresLeader: the call ends when its member knows no leader.
  public func open<Request: Message, Answer: Message>(
    _ method: String, sending: Request.Type = Request.self, answers: Answer.Type = Answer.self,
    requiresLeader: Bool = false
  ) async throws(StoreError) -> MessageStream<Request, Answer> {
    let deadline = ContinuousClock.now + settings.callTimeout
    let transport: any CallTransport
    if requiresLeader {
      transport = try await connect(until: deadline, metadata: [HeaderField("hasleader", "true")])
    } else {
      transport = try await connected(until: deadline)
    }
    let stream = try await transport.open(
      "/\(Self.package(method))", timeout: settings.connectTimeout)
    return MessageStream(stream: stream, transport: requiresLeader ? transport : nil)
  }

  public func close() { connection.withLock { $0.take() }?.close() }

  /// Makes sure that there is a connection, logged in where there is a user.
  public func connect() async throws(StoreError) {
    _ = try await connected(until: ContinuousClock.now + settings.callTimeout)
  }

  // MARK: Connections

  private static func package(_ method: String) -> String {
    switch method.prefix(while: { $0 != "/" }) {
    case "Lock": "v3lockpb.\(method)"
    case "Election": "v3electionpb.\(method)"
    default: "etcdserverpb.\(method)"
    }
  }

  private func connected(
    until deadline: ContinuousClock.Instant
  ) async throws(StoreError) -> any CallTransport {
    if let current = connection.withLock({ $0 }), current.isUsable { return current }
    let new = try await connect(until: deadline, metadata: [])
    connection.withLock { $0 = new }
    return new
  }

  private func connect(
    until deadline: ContinuousClock.Instant, metadata: [HeaderField]
  ) async throws(StoreError) -> any CallTransport {
    while true {
      var failure = StoreError(.unavailable, "no endpoint could be reached")
      for endpoint in settings.endpoints {
        do throws(StoreError) {
          return try await connect(to: endpoint, metadata)
        } catch {
          // A server that was reached and refuses the login is not tried elsewhere.
          if error.status != nil { throw error }
          failure = error
        }
      }
      guard ContinuousClock.now + Self.retryPause < deadline else { throw failure }
      do { try await Task.sleep(for: Self.retryPause) } catch {
        throw StoreError(.cancelled, "the call was cancelled")
      }
    }
  }

  private func connect(
    to endpoint: StoreClient.Endpoint, _ metadata: [HeaderField]
  ) async throws(StoreError) -> any CallTransport {
    guard let user = settings.user else {
      return try await HTTP2Transport.connector(tls: settings.tls, metadata: metadata)(
        endpoint, settings.connectTimeout)
    }
    let token: String
    if let known = self.token.withLock({ $0 }) {
      token = known
    } else {
      let anonymous = try await HTTP2Transport.connector(tls: settings.tls)(
        endpoint, settings.connectTimeout)
      defer { anonymous.close() }
      guard let given = try await logIn(user, anonymous) else {
        return try await connectWithout(endpoint, metadata)
      }
      token = given
      self.token.withLock { $0 = given }
    }
    return try await HTTP2Transport.connector(
      tls: settings.tls, metadata: metadata + [HeaderField("token", token)])(
        endpoint, settings.connectTimeout)
  }

  private func connectWithout(
    _ endpoint: StoreClient.Endpoint, _ metadata: [HeaderField]
  ) async throws(StoreError) -> any CallTransport {
    try await HTTP2Transport.connector(tls: settings.tls, metadata: metadata)(
      endpoint, settings.connectTimeout)
  }

  /// - Returns: nil where the store asks nobody who they are: as with etcd, the user is then of no effect.
  private func logIn(
    _ user: (name: String, password: String), _ transport: any CallTransport
  ) async throws(StoreError) -> String? {
    var request = Etcdserverpb_AuthenticateRequest()
    request.name = user.name
    request.password = user.password
    do {
      let bytes: [UInt8] = try request.serializedBytes()
      let answer = try await transport.call(
        "/etcdserverpb.Auth/Authenticate", bytes, timeout: settings.callTimeout)
      return try Etcdserverpb_AuthenticateResponse(serializedBytes: answer).token
    } catch let error as StoreError {
      if error.status?.message == "etcdserver: authentication is not enabled" { return nil }
      throw error
    } catch {
      throw StoreError(.malformedAnswer, "the answer to a login can't be read: \(error)")
    }
  }

  private func discard(_ transport: any CallTransport) {
    transport.close()
    connection.withLock { current in
      guard let now = current,
        ObjectIdentifier(now as AnyObject) == ObjectIdentifier(transport as AnyObject)
      else { return }
      current = nil
    }
  }
}

/// A call with many requests and many answers, in the generated messages.
public final class MessageStream<Request: Message, Answer: Message>: Sendable {
  private let stream: any CallStream
  /// A connection of the stream's own.
  private let transport: (any CallTransport)?

  init(stream: any CallStream, transport: (any CallTransport)?) {
    self.stream = stream
    self.transport = transport
  }

  deinit { transport?.close() }

  public func send(_ request: Request) async throws(StoreError) {
    let bytes: [UInt8]
    do { bytes = try request.serializedBytes() } catch {
      throw StoreError(.refused, "a request that can't be written: \(error)")
    }
    try await stream.send(bytes)
  }

  /// The next answer; nil where the server ended the call with success.
  public func next() async throws(StoreError) -> Answer? {
    guard let bytes = try await stream.next() else { return nil }
    do { return try Answer(serializedBytes: bytes) } catch {
      throw StoreError(.malformedAnswer, "an answer can't be read: \(error)")
    }
  }

  /// Says that no further request comes.
  public func finishSending() { stream.finishSending() }

  public func cancel() { stream.cancel() }
}
