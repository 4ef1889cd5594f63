/// An error as the API returns it: an HTTP code, a reason that programs read, a message that people
/// read, and details. The builders in `StatusError+Builders.swift` give Kubernetes' exact texts,
/// because clients compare them.
///
/// Source: Kubernetes API conventions, "Response Status Kind".
public struct StatusError: Error, Sendable, Equatable {
  /// The HTTP status code.
  public var code: Int
  public var reason: Reason
  public var message: String
  public var details: Details?

  public init(code: Int, reason: Reason, message: String, details: Details? = nil) {
    self.code = code
    self.reason = reason
    self.message = message
    self.details = details
  }

  /// A machine-readable class of errors. Clients meet reasons they don't know, so this is open.
  public struct Reason: Sendable, Hashable, ExpressibleByStringLiteral, CustomStringConvertible {
    public let text: String
    public init(stringLiteral text: String) { self.text = text }
    public init(_ text: String) { self.text = text }
    public var description: String { text }

    public static let unknown: Reason = ""
    public static let alreadyExists: Reason = "AlreadyExists"
    public static let badRequest: Reason = "BadRequest"
    public static let conflict: Reason = "Conflict"
    public static let expired: Reason = "Expired"
    public static let forbidden: Reason = "Forbidden"
    public static let gone: Reason = "Gone"
    public static let internalError: Reason = "InternalError"
    public static let invalid: Reason = "Invalid"
    public static let methodNotAllowed: Reason = "MethodNotAllowed"
    public static let notAcceptable: Reason = "NotAcceptable"
    public static let notFound: Reason = "NotFound"
    public static let requestEntityTooLarge: Reason = "RequestEntityTooLarge"
    public static let serverTimeout: Reason = "ServerTimeout"
    public static let serviceUnavailable: Reason = "ServiceUnavailable"
    public static let timeout: Reason = "Timeout"
    public static let tooManyRequests: Reason = "TooManyRequests"
    public static let unauthorized: Reason = "Unauthorized"
    public static let unsupportedMediaType: Reason = "UnsupportedMediaType"
  }

  public struct Details: Sendable, Equatable {
    public var name: String
    public var group: String
    /// The plural resource name, or for `Invalid` the kind.
    public var kind: String
    public var uid: String
    public var causes: [Cause]
    /// When to try again; 0 says nothing.
    public var retryAfterSeconds: Int

    public init(
      name: String = "", group: String = "", kind: String = "", uid: String = "",
      causes: [Cause] = [], retryAfterSeconds: Int = 0
    ) {
      self.name = name
      self.group = group
      self.kind = kind
      self.uid = uid
      self.causes = causes
      self.retryAfterSeconds = retryAfterSeconds
    }
  }

  public struct Cause: Sendable, Equatable {
    public var reason: String
    public var message: String
    /// The path of the field at fault, as `spec.containers[0].image`.
    public var field: String

    public init(reason: String, message: String, field: String = "") {
      self.reason = reason
      self.message = message
      self.field = field
    }
  }
}

extension StatusError: CustomStringConvertible {
  public var description: String { message }
}

extension StatusError {
  /// The `Status` object to send as the response's body.
  public var value: Value {
    var status = Value.status("Failure")
    if !message.isEmpty { status["message"] = Value(message) }
    if !reason.text.isEmpty { status["reason"] = Value(reason.text) }
    if let details { status["details"] = details.value }
    status["code"] = Value(code)
    return status
  }

  /// Reads a `Status` object from a response; `code` is used where the object names none.
  public init(status: Value, code: Int) {
    self.code = status["code"].int ?? code
    reason = Reason(status["reason"].string ?? "")
    message = status["message"].string ?? "the server answered \(code)"
    let given = status["details"]
    guard !given.isNull else { return }
    details = Details(
      name: given["name"].string ?? "", group: given["group"].string ?? "",
      kind: given["kind"].string ?? "", uid: given["uid"].string ?? "",
      causes: given["causes"].elements.map {
        Cause(
          reason: $0["reason"].string ?? "", message: $0["message"].string ?? "",
          field: $0["field"].string ?? "")
      },
      retryAfterSeconds: given["retryAfterSeconds"].int ?? 0)
  }
}

extension StatusError.Details {
  var value: Value {
    var value: Value = [:]
    if !name.isEmpty { value["name"] = Value(name) }
    if !group.isEmpty { value["group"] = Value(group) }
    if !kind.isEmpty { value["kind"] = Value(kind) }
    if !uid.isEmpty { value["uid"] = Value(uid) }
    if !causes.isEmpty {
      value["causes"] = .array(
        causes.map { cause in
          var item: Value = [:]
          if !cause.reason.isEmpty { item["reason"] = Value(cause.reason) }
          if !cause.message.isEmpty { item["message"] = Value(cause.message) }
          if !cause.field.isEmpty { item["field"] = Value(cause.field) }
          return item
        })
    }
    if retryAfterSeconds > 0 { value["retryAfterSeconds"] = Value(retryAfterSeconds) }
    return value
  }
}

extension Value {
  static func status(_ status: String) -> Value {
    ["kind": "Status", "apiVersion": "v1", "metadata": [:], "status": Value(status)]
  }

  /// What a finished DELETE answers: `kind` is the plural resource name.
  public static func successStatus(name: String, group: String, kind: String, uid: String) -> Value
  {
    var value = status("Success")
    value["details"] = StatusError.Details(name: name, group: group, kind: kind, uid: uid).value
    return value
  }
}
