/// One thing that validation found wrong, in Kubernetes' words.
///
/// The texts (`spec.replicas: Invalid value: -1: must be greater than or equal to 0`) are what
/// people and tests know; `StatusError.invalid` joins them.
public struct FieldError: Sendable, Equatable, CustomStringConvertible {
  public enum ErrorType: Sendable {
    case notFound, required, duplicate, invalid, notSupported, forbidden, tooLong, tooMany
    case internalError, typeInvalid

    var text: String {
      switch self {
      case .notFound: "Not found"
      case .required: "Required value"
      case .duplicate: "Duplicate value"
      case .invalid, .typeInvalid: "Invalid value"
      case .notSupported: "Unsupported value"
      case .forbidden: "Forbidden"
      case .tooLong: "Too long"
      case .tooMany: "Too many"
      case .internalError: "Internal error"
      }
    }

    /// The reason of the cause in a `Status`.
    var reason: String {
      switch self {
      case .notFound: "FieldValueNotFound"
      case .required: "FieldValueRequired"
      case .duplicate: "FieldValueDuplicate"
      case .invalid: "FieldValueInvalid"
      case .notSupported: "FieldValueNotSupported"
      case .forbidden: "FieldValueForbidden"
      case .tooLong: "FieldValueTooLong"
      case .tooMany: "FieldValueTooMany"
      case .internalError: "InternalError"
      case .typeInvalid: "FieldValueTypeInvalid"
      }
    }
  }

  public let type: ErrorType
  /// The path, as `spec.template.spec.containers[0].image`.
  public let field: String
  /// The offending value as shown; nil where the type shows none.
  let shown: String?
  let detail: String

  /// The text without the path.
  public var body: String {
    var text = type.text
    if let shown { text += ": \(shown)" }
    if !detail.isEmpty { text += ": \(detail)" }
    return text
  }

  public var description: String { "\(field): \(body)" }

  /// Several errors in one message, each text once: bare if there is one, else `[a, b]`.
  public static func aggregate(_ errors: [FieldError]) -> String {
    var seen: Set<String> = []
    let texts = errors.map(\.description).filter { seen.insert($0).inserted }
    return texts.count == 1 ? texts[0] : "[\(texts.joined(separator: ", "))]"
  }
}

/// A path to a field, made step by step while validating.
public struct FieldPath: Sendable, CustomStringConvertible {
  public let description: String

  public init(_ text: String) { description = text }

  /// The root of an object: its own name is not part of a path.
  public static let root = FieldPath("")

  public func child(_ name: String) -> FieldPath {
    FieldPath(description.isEmpty ? name : "\(description).\(name)")
  }
  public func child(_ names: String...) -> FieldPath {
    names.reduce(self) { $0.child($1) }
  }
  public func index(_ index: Int) -> FieldPath { FieldPath("\(description)[\(index)]") }
  public func key(_ key: String) -> FieldPath { FieldPath("\(description)[\(key)]") }
}

extension FieldError {
  public static func required(_ path: FieldPath, _ detail: String = "") -> FieldError {
    FieldError(type: .required, field: path.description, shown: nil, detail: detail)
  }
  public static func invalid(_ path: FieldPath, _ value: Value, _ detail: String) -> FieldError {
    FieldError(type: .invalid, field: path.description, shown: show(value), detail: detail)
  }
  public static func duplicate(_ path: FieldPath, _ value: Value) -> FieldError {
    FieldError(type: .duplicate, field: path.description, shown: show(value), detail: "")
  }
  public static func notSupported(
    _ path: FieldPath, _ value: Value, _ supported: [String]
  ) -> FieldError {
    let list = supported.sorted().map(quoted).joined(separator: ", ")
    return FieldError(
      type: .notSupported, field: path.description, shown: show(value),
      detail: supported.isEmpty ? "" : "supported values: \(list)")
  }
  public static func forbidden(_ path: FieldPath, _ detail: String) -> FieldError {
    FieldError(type: .forbidden, field: path.description, shown: nil, detail: detail)
  }
  public static func notFound(_ path: FieldPath, _ value: Value) -> FieldError {
    FieldError(type: .notFound, field: path.description, shown: show(value), detail: "")
  }
  /// - Parameter limit: the greatest length allowed, in bytes.
  public static func tooLong(_ path: FieldPath, limit: Int) -> FieldError {
    FieldError(
      type: .tooLong, field: path.description, shown: nil,
      detail: "may not be more than \(limit) bytes")
  }
  public static func tooMany(_ path: FieldPath, count: Int, limit: Int) -> FieldError {
    FieldError(
      type: .tooMany, field: path.description, shown: "\(count)",
      detail: "must have at most \(limit) items")
  }

  /// Strings in quotes, the rest as JSON.
  private static func show(_ value: Value) -> String {
    if case .string(let text) = value { return quoted(text) }
    return value.jsonString
  }
}
