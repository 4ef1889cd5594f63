import Primitives
import Synchronization

/// A client of an etcd-compatible store: Martlet's own, or etcd.
///
/// # The problem
///
/// The API server keeps everything in a store of several members. Any member may be stopped, killed,
/// cut off or merely frozen at any time, and requests must go on through the others.
///
/// # The design
///
/// The client holds one connection at a time, to one of the endpoints. A request goes to it; if the
/// connection can't be made, breaks, or gives no answer within `attemptTimeout`, the client turns to the
/// next endpoint. Reads are tried again there until `requestTimeout`. A write is tried again only where
/// it certainly never left (the connection could not be made); otherwise the caller gets
/// `.unknownOutcome` and decides, as only the caller can: a compare-and-swap can be tried again after
/// reading, another write maybe not.
///
/// A watch lives on a stream of its own. When the stream breaks, it is opened again, on whichever
/// endpoint is then in use, from the revision after the last one delivered: nothing is lost or doubled
/// (Resumable). What can't be resumed is a revision that was compacted away: `.compacted`.
///
/// # Worked example
///
///     let store = StoreClient(endpoints: endpoints, connect: HTTP2Transport.connect)
///     let page = try await store.read(StoreQuery(.prefix(Array("/registry/pods/".utf8))))
///     try await store.watch(.prefix(key), from: page.revision.next) { update in ... }
///
/// # What is left out
///
/// Balancing one client's requests over all members: API servers balance by each starting at an
/// endpoint of its own choice. Authentication by user and password.
public final class StoreClient: Sendable {
  /// Where a member listens.
  public struct Endpoint: Sendable, Hashable, CustomStringConvertible {
    public var host: String
    public var port: Int
    public var isSecure: Bool

    public init(host: String, port: Int, isSecure: Bool = false) {
      self.host = host
      self.port = port
      self.isSecure = isSecure
    }

    /// Reads `http://127.0.0.1:2379`, `127.0.0.1:2379` or `[::1]:2379`; the port may be left out.
    public init?(_ text: String) {
      var rest = text[...]
      var isSecure = false
      if rest.hasPrefix("http://") {
        rest = rest.dropFirst(7)
      } else if rest.hasPrefix("https://") {
        isSecure = true
        rest = rest.dropFirst(8)
      } else if rest.contains("://") {
        return nil
      }
      if rest.hasSuffix("/") { rest = rest.dropLast() }
      var port = 2379
      if let colon = rest.lastIndex(of: ":"), !rest[colon...].contains("]") {
        guard let number = Int(rest[rest.index(after: colon)...]), (1...65_535).contains(number)
        else { return nil }
        port = number
        rest = rest[..<colon]
      }
      if rest.hasPrefix("["), rest.hasSuffix("]") { rest = rest.dropFirst().dropLast() }
      guard !rest.isEmpty, !rest.contains("/") else { return nil }
      self.init(host: String(rest), port: port, isSecure: isSecure)
    }

    public var description: String { "\(host):\(port)" }
  }

  /// Every bound of the client.
  public struct Limits: Sendable {
    /// From the call to its last answer, over all attempts.
    public var requestTimeout: Duration = .seconds(10)
    /// One attempt at one endpoint: a frozen member costs this much, once.
    public var attemptTimeout: Duration = .seconds(3)
    public var connectTimeout: Duration = .seconds(2)
    /// After a round in which no endpoint could be used.
    public var retryPause: Duration = .milliseconds(100)
    /// A watch that is silent for this long is asked for progress, and opened anew if it gives none.
    public var watchSilence: Duration = .seconds(20)

    public init() {}
  }

  /// Makes a connection to an endpoint.
  public typealias Connect =
    @Sendable (Endpoint, _ timeout: Duration) async throws(StoreError) -> any CallTransport

  let limits: Limits
  private let endpoints: [Endpoint]
  private let connect: Connect
  private let connector = Connector()

  /// - Parameter first: which endpoint to begin with; several clients should begin at different ones.
  public init(
    endpoints: [Endpoint], first: Int = 0, limits: Limits = Limits(), connect: @escaping Connect
  ) {
    invariant(!endpoints.isEmpty, "a store client without endpoints")
    let start = first % endpoints.count
    self.endpoints = Array(endpoints[start...] + endpoints[..<start])
    self.limits = limits
    self.connect = connect
  }

  // MARK: Requests

  /// Reads keys.
  public func read(_ query: StoreQuery) async throws(StoreError) -> StorePage {
    try StoreMessages.page(
      try await call("/etcdserverpb.KV/Range", StoreMessages.range(query), isSafe: true))
  }

  /// One key, and the store's revision.
  public func get(
    _ key: [UInt8]
  ) async throws(StoreError) -> (record: StoreRecord?, revision: Revision) {
    let page = try await read(StoreQuery(.key(key)))
    return (page.records.first, page.revision)
  }

  /// The store's revision, as a linearizable read finds it.
  public func currentRevision() async throws(StoreError) -> Revision {
    var query = StoreQuery(.key([0]))
    query.countOnly = true
    return try await read(query).revision
  }

  /// Changes a key if it is at the expected revision. Never tried again where its outcome is unknown.
  public func swap(_ swap: StoreSwap) async throws(StoreError) -> StoreSwapOutcome {
    try StoreMessages.swapOutcome(
      try await call("/etcdserverpb.KV/Txn", StoreMessages.swap(swap), isSafe: false), of: swap)
  }

