import KubeAPI

/// The built-in admission: what is filled in from, and checked against, other objects.
///
/// | step | what |
/// |---|---|
/// | mutate | a pod's service account, tolerations, priority |
/// | admit | a new object's namespace exists and isn't on its way out; some namespaces stay |
struct Admission: Sendable {
  /// Finds another object by resource, namespace and name, in its served form.
  typealias Find =
    @Sendable (_ group: String, _ plural: String, _ namespace: String, _ name: String)
    async throws(StatusError) -> Value?

  let find: Find

  /// Namespaces that can't be deleted.
  static let lastingNamespaces: Set<String> = ["default", "kube-public", "kube-system"]

  // MARK: Mutation

  func mutate(
    _ object: inout Value, of resource: ResourceDefinition
  ) async throws(StatusError) {
    guard resource.groupResource == GroupResource(group: "", resource: "pods") else { return }
    setServiceAccount(&object)
    addTolerations(&object)
    try await setPriority(&object, resource)
  }

  private func setServiceAccount(_ pod: inout Value) {
    let given = pod["spec"]["serviceAccountName"].string ?? ""
    let old = pod["spec"]["serviceAccount"].string ?? ""
    let name = given.isEmpty ? (old.isEmpty ? "default" : old) : given
    pod["spec"]["serviceAccountName"] = Value(name)
    pod["spec"]["serviceAccount"] = Value(name)
  }

  /// A pod stays on a node that doesn't answer for five minutes. Source: Kubernetes documentation,
  /// "Taints and Tolerations", taint based evictions.
  private func addTolerations(_ pod: inout Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
      let isTolerated = pod["spec"]["tolerations"].elements.contains { toleration in
        let tolerated = toleration["key"].string ?? ""
        let effect = toleration["effect"].string ?? ""
        return (tolerated == key || tolerated.isEmpty)
          && (effect == "NoExecute" || effect.isEmpty)
      }
      if isTolerated { continue }
      pod["spec"]["tolerations"].append([
        "key": Value(key), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
      ])
    }
  }

  static let systemPriorities: [String: Int64] = [
    "system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000,
  ]

  private func setPriority(
    _ pod: inout Value, _ resource: ResourceDefinition
  ) async throws(StatusError) {
    let name = pod["spec"]["priorityClassName"].string ?? ""
    var priority: Int64 = 0
    var policy = "PreemptLowerPriority"
    if let system = Self.systemPriorities[name] {
      priority = system
    } else if !name.isEmpty {
      guard let found = try await find("scheduling.k8s.io", "priorityclasses", "", name) else {
        throw .forbidden(
          resource.groupResource, name: pod["metadata"]["name"].string ?? "",
          why: "no PriorityClass with name \(name) was found")
      }
      priority = found["value"].integer ?? 0
      policy = found["preemptionPolicy"].string ?? policy
    }
    if let given = pod["spec"]["priority"].integer, given != priority {
      throw .forbidden(
        resource.groupResource, name: pod["metadata"]["name"].string ?? "",
        why: "the integer value of priority (\(given)) must not be provided in pod spec; "
          + "priority admission controller computed \(priority) from the given PriorityClass name")
    }
    pod["spec"]["priority"] = .integer(priority)
    pod["spec"].setDefault("preemptionPolicy", to: Value(policy))
  }

  // MARK: Checks

  func admitCreate(
    _ object: Value, of resource: ResourceDefinition, namespace: String
  ) async throws(StatusError) {
    guard resource.isNamespaced else { return }
    guard let found = try await find("", "namespaces", "", namespace) else {
      throw .notFound(GroupResource(group: "", resource: "namespaces"), name: namespace)
    }
    let isEnding =
      found["status"]["phase"].string == "Terminating"
      || !found["metadata"]["deletionTimestamp"].isNull
    guard isEnding else { return }
    let name = object["metadata"]["name"].string ?? ""
    var error = StatusError.forbidden(
      resource.groupResource, name: name,
      why: "unable to create new content in namespace \(namespace) because it is being terminated")
    error.details?.causes = [
      StatusError.Cause(
        reason: "NamespaceTerminating", message: "namespace \(namespace) is being terminated",
        field: "metadata.namespace")
    ]
    throw error
  }

  func admitDelete(name: String, of resource: ResourceDefinition) throws(StatusError) {
    guard resource.groupResource == GroupResource(group: "", resource: "namespaces"),
      Self.lastingNamespaces.contains(name)
    else { return }
    throw .forbidden(resource.groupResource, name: name, why: "this namespace may not be deleted")
  }
}
