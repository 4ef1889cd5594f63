import EtcdClient
import HTTPServer
import KubeAPI
import Primitives

/// What a DELETE asks for, from its body or its query.
struct DeleteOptions: Sendable {
  enum Propagation: String, Sendable {
    case background = "Background"
    case foreground = "Foreground"
    case orphan = "Orphan"
  }

  var gracePeriodSeconds: Int64?
  var propagation: Propagation?
  var uid: String?
  var revision: Revision?

  init() {}

  init(_ request: HTTPRequest) throws(StatusError) {
    var errors: [FieldError] = []
    var policy: String?
    var orphan: Bool?
    if request.body.isEmpty {
      if let text = request.target.value(of: "gracePeriodSeconds"), !text.isEmpty {
        guard let seconds = Int64(text) else {
          throw .badRequest("strconv.ParseInt: parsing \(quoted(text)): invalid syntax")
        }
        gracePeriodSeconds = seconds
      }
      policy = request.target.value(of: "propagationPolicy")
      if request.target.value(of: "orphanDependents") != nil {
        orphan = request.target.isTrue("orphanDependents")
      }
    } else {
      let kind = GroupVersionKind(group: "", version: "v1", kind: "DeleteOptions")
      let value = try RequestBody.parse(request, kind: kind).value
      gracePeriodSeconds = value["gracePeriodSeconds"].integer
      policy = value["propagationPolicy"].string
      orphan = value["orphanDependents"].bool
      uid = value["preconditions"]["uid"].string
      if let text = value["preconditions"]["resourceVersion"].string {
        guard let number = Int64(text) else {
          throw .badRequest("Invalid value: \(quoted(text)): invalid resource version")
        }
        revision = Revision(number)
      }
    }
    if policy != nil && orphan != nil {
      errors.append(
        .invalid(
          FieldPath("propagationPolicy"), Value(policy),
          "orphanDependents and deletionPropagation cannot be both set"))
    }
    if let policy, !policy.isEmpty {
      propagation = Propagation(rawValue: policy)
      if propagation == nil {
        errors.append(
          .notSupported(
            FieldPath("propagationPolicy"), .string(policy),
            ["Background", "Foreground", "Orphan", "nil"]))
      }
    } else if let orphan {
      propagation = orphan ? .orphan : .background
    }
    if let seconds = gracePeriodSeconds, seconds < 0 {
      // A negative period is as good as a wish for the shortest one. Source: Kubernetes' validation.
      gracePeriodSeconds = 1
    }
    if !errors.isEmpty { throw .invalidOptions(errors, kind: "DeleteOptions") }
  }
}

extension ResourceService {
  func delete(_ call: Call) async throws(StatusError) -> HTTPResponse {
    let options = try WriteOptions(call.request, kind: "DeleteOptions")
    let answers = try Answers(call.request, now: environment.now)
    let wish = try DeleteOptions(call.request)
    try admission.admitDelete(name: call.info.name, of: call.resource)
    guard
      let written = try await delete(
        key: call.key, name: call.info.name, of: call.resource, wish, options)
    else { throw notFound(call) }
    switch written {
    case .stored(let object), .unchanged(let object):
      return answers.object(object, of: call.resource)
    case .deleted(let object):
      return answers.plain(
        .successStatus(
          name: call.info.name, group: call.resource.kind.group, kind: call.resource.plural,
          uid: object.uid))
    }
  }

  /// Deletes an object, or marks it so that it goes when its grace period and finalizers are over.
  ///
  /// - Returns: nil where there is no such object.
  func delete(
    key: String, name: String, of resource: ResourceDefinition, _ wish: DeleteOptions,
    _ options: WriteOptions
  ) async throws(StatusError) -> Written? {
    for _ in 0..<Limits.writeAttempts {
      let record = try await storing { () throws(StoreError) in try await store.get(key).record }
      guard let record else { return nil }
      let old = try object(record, of: resource)
      if let uid = wish.uid, uid != old.uid {
        throw .conflict(
          resource.groupResource, name: name,
          why: "Precondition failed: UID in precondition: \(uid), UID in object meta: \(old.uid)")
      }
      if let revision = wish.revision, revision != old.revision {
        throw .conflict(
          resource.groupResource, name: name,
          why: "Precondition failed: ResourceVersion in precondition: \(revision), "
            + "ResourceVersion in object meta: \(old.revision)")
      }
      var object = old.value
      let before = object
      mark(&object, of: resource, wish)
      if Self.isDeletionComplete(object) {
        if let removed = try await remove(old, from: resource, options) {
          return .deleted(removed)
        }
        continue
      }
      if object == before { return .unchanged(old) }
      // The stored form is written back as it is: marking knows no versions.
      switch try await commitStored(object, of: resource, old: old, options) {
      case .done(let stored): return .stored(stored)
      case .conflict, .taken: continue
      }
    }
    throw .conflict(resource.groupResource, name: name)
  }

