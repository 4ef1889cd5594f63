import HTTPServer
import KubeAPI
import KubeYAML

/// An object as a client sent it: read, checked for its kind, brought into its schema's form.
struct RequestBody: Sendable {
  var value: Value
  /// The paths of fields that the schema doesn't know; they were dropped.
  var unknown: [String]
  /// The paths of keys that came more than once; the last one counts.
  var duplicates: [String]

  static let mediaTypes = [
    "application/json", "application/yaml", ProtobufObject.mediaType,
  ]

  /// Reads a body as JSON, YAML or protobuf, by its Content-Type. No type means JSON: old kubectls send none.
  static func parse(
    _ request: HTTPRequest, kind: GroupVersionKind
  ) throws(StatusError) -> Value.Parsed {
    let type =
      MediaRange.parse(request.fields["Content-Type"] ?? "").first?.type ?? "application/json"
    switch type {
    case "application/json", "application/x-www-form-urlencoded":
      do throws(JSONError) { return try Value.parse(request.body) } catch {
        throw .unparsable(kind, error)
      }
    case ProtobufObject.mediaType:
      do throws(ProtobufError) {
        return Value.Parsed(value: try ProtobufObject.decode(request.body), duplicates: [])
      } catch {
        throw .badRequest(error.message)
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

  /// Reads an object of a resource and brings it into its schema's form.
  init(_ request: HTTPRequest, of resource: ResourceDefinition) throws(StatusError) {
    let parsed = try Self.parse(request, kind: resource.kind)
    let decoded = try resource.decode(parsed.value)
    value = decoded.value
    unknown = decoded.unknownFields
    duplicates = parsed.duplicates
  }

  /// Brings the result of a patch into its schema's form.
  init(
    patched value: Value, by patch: Patch, of resource: ResourceDefinition
  ) throws(StatusError) {
    let decoded = try resource.decode(value)
    self.value = decoded.value
    unknown = decoded.unknownFields
    duplicates = patch.duplicates
  }

  /// Applies the client's wish about what strict validation found.
  ///
  /// - Parameter error: what to answer where it was to be strict.
  /// - Returns: the warnings to send along.
  func judge(
    _ validation: WriteOptions.FieldValidation,
    _ error: (_ unknown: [String], _ duplicates: [String]) -> StatusError
  ) throws(StatusError) -> [String] {
    if unknown.isEmpty && duplicates.isEmpty { return [] }
    switch validation {
    case .ignore: return []
    case .warn: return StatusError.strictProblems(unknown: unknown, duplicates: duplicates)
    case .strict: throw error(unknown, duplicates)
    }
  }
}
