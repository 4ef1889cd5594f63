import EtcdClient
import HTTPServer
import KubeAPI
import Primitives

extension ResourceService {
  // MARK: Scale

  private static let scaleKind = GroupVersionKind(
    group: "autoscaling", version: "v1", kind: "Scale")

  /// An object with replicas, seen as a Scale.
  private func scale(of object: StoredObject, _ resource: ResourceDefinition) -> Value {
    let value = resource.storage.served(object.value)
    var metadata: Value = [:]
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
      metadata[name] = value["metadata"][name]
    }
    var scale: Value = [
      "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": [:],
      "status": ["replicas": value["status"]["replicas"].isNull ? 0 : value["status"]["replicas"]],
    ]
    scale["spec"]["replicas"] = value["spec"]["replicas"].isNull ? 0 : value["spec"]["replicas"]
    if let selector = try? LabelSelector(object: value["spec"]["selector"]) {
      scale["status"]["selector"] = Value(selector.description)
    }
    return scale
  }

  func getScale(_ call: Call) async throws(StatusError) -> HTTPResponse {
    let answers = try Answers(call.request, now: environment.now, allowsForms: false)
    guard let object = try await current(call) else { throw notFound(call) }
    return answers.plain(scale(of: object, call.resource))
  }

  /// Sets the number of replicas, by PUT of a Scale or by a patch of one.
  func writeScale(_ call: Call) async throws(StatusError) -> HTTPResponse {
    let isPatch = call.info.verb == "patch"
    let options = try WriteOptions(
      call.request, kind: isPatch ? "PatchOptions" : "UpdateOptions")
    let answers = try Answers(call.request, now: environment.now, allowsForms: false)
    guard let schema = SchemaCatalog.kubernetes.schema(for: Self.scaleKind) else {
      throw .internalError("no schema for Scale")
    }
    let patch = isPatch ? try Patch(call.request) : nil
    let whole = isPatch ? nil : try RequestBody.parse(call.request, kind: Self.scaleKind).value
    let written = try await attempt(call, options) { old async throws(StatusError) in
      let before = scale(of: old, call.resource)
      let wanted = try patch?.apply(to: before, schema: schema) ?? whole
      let decoded: Value
      do throws(SchemaError) { decoded = try schema.decode(wanted).value } catch {
        throw .undecodable(Self.scaleKind, error.message)
      }
      let revision = try Self.givenRevision(decoded)
      if let revision, revision != old.revision {
        throw .conflict(call.resource.groupResource, name: call.info.name)
      }
      let replicas = decoded["spec"]["replicas"].integer ?? 0
      if replicas < 0 {
        throw .invalid(
          Self.scaleKind, name: call.info.name,
          [
            .invalid(
              FieldPath("spec.replicas"), .integer(replicas),
              "must be greater than or equal to 0")
          ])
      }
      var object = call.resource.storage.served(old.value)
      object["spec"]["replicas"] = .integer(replicas)
      return try await replace(
        old, with: object, in: call.resource, subresource: "", recordedAs: "scale", options)
    }
    return answers.plain(scale(of: written.object, call.resource))
  }

  // MARK: Binding

  /// Assigns a pod to a node, once: what a scheduler decides.
  func bind(_ call: Call) async throws(StatusError) -> HTTPResponse {
    let options = try WriteOptions(call.request, kind: "CreateOptions")
    let answers = try Answers(call.request, now: environment.now, allowsForms: false)
    let kind = GroupVersionKind(group: "", version: "v1", kind: "Binding")
    let binding = try RequestBody.parse(call.request, kind: kind).value
    let node = binding["target"]["name"].string ?? ""
    let targetKind = binding["target"]["kind"].string ?? "Node"
    var errors: [FieldError] = []
    if targetKind != "Node" && !targetKind.isEmpty {
      errors.append(
        .notSupported(FieldPath("target.kind"), .string(targetKind), ["Node", "<empty>"]))
    }
    if node.isEmpty { errors.append(.required(FieldPath("target.name"))) }
    if !errors.isEmpty { throw .invalid(kind, name: call.info.name, errors) }
    let uid = binding["metadata"]["uid"].string ?? ""
    _ = try await attempt(call, options) { old async throws(StatusError) in
      if !uid.isEmpty && uid != old.uid {
        throw .conflict(
          call.resource.groupResource, name: old.name,
          why: "Precondition failed: UID in precondition: \(uid), UID in object meta: \(old.uid)")
      }
      let before = old.value
      var pod = before
      if !pod["metadata"]["deletionTimestamp"].isNull {
        throw .conflict(
          call.resource.groupResource, name: old.name,
          why: "pod \(old.name) is being deleted, cannot be assigned to a host")
      }
      let assigned = pod["spec"]["nodeName"].string ?? ""
      if !assigned.isEmpty {
        throw .conflict(
          call.resource.groupResource, name: old.name,
          why: "pod \(old.name) is already assigned to node \(quoted(assigned))")
      }
      pod["spec"]["nodeName"] = Value(node)
      for annotation in binding["metadata"]["annotations"].members {
        pod["metadata"]["annotations"][annotation.key] = annotation.value
      }
      Self.setCondition(
        &pod, type: "PodScheduled", status: "True", now: environment.now())
      ManagedFields.update(
        &pod, from: before, schema: call.resource.schema,
        apiVersion: call.resource.kind.apiVersion, manager: options.fieldManager,
        subresource: "binding", now: environment.now())
      guard
        case .done(let bound) = try await commit(
          pod, of: call.resource, key: old.key, expected: old.revision, options)
      else { return nil }
      return .stored(bound)
    }
    var status = Value.successStatus(name: "", group: "", kind: "", uid: "")
    status["details"] = .null
    status["code"] = 201
    return answers.plain(status, status: 201)
  }

  private static func setCondition(
    _ pod: inout Value, type: String, status: String, now: Timestamp
  ) {
    var conditions = pod["status"]["conditions"].elements
    let condition: Value = [
      "type": Value(type), "status": Value(status), "lastProbeTime": nil,
      "lastTransitionTime": Value(now.description),
    ]
    if let index = conditions.firstIndex(where: { $0["type"].string == type }) {
      if conditions[index]["status"].string == status { return }
      conditions[index] = condition
    } else {
      conditions.append(condition)
    }
    pod["status"]["conditions"] = .array(conditions)
  }
}