  private func commitStored(
    _ object: Value, of resource: ResourceDefinition, old: StoredObject, _ options: WriteOptions
  ) async throws(StatusError) -> Commit {
    try await commit(
      resource.storage.served(object), of: resource, key: old.key, expected: old.revision, options)
  }

  /// Sets what says that an object is on its way out, and what holds it.
  private func mark(
    _ object: inout Value, of resource: ResourceDefinition, _ wish: DeleteOptions
  ) {
    let now = environment.now()
    let isPod = resource.groupResource == GroupResource(group: "", resource: "pods")
    let grace = isPod ? Self.podGrace(object, wish.gracePeriodSeconds) : 0
    var finalizers = object["metadata"]["finalizers"].strings
    let own = ["orphan", "foregroundDeletion"]
    if let propagation = wish.propagation {
      finalizers.removeAll { own.contains($0) }
      if propagation == .orphan { finalizers.append("orphan") }
      if propagation == .foreground { finalizers.append("foregroundDeletion") }
      object["metadata"]["finalizers"] = finalizers.isEmpty ? .null : Value(finalizers)
    }
    let isMarked = !object["metadata"]["deletionTimestamp"].isNull
    if isMarked {
      // A second deletion may only shorten the grace period.
      let left = object["metadata"]["deletionGracePeriodSeconds"].integer ?? 0
      if wish.gracePeriodSeconds != nil && grace < left {
        object["metadata"]["deletionTimestamp"] = Value(
          now.adding(.seconds(grace)).description)
        object["metadata"]["deletionGracePeriodSeconds"] = .integer(grace)
      }
    } else {
      object["metadata"]["deletionTimestamp"] = Value(now.adding(.seconds(grace)).description)
      object["metadata"]["deletionGracePeriodSeconds"] = .integer(grace)
      if let generation = object["metadata"]["generation"].integer, generation > 0 {
        object["metadata"]["generation"] = .integer(generation &+ 1)
      }
      if resource.groupResource == GroupResource(group: "", resource: "namespaces") {
        object["status"]["phase"] = "Terminating"
      }
    }
  }

  /// How long a pod may take to end. One that runs nowhere ends at once.
  private static func podGrace(_ pod: Value, _ wish: Int64?) -> Int64 {
    let phase = pod["status"]["phase"].string ?? ""
    if (pod["spec"]["nodeName"].string ?? "").isEmpty { return 0 }
    if phase == "Succeeded" || phase == "Failed" { return 0 }
    let grace = wish ?? pod["spec"]["terminationGracePeriodSeconds"].integer ?? 30
    // Bounded, so that no clock overflows.
    return min(max(grace, 0), 10 * 365 * 86_400)
  }

  // MARK: Collections

  func deleteCollection(_ call: Call) async throws(StatusError) -> HTTPResponse {
    let options = try WriteOptions(call.request, kind: "DeleteOptions")
    let answers = try Answers(call.request, now: environment.now)
    let wish = try DeleteOptions(call.request)
    let selection = try ListOptions(call.request.target, resource: call.resource, isWatch: false)
    let page = try await page(call.resource, namespace: call.namespace, selection)
    var deleted: [StoredObject] = []
    for object in page.objects {
      try admission.admitDelete(name: object.name, of: call.resource)
      let written = try await delete(
        key: object.key, name: object.name, of: call.resource, wish, options)
      if let written { deleted.append(written.object) }
    }
    return answers.list(deleted, of: call.resource, metadata: page.metadata)
  }
}
