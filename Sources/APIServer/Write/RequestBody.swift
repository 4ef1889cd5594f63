import HTTPServer
import KubeAPI

/// An object as a client sent it: read, checked for its kind, brought into its schema's form.
struct RequestBody: Sendable {
  var value: Value
  /// What strict validation objects to: `unknown field "spec.replikas"`.
  var problems: [String]

  static let mediaTypes = ["application/json", "application/yaml"]

  /// Reads a body as JSON or YAML, by its Content-Type. No type means JSON: old kubectls send none.
  static func parse(_ request: HTTPRequest) throws(StatusError) -> Value.Parsed {
    let type =
      MediaRange.parse(request.fields["Content-Type"] ?? "").first?.type ?? "application/json"
    switch type {
    case "application/json", "application/x-www-form-urlencoded":
      do throws(JSONError) { return try Value.parse(request.body) } catch {
        throw .badRequest("couldn't get version/kind; json parse error: \(error.message)")
      }
    case "application/yaml":
      do throws(YAML.Failure) {
        return Value.Parsed(value: try YAML.parse(request.body), duplicates: [])
      } catch {
        throw .badRequest(error.message)
      }
    default:
      throw .unsupportedMediaType(mediaTypes)
    }
  }

  /// Reads an object of `kind` and brings it into the form of `schema`.
  init(
    _ request: HTTPRequest, kind: GroupVersionKind, schema: Schema
  ) throws(StatusError) {
    let parsed = try Self.parse(request)
    try self.init(
      parsed.value, duplicates: parsed.duplicates, kind: kind, schema: schema,
      text: request.body)
  }

  /// Checks and decodes a value that came from a body or from a patch.
  init(
    _ value: Value, duplicates: [String], kind: GroupVersionKind, schema: Schema,
    text: [UInt8] = []
  ) throws(StatusError) {
    guard case .object = value else {
      throw .badRequest("couldn't get version/kind; json parse error: the body is not an object")
    }
    var value = value
    let given = value["kind"].string ?? ""
    let version = value["apiVersion"].string ?? ""
    if given.isEmpty || version.isEmpty {
      let missing = given.isEmpty ? "Kind" : "apiVersion"
      let shown = String(decoding: text.prefix(2_000), as: UTF8.self)
      throw .badRequest("Object '\(missing)' is missing in '\(shown)'")
    }
    guard given == kind.kind else {
      throw .badRequest(
        "the object provided is unrecognized (must be of type \(kind.kind)): no kind "
          + "\(quoted(given)) is registered for version \(quoted(version)) here")
    }
    guard version == kind.apiVersion else {
      throw .badRequest(
        "the API version in the data (\(version)) does not match the expected API version "
          + "(\(kind.apiVersion))")
    }
    do throws(SchemaError) {
      let decoded = try schema.decode(value)
      value = decoded.value
      problems =
        duplicates.map { "duplicate field \(quoted($0))" }
        + decoded.unknownFields.map { "unknown field \(quoted($0))" }
    } catch {
      throw .badRequest(
        "\(kind.kind) in version \(quoted(kind.version)) cannot be handled as a \(kind.kind): "
          + error.message)
    }
    self.value = value
  }

  /// Applies the client's wish about what strict validation found.
  ///
  /// - Returns: the warnings to send along.
  func judge(
    _ validation: WriteOptions.FieldValidation, kind: GroupVersionKind
  ) throws(StatusError) -> [String] {
    if problems.isEmpty { return [] }
    switch validation {
    case .ignore: return []
    case .warn: return problems
    case .strict:
      throw .badRequest(
        "\(kind.kind) in version \(quoted(kind.version)) cannot be handled as a \(kind.kind): "
          + "strict decoding error: \(problems.joined(separator: ", "))")
    }
  }
}
