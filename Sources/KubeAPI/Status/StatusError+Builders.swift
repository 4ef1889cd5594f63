extension StatusError {
  /// `pods "web" not found`.
  public static func notFound(_ resource: GroupResource, name: String) -> StatusError {
    StatusError(
      code: 404, reason: .notFound, message: "\(resource) \(quoted(name)) not found",
      details: Details(name: name, group: resource.group, kind: resource.resource))
  }

  /// No such path on this server.
  public static var unknownPath: StatusError {
    StatusError(
      code: 404, reason: .notFound, message: "the server could not find the requested resource",
      details: Details())
  }

  public static func alreadyExists(_ resource: GroupResource, name: String) -> StatusError {
    StatusError(
      code: 409, reason: .alreadyExists, message: "\(resource) \(quoted(name)) already exists",
      details: Details(name: name, group: resource.group, kind: resource.resource))
  }

  /// The object has another resourceVersion than the one the writer had seen, or what `why` says.
  public static func conflict(
    _ resource: GroupResource, name: String,
    why: String =
      "the object has been modified; please apply your changes to the latest version and try again"
  ) -> StatusError {
    StatusError(
      code: 409, reason: .conflict,
      message: "Operation cannot be fulfilled on \(resource) \(quoted(name)): \(why)",
      details: Details(name: name, group: resource.group, kind: resource.resource))
  }

  public static func forbidden(_ resource: GroupResource, name: String, why: String) -> StatusError
  {
    let subject =
      resource.resource.isEmpty
      ? "" : name.isEmpty ? "\(resource) is " : "\(resource) \(quoted(name)) is "
    return StatusError(
      code: 403, reason: .forbidden, message: "\(subject)forbidden: \(why)",
      details: Details(name: name, group: resource.group, kind: resource.resource))
  }

  public static var unauthorized: StatusError {
    StatusError(code: 401, reason: .unauthorized, message: "Unauthorized")
  }

  public static func badRequest(_ message: String) -> StatusError {
    StatusError(code: 400, reason: .badRequest, message: message)
  }

  /// What validation found, e.g. `Deployment.apps "bad" is invalid: spec.replicas: Invalid value: …`.
  public static func invalid(
    _ kind: GroupVersionKind, name: String, _ errors: [FieldError]
  ) -> StatusError {
    let qualified = kind.group.isEmpty ? kind.kind : "\(kind.kind).\(kind.group)"
    var message = "\(qualified) \(quoted(name)) is invalid"
    if !errors.isEmpty { message += ": " + FieldError.aggregate(errors) }
    return StatusError(
      code: 422, reason: .invalid, message: message,
      details: Details(
        name: name, group: kind.group, kind: kind.kind,
        causes: errors.map {
          Cause(reason: $0.type.reason, message: $0.body, field: $0.field)
        }))
  }

  /// 422 for a request whose parameters don't go together, as for list and watch options.
  public static func invalidOptions(_ errors: [FieldError], kind: String) -> StatusError {
    invalid(GroupVersionKind(group: "meta.k8s.io", version: "v1", kind: kind), name: "", errors)
  }

  public static func methodNotAllowed(_ resource: GroupResource, verb: String) -> StatusError {
    StatusError(
      code: 405, reason: .methodNotAllowed,
      message: "\(verb) is not supported on resources of kind \(quoted("\(resource)"))",
      details: Details(group: resource.group, kind: resource.resource))
  }

  /// The path is known but not with this method, where no resource is involved.
  public static var methodNotAllowed: StatusError {
    StatusError(
      code: 405, reason: .methodNotAllowed,
      message: "the server does not allow this method on the requested resource",
      details: Details())
  }

  public static func notAcceptable(_ accepted: [String]) -> StatusError {
    StatusError(
      code: 406, reason: .notAcceptable,
      message: "only the following media types are accepted: \(accepted.joined(separator: ", "))")
  }

  public static func unsupportedMediaType(_ accepted: [String]) -> StatusError {
    StatusError(
      code: 415, reason: .unsupportedMediaType,
      message:
        "the body of the request was in an unknown format - accepted media types include: "
        + accepted.joined(separator: ", "))
  }

  /// The resourceVersion asked for was compacted away; the client must list again.
  public static func expired(_ message: String) -> StatusError {
    StatusError(code: 410, reason: .expired, message: message)
  }

  public static func tooLarge(_ message: String) -> StatusError {
    StatusError(
      code: 413, reason: .requestEntityTooLarge, message: "Request entity too large: \(message)")
  }

  public static func tooManyRequests(_ message: String, retryAfterSeconds: Int) -> StatusError {
    StatusError(
      code: 429, reason: .tooManyRequests, message: message,
      details: Details(retryAfterSeconds: retryAfterSeconds))
  }

  public static func internalError(_ message: String) -> StatusError {
    StatusError(
      code: 500, reason: .internalError, message: "Internal error occurred: \(message)",
      details: Details(causes: [Cause(reason: "", message: message)]))
  }

  public static func serviceUnavailable(_ message: String) -> StatusError {
    StatusError(code: 503, reason: .serviceUnavailable, message: message)
  }

  public static func timeout(_ message: String, retryAfterSeconds: Int = 0) -> StatusError {
    StatusError(
      code: 504, reason: .timeout, message: "Timeout: \(message)",
      details: Details(retryAfterSeconds: retryAfterSeconds))
  }

  /// The client asks for a revision that this server hasn't seen within its waiting time.
  public static func resourceVersionTooLarge(_ asked: UInt64, current: UInt64) -> StatusError {
    StatusError(
      code: 504, reason: .timeout,
      message: "Timeout: Too large resource version: \(asked), current: \(current)",
      details: Details(
        causes: [Cause(reason: "ResourceVersionTooLarge", message: "Too large resource version")],
        retryAfterSeconds: 1))
  }
}

/// `text` in double quotes with Go's escapes (`%q`), as Kubernetes' messages show strings.
public func quoted(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case "\n": result += "\\n"
    case "\t": result += "\\t"
    case "\r": result += "\\r"
    case "\u{0}"..<"\u{20}", "\u{7f}":
      let hex = String(scalar.value, radix: 16)
      result += "\\x" + (hex.count < 2 ? "0" : "") + hex
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result + "\""
}
