import EtcdClient
import HTTPServer
import KubeAPI
import Primitives

extension ResourceService {
  /// Server-side apply: merges a configuration into an object, or makes the object of it.
  func apply(
    _ patch: Patch, _ call: Call, _ options: WriteOptions, _ answers: Answers
  ) async throws(StatusError) -> HTTPResponse {
    try options.requireManager()
    for member in ["kind", "apiVersion"] where patch.value[member].isEmpty {
      throw .badRequest(
        "Object '\(member == "kind" ? "Kind" : "apiVersion")' is missing in "
          + "'\(patch.value.jsonString)'")
    }
    let body = try RequestBody(patched: patch.value, by: patch, of: call.resource)
    let warnings = try body.judge(options.fieldValidation) {
      .strict(call.resource.kind, unknown: $0, duplicates: $1)
    }
    let configuration = try configuration(body.value, call)
    let apply = ServerSideApply(
      schema: call.resource.schema, apiVersion: call.resource.kind.apiVersion,
      manager: options.fieldManager, subresource: call.info.subresource,
      isForced: options.force == true, now: environment.now())
    do throws(StatusError) {
      let revision = try Self.givenRevision(configuration)
      let written = try await attempt(call, options) { old async throws(StatusError) in
        if let revision, revision != old.revision {
          throw .conflict(call.resource.groupResource, name: call.info.name)
        }
        let live = call.resource.storage.served(old.value)
        return try await replace(
          old, with: try apply.apply(configuration, to: live), in: call.resource,
          subresource: call.info.subresource, isApplied: true, options)
      }
      return answer(written, answers, call.resource).warning(warnings)
    } catch  where error.reason == .notFound {
      guard call.info.subresource.isEmpty else { throw error }
      if let uid = configuration["metadata"]["uid"].string, !uid.isEmpty {
        throw .conflict(
          call.resource.groupResource, name: call.info.name,
          why: "uid mismatch: the provided object specified uid \(uid), and no existing object was "
            + "found")
      }
      let object = try await insert(
        Self.signed(apply.make(configuration), call), into: call.resource, namespace: call.namespace,
        options,
        isApplied: true)
      return answers.object(object, of: call.resource, status: 201).warning(warnings)
    }
  }

  /// Checks that a configuration is of the object that the request names, and fills in which one that is.
  private func configuration(_ value: Value, _ call: Call) throws(StatusError) -> Value {
    var configuration = value
    if !value["metadata"]["managedFields"].isNull {
      throw .badRequest("metadata.managedFields must be nil")
    }
    for (name, wanted) in [("name", call.info.name), ("namespace", call.namespace)] {
      let given = value["metadata"][name].string ?? ""
      guard given.isEmpty || given == wanted else {
        throw .badRequest(
          "the \(name) of the object (\(given)) does not match the \(name) on the URL (\(wanted))")
      }
      if !wanted.isEmpty { configuration["metadata"][name] = Value(wanted) }
    }
    return configuration
  }
}
