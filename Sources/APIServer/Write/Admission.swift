import KubeAPI
import Primitives

/// The built-in admission: what is filled in from, and checked against, other objects.
///
/// | step | what |
/// |---|---|
/// | admit | a new object's namespace exists and isn't on its way out; some namespaces stay |
/// | mutate | a pod's service account and its token, tolerations, priority |
struct Admission: Sendable {
  /// Finds another object by resource, namespace and name, in its served form.
  typealias Find =
    @Sendable (_ group: String, _ plural: String, _ namespace: String, _ name: String)
    async throws(StatusError) -> Value?

  /// How long pods stay on a node that is in trouble, in seconds. Source: Kubernetes, "kube-apiserver".
  struct Tolerations: Sendable, Equatable {
    /// Of nodes that say so themselves: `--default-not-ready-toleration-seconds`.
    var notReadySeconds: Int64 = 300
    /// Of nodes that don't answer: `--default-unreachable-toleration-seconds`.
    var unreachableSeconds: Int64 = 300
  }

  var tolerations = Tolerations()
  let find: Find

  /// Namespaces that can't be deleted.
  static let lastingNamespaces: Set<String> = ["default", "kube-public", "kube-system"]

  // MARK: Mutation

  /// - Parameter random: for the end of a volume's name; asked only where one is made.
  func mutate(
    _ object: inout Value, of resource: ResourceDefinition, namespace: String,
    random: () -> RandomSource
  ) async throws(StatusError) {
    guard resource.groupResource == GroupResource(group: "", resource: "pods") else { return }
    var source = random()
    try await ServiceAccountAdmission(find: find, pods: resource.groupResource)
      .mutate(&object, namespace: namespace, random: &source)
    addTolerations(&object)
    try await setPriority(&object, resource)
  }

  /// What a refusal calls an object that may not have its name yet.
  static func nameForRefusals(of object: Value) -> String {
    let metadata = object["metadata"]
    let name = metadata["name"].string ?? ""
    return name.isEmpty ? metadata["generateName"].string ?? "" : name
  }

  /// A pod stays for a while on a node that doesn't answer. Source: Kubernetes documentation,
  /// "Taints and Tolerations", taint based evictions.
  private func addTolerations(_ pod: inout Value) {
    for (key, seconds) in [
      ("node.kubernetes.io/not-ready", tolerations.notReadySeconds),
      ("node.kubernetes.io/unreachable", tolerations.unreachableSeconds),
    ] {
      let isTolerated = pod["spec"]["tolerations"].elements.contains { toleration in
        let tolerated = toleration["key"].string ?? ""
        let effect = toleration["effect"].string ?? ""
        return (tolerated == key || tolerated.isEmpty)
          && (effect == "NoExecute" || effect.isEmpty)
      }
      if isTolerated { continue }
      pod["spec"]["tolerations"].append([
        "key": Value(key), "operator": "Exists", "effect": "NoExecute",
        "tolerationSeconds": Value(seconds),
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
          resource.groupResource, name: Self.nameForRefusals(of: pod),
          why: "no PriorityClass with name \(name) was found")
      }
      priority = found["value"].integer ?? 0
      policy = found["preemptionPolicy"].string ?? policy
    }
    if let given = pod["spec"]["priority"].integer, given != priority {
      throw .forbidden(
        resource.groupResource, name: Self.nameForRefusals(of: pod),
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
    var error = StatusError.forbidden(
      resource.groupResource, name: Self.nameForRefusals(of: object),
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
