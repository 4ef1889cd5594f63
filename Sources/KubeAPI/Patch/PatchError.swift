/// Why a patch can't be applied.
public struct PatchError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Fault: Sendable {
    /// The patch itself is malformed: 400.
    case malformed
    /// The patch doesn't fit the object: 422.
    case doesNotApply
    /// The patch has more operations than are allowed: 413.
    case tooLarge
  }

  public let fault: Fault
  public let message: String

  public var description: String { message }

  public init(fault: Fault, message: String) {
    self.fault = fault
    self.message = message
  }

  static func malformed(_ message: String) -> PatchError {
    PatchError(fault: .malformed, message: message)
  }
  static func doesNotApply(_ message: String) -> PatchError {
    PatchError(fault: .doesNotApply, message: message)
  }

  /// What to answer the client.
  public var status: StatusError {
    switch fault {
    case .malformed: .badRequest(message)
    case .tooLarge: .tooLarge(message)
    case .doesNotApply:
      StatusError(
        code: 422, reason: .invalid,
        message: "the server rejected our request due to an error in our request",
        details: StatusError.Details(
          causes: [StatusError.Cause(reason: "UnexpectedServerResponse", message: message)]))
    }
  }
}

/// The kinds of patches, by media type.
public enum PatchKind: String, Sendable, CaseIterable {
  case json = "application/json-patch+json"
  case merge = "application/merge-patch+json"
  case strategic = "application/strategic-merge-patch+json"
  case apply = "application/apply-patch+yaml"
}

extension Value {
  /// As Go's `%v` shows maps and slices, which is how messages about patches quote them.
  var goText: String {
    switch self {
    case .null: "<nil>"
    case .string(let text): text
    case .array(let elements): "[\(elements.map(\.goText).joined(separator: " "))]"
    case .object(let object):
      "map["
        + object.members.sorted { $0.key < $1.key }
        .map { "\($0.key):\($0.value.goText)" }.joined(separator: " ") + "]"
    default: jsonString
    }
  }
}
