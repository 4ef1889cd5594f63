import EtcdClient
import HTTPServer
import KubeAPI
import KubeYAML
import Primitives

extension ResourceService {
  /// Applies a patch to the newest object, again if that changed meanwhile.
  func patch(_ call: Call) async throws(StatusError) -> HTTPResponse {
    let options = try WriteOptions(call.request, kind: "PatchOptions")
    let answers = try Answers(call.request, now: environment.now)
    let patch = try Patch(call.request)
    if patch.kind == .apply { return try await apply(patch, call, options, answers) }
    try options.forbidForce()
    var warnings: [String] = []
    let written = try await attempt(call, options) { old async throws(StatusError) in
      let before = call.resource.storage.served(old.value)
      let patched = try patch.apply(to: before, schema: call.resource.schema)
      let body = try RequestBody(patched: patched, by: patch, of: call.resource)
      warnings = try body.judge(options.fieldValidation) {
        .strictPatch(patch.value, unknown: $0, duplicates: $1)
      }
      // A patch that names a resourceVersion is meant for that version only.
      if let revision = try Self.givenRevision(body.value), revision != old.revision {
        throw .conflict(call.resource.groupResource, name: call.info.name)
      }
      for name in ["name", "namespace"]
      where body.value["metadata"][name] != before["metadata"][name] {
        throw .badRequest(
          "the \(name) of the object (\(body.value["metadata"][name].string ?? "")) does not match "
            + "the \(name) on the URL (\(before["metadata"][name].string ?? ""))")
      }
      return try await replace(
        old, with: body.value, in: call.resource, subresource: call.info.subresource, options)
    }
    return answer(written, answers, call.resource).warning(warnings)
  }
}

/// A patch as a client sent it.
struct Patch: Sendable {
  let kind: PatchKind
  let value: Value
  let duplicates: [String]

  /// What PATCH takes.
  static let kinds = [PatchKind.json, .merge, .strategic, .apply]
  static let mediaTypes = kinds.map(\.rawValue)

  init(_ request: HTTPRequest) throws(StatusError) {
    let type = MediaRange.parse(request.fields["Content-Type"] ?? "").first?.type ?? ""
    guard let kind = PatchKind(rawValue: type) else {
      throw .unsupportedMediaType(Self.mediaTypes)
    }
    self.kind = kind
    let isJSON = request.body.first { ![0x20, 0x0A, 0x0D, 0x09].contains($0) } == UInt8(ascii: "{")
    if kind == .apply, !isJSON {
      do throws(YAML.Failure) { value = try YAML.parse(request.body) } catch {
        throw .badRequest("error decoding YAML: \(error.message)")
      }
      duplicates = []
      return
    }
    do throws(JSONError) {
      let parsed = try Value.parse(request.body)
      value = parsed.value
      duplicates = parsed.duplicates
    } catch {
      throw .badRequest("error decoding patch: \(error.message)")
    }
  }

  func apply(to object: Value, schema: Schema) throws(StatusError) -> Value {
    do throws(PatchError) {
      switch kind {
      case .json: return try JSONPatch.apply(value, to: object)
      case .merge: return try MergePatch.apply(value, to: object)
      case .strategic: return try StrategicMergePatch.apply(value, to: object, schema: schema)
      // Merged by ownership, not by this: `ServerSideApply`.
      case .apply: throw PatchError(fault: .malformed, message: "apply is no plain patch")
      }
    } catch {
      throw error.status
    }
  }
}