  /// Sets a key, whatever it was.
  public func put(
    _ key: [UInt8], _ value: [UInt8], lease: LeaseID = .none
  ) async throws(StoreError) {
    _ = try await call(
      "/etcdserverpb.KV/Put", StoreMessages.put(key: key, value: value, lease: lease), isSafe: false
    )
  }

  /// Deletes keys, whatever they were.
  public func delete(_ range: StoreRange) async throws(StoreError) {
    _ = try await call(
      "/etcdserverpb.KV/DeleteRange", StoreMessages.delete(range), isSafe: false)
  }

  /// Makes a lease.
  public func grantLease(seconds: Int64) async throws(StoreError) -> LeaseID {
    // A lease too many does no harm: it expires. So this may be tried again.
    try StoreMessages.lease(
      try await call(
        "/etcdserverpb.Lease/LeaseGrant", StoreMessages.leaseGrant(seconds: seconds), isSafe: true)
    ).id
  }

  /// Ends a lease and deletes its keys.
  public func revokeLease(_ id: LeaseID) async throws(StoreError) {
    _ = try await call(
      "/etcdserverpb.Lease/LeaseRevoke", StoreMessages.leaseRevoke(id), isSafe: false)
  }

  /// Closes the connection in use; the next request makes another one.
  public func close() { connector.replace(with: nil) }

  // MARK: Attempts

  private func call(
    _ method: String, _ request: [UInt8], isSafe: Bool
  ) async throws(StoreError) -> [UInt8] {
    let deadline = ContinuousClock.now + limits.requestTimeout
    var failures = 0
    while true {
      let left = deadline - ContinuousClock.now
      if left <= .zero {
        throw StoreError(.unavailable, "no member answered within \(limits.requestTimeout)")
      }
      let transport: any CallTransport
      do throws(StoreError) {
        transport = try await connection()
      } catch {
        failures += 1
        if error.code == .cancelled || ContinuousClock.now >= deadline { throw error }
        try await pause(after: failures)
        continue
      }
      do throws(StoreError) {
        return try await transport.call(method, request, timeout: min(left, limits.attemptTimeout))
      } catch {
        switch error.code {
        case .unavailable, .unknownOutcome:
          connector.discard(transport)
          // `.unavailable` from a transport means that the request wasn't carried out.
          guard isSafe || error.code == .unavailable, ContinuousClock.now < deadline else {
            throw error
          }
          failures += 1
          try await pause(after: failures)
        default:
          throw error
        }
      }
    }
  }

  private func pause(after failures: Int) async throws(StoreError) {
    // One pause each round, so that the first fail-over costs no wait.
    guard failures % endpoints.count == 0 else { return }
    do { try await Task.sleep(for: limits.retryPause) } catch {
      throw StoreError(.cancelled, "the request was cancelled")
    }
  }

  /// The connection in use, or a new one; concurrent callers share the attempt.
  func connection() async throws(StoreError) -> any CallTransport {
    try await connector.connection { [endpoints, connect, limits] index in
      await Self.result { () throws(StoreError) in
        try await connect(endpoints[index % endpoints.count], limits.connectTimeout)
      }
    }
  }

  func discard(_ transport: any CallTransport) { connector.discard(transport) }

  private static func result(
    _ body: () async throws(StoreError) -> any CallTransport
  ) async -> Result<any CallTransport, StoreError> {
    do throws(StoreError) { return .success(try await body()) } catch { return .failure(error) }
  }
}

/// The one connection in use, and which endpoint comes next.
private final class Connector: Sendable {
  private enum State {
    case none
    case connecting(Task<Result<any CallTransport, StoreError>, Never>)
    case connected(any CallTransport)
  }
  private struct Position {
    var state = State.none
    var endpoint = 0
  }
  private let position = Mutex(Position())

  func connection(
    _ connect: @escaping @Sendable (Int) async -> Result<any CallTransport, StoreError>
  ) async throws(StoreError) -> any CallTransport {
    let attempt: Task<Result<any CallTransport, StoreError>, Never>? = position.withLock {
      position in
      switch position.state {
      case .connected(let transport) where transport.isUsable:
        return nil
      case .connecting(let task):
        return task
      case .connected, .none:
        if case .connected = position.state { position.endpoint += 1 }
        let endpoint = position.endpoint
        let task = Task { [self] in
          let result = await connect(endpoint)
          settle(result)
          return result
        }
        position.state = .connecting(task)
        return task
      }
    }
    if let attempt { return try await attempt.value.get() }
    if case .connected(let transport) = position.withLock({ $0.state }) { return transport }
    throw StoreError(.unavailable, "the connection was closed")
  }

  private func settle(_ result: Result<any CallTransport, StoreError>) {
    position.withLock { position in
      switch result {
      case .success(let transport):
        position.state = .connected(transport)
      case .failure:
        position.state = .none
        position.endpoint += 1
      }
    }
  }

  /// Gives up a connection that failed; the next one goes to the next endpoint.
  func discard(_ transport: any CallTransport) {
    let isCurrent = position.withLock { position in
      guard case .connected(let current) = position.state,
        ObjectIdentifier(current as AnyObject) == ObjectIdentifier(transport as AnyObject)
      else { return false }
      position.state = .none
      position.endpoint += 1
      return true
    }
    if isCurrent { transport.close() }
  }

  func replace(with transport: (any CallTransport)?) {
    let old: (any CallTransport)? = position.withLock { position in
      defer { position.state = transport.map { .connected($0) } ?? .none }
      if case .connected(let current) = position.state { return current }
      return nil
    }
    old?.close()
  }
}
