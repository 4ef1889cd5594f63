import HTTPServer
import KubeAPI

/// What every write takes from its query.
struct WriteOptions: Sendable {
  enum FieldValidation: String, Sendable {
    case ignore = "Ignore"
    case warn = "Warn"
    case strict = "Strict"
  }

  /// The write goes through everything but the store.
  var isDryRun = false
  var fieldManager = ""
  /// Whether the client named its manager, instead of leaving it to its user agent.
  var namesManager = false
  /// Server-side apply takes what others own; nil where the client says nothing.
  var force: Bool?
  var fieldValidation = FieldValidation.warn

  init() {}

  /// - Parameter kind: for messages, such as `CreateOptions`.
  init(_ request: HTTPRequest, kind: String) throws(StatusError) {
    var errors: [FieldError] = []
    for value in request.target.values(of: "dryRun") where !value.isEmpty {
      if value == "All" {
        isDryRun = true
      } else {
        errors.append(.notSupported(FieldPath("dryRun"), [.string(value)], ["All"]))
      }
    }
    if let text = request.target.value(of: "fieldValidation"), !text.isEmpty {
      if let parsed = FieldValidation(rawValue: text) {
        fieldValidation = parsed
      } else {
        errors.append(
          .notSupported(
            FieldPath("fieldValidation"), .string(text), ["", "Ignore", "Strict", "Warn"]))
      }
    }
    if request.target.value(of: "force") != nil { force = request.target.isTrue("force") }
    fieldManager = request.target.value(of: "fieldManager") ?? ""
    namesManager = !fieldManager.isEmpty
    if fieldManager.utf8.count > 128 {
      errors.append(.tooLong(FieldPath("fieldManager"), limit: 128))
    }
    if fieldManager.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7F }) {
      errors.append(
        .invalid(
          FieldPath("fieldManager"), .string(fieldManager),
          "should only contain printable characters"))
    }
    if !errors.isEmpty { throw .invalidOptions(errors, kind: kind) }
    if fieldManager.isEmpty {
      // As Kubernetes: the program's name, which comes first in the user agent.
      let agent = request.fields["User-Agent"] ?? ""
      fieldManager = String((agent.split(separator: "/").first ?? "unknown").prefix(128))
    }
  }

  /// - Throws: 422 where a patch that isn't an apply is to be forced.
  func forbidForce() throws(StatusError) {
    guard force != nil else { return }
    throw .invalidOptions(
      [.forbidden(FieldPath("force"), "may not be specified for non-apply patch")],
      kind: "PatchOptions")
  }

  /// - Throws: 422 where an apply doesn't say who applies.
  func requireManager() throws(StatusError) {
    guard !namesManager else { return }
    throw .invalidOptions(
      [.required(FieldPath("fieldManager"), "is required for apply patch")], kind: "PatchOptions")
  }
}
