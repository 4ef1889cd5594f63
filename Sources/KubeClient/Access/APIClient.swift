import HTTP1Client
import KubeAPI
import NIOCore

/// Talks to an API server: objects in, objects out, errors as `StatusError`.
///
/// Requests that the server may have processed before the connection broke are not repeated here, for only
/// the caller knows whether twice does harm; reads are, once.
public final class APIClient: Sendable {
  /// How a patch's bytes are to be understood.
  public enum PatchKind: String, Sendable {
    case json = "application/json-patch+json"
    case merge = "application/merge-patch+json"
    case strategicMerge = "application/strategic-merge-patch+json"
  }

  /// Bounds of what the client takes in.
  public enum Limits {
    /// A list's answer; 10,000 pods of 8 KiB.
    public static let responseBytes = 256 << 20
    /// One line of a watch: an object with all its managed fields.
    public static let watchLineBytes = 8 << 20
  }

  private let pool: HTTPConnectionPool
  private let headers: [(name: String, value: String)]

  /// - Parameter userAgent: names the component to the server, in `User-Agent`.
  public init(_ configuration: Kubeconfig, userAgent: String) throws {
    pool = try HTTPConnectionPool(
      settings: HTTPConnectionPool.Settings(
        host: configuration.host, port: configuration.port,
        tls: configuration.tlsConfiguration()))
    var headers = [(name: "accept", value: "application/json"), ("user-agent", userAgent)]
    if let token = configuration.token { headers.append(("authorization", "Bearer \(token)")) }
    self.headers = headers
  }

  // MARK: Reading

  public func get(_ type: ResourceType, namespace: String? = nil, name: String) async throws
    -> Value
  {
    try await call("GET", type.path(namespace: namespace, name: name))
  }

  /// A list object; `metadata.resourceVersion` is where a watch goes on from.
  public func list(
    _ type: ResourceType, namespace: String? = nil, labelSelector: String = "",
    fieldSelector: String = "", resourceVersion: String? = nil
  ) async throws -> Value {
    var query: [(String, String)] = []
    if !labelSelector.isEmpty { query.append(("labelSelector", labelSelector)) }
    if !fieldSelector.isEmpty { query.append(("fieldSelector", fieldSelector)) }
    if let resourceVersion { query.append(("resourceVersion", resourceVersion)) }
    return try await call("GET", type.path(namespace: namespace) + Self.query(query))
  }

  /// Changes after `resourceVersion`, with bookmarks. The stream ends when the server ends it.
  public func watch(
    _ type: ResourceType, namespace: String? = nil, labelSelector: String = "",
    fieldSelector: String = "", resourceVersion: String, timeoutSeconds: Int
  ) async throws -> WatchStream {
    var query = [
      ("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", resourceVersion),
      ("timeoutSeconds", "\(timeoutSeconds)"),
    ]
    if !labelSelector.isEmpty { query.append(("labelSelector", labelSelector)) }
    if !fieldSelector.isEmpty { query.append(("fieldSelector", fieldSelector)) }
    let response = try await send(
      "GET", type.path(namespace: namespace) + Self.query(query), isRepeatable: true)
    guard response.status == 200 else { throw try await Self.error(of: response) }
    return WatchStream(response.body)
  }

  /// The body of any path, as text: `/readyz`, `/version`.
  public func text(_ path: String) async throws -> (status: Int, text: String) {
    let response = try await send("GET", path, isRepeatable: true)
    let body = try await response.body.collect(limit: Limits.responseBytes)
    return (response.status, String(decoding: body, as: UTF8.self))
  }

  // MARK: Writing

  @discardableResult
  public func create(
    _ type: ResourceType, namespace: String? = nil, _ object: Value, name: String? = nil,
    subresource: String? = nil
  ) async throws -> Value {
    let path =
      if let name { type.path(namespace: namespace, name: name, subresource: subresource) } else {
        type.path(namespace: namespace)
      }
    return try await call("POST", path, body: object.json)
  }

  /// Replaces an object. With a `resourceVersion` in it, only if it hasn't changed since.
  @discardableResult
  public func update(
    _ type: ResourceType, _ object: Value, subresource: String? = nil
  ) async throws -> Value {
    let key = ObjectKey(object)
    return try await call(
      "PUT",
      type.path(
        namespace: type.isNamespaced ? key.namespace : nil, name: key.name,
        subresource: subresource), body: object.json)
  }

  @discardableResult
  public func patch(
    _ type: ResourceType, namespace: String? = nil, name: String, _ kind: PatchKind, _ patch: Value,
    subresource: String? = nil
  ) async throws -> Value {
    try await call(
      "PATCH", type.path(namespace: namespace, name: name, subresource: subresource),
      body: patch.json, contentType: kind.rawValue)
  }

  /// Deletes an object, or marks it for deletion.
  ///
  /// - Parameters:
  ///   - uid: deletes only the object with this uid.
  ///   - graceSeconds: how long it may take to end; nil for its own choice.
  @discardableResult
  public func delete(
    _ type: ResourceType, namespace: String? = nil, name: String, uid: String? = nil,
    resourceVersion: String? = nil, graceSeconds: Int? = nil, propagation: String? = nil
  ) async throws -> Value {
    var options: Value = ["kind": "DeleteOptions", "apiVersion": "v1"]
    if let graceSeconds { options.set("gracePeriodSeconds", to: Value(graceSeconds)) }
    if let propagation { options.set("propagationPolicy", to: Value(propagation)) }
    var preconditions: Value = [:]
    if let uid { preconditions.set("uid", to: Value(uid)) }
    if let resourceVersion { preconditions.set("resourceVersion", to: Value(resourceVersion)) }
    if !preconditions.isEmpty { options.set("preconditions", to: preconditions) }
    return try await call(
      "DELETE", type.path(namespace: namespace, name: name), body: options.json)
  }

  // MARK: The wire

  private func call(
    _ method: String, _ target: String, body: [UInt8] = [],
    contentType: String = "application/json"
  ) async throws -> Value {
    let response = try await send(
      method, target, body: body, contentType: contentType, isRepeatable: method == "GET")
    guard (200..<300).contains(response.status) else { throw try await Self.error(of: response) }
    return try Value(json: try await response.body.collect(limit: Limits.responseBytes))
  }

  private func send(
    _ method: String, _ target: String, body: [UInt8] = [],
    contentType: String = "application/json", isRepeatable: Bool
  ) async throws -> IncomingResponse {
    var headers = headers
    if !body.isEmpty { headers.append(("content-type", contentType)) }
    return try await pool.send(
      OutgoingRequest(method: method, target: target, headers: headers, body: body),
      isRepeatable: isRepeatable)
  }

  private static func error(of response: IncomingResponse) async throws -> StatusError {
    let body = try await response.body.collect(limit: 1 << 20)
    if let status = try? Value(json: body), status["kind"].string == "Status" {
      return StatusError(status: status, code: response.status)
    }
    return StatusError(
      code: response.status, reason: .unknown,
      message:
        "the server answered \(response.status): \(String(decoding: body.prefix(200), as: UTF8.self))"
    )
  }

  private static func query(_ items: [(String, String)]) -> String {
    guard !items.isEmpty else { return "" }
    return "?" + items.map { "\($0)=\(escape($1))" }.joined(separator: "&")
  }

  /// Percent-encodes all but unreserved characters (RFC 3986, section 2.3).
  static func escape(_ text: String) -> String {
    let digits = Array("0123456789ABCDEF".utf8)
    var bytes: [UInt8] = []
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
        UInt8(ascii: "_"), UInt8(ascii: "~"):
        bytes.append(byte)
      default:
        bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
