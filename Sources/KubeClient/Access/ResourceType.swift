import KubeAPI

/// A kind of object as a client addresses it.
public struct ResourceType: Sendable, Hashable {
  public let kind: GroupVersionKind
  public let plural: String
  public let isNamespaced: Bool

  public init(_ kind: GroupVersionKind, plural: String, isNamespaced: Bool) {
    self.kind = kind
    self.plural = plural
    self.isNamespaced = isNamespaced
  }

  private static func core(_ kind: String, _ plural: String, namespaced: Bool = true)
    -> ResourceType
  {
    ResourceType(
      GroupVersionKind(group: "", version: "v1", kind: kind), plural: plural,
      isNamespaced: namespaced)
  }

  private static func v1(_ group: String, _ kind: String, _ plural: String) -> ResourceType {
    ResourceType(
      GroupVersionKind(group: group, version: "v1", kind: kind), plural: plural, isNamespaced: true)
  }

  public static let pods = core("Pod", "pods")
  public static let nodes = core("Node", "nodes", namespaced: false)
  public static let namespaces = core("Namespace", "namespaces", namespaced: false)
  public static let configMaps = core("ConfigMap", "configmaps")
  public static let secrets = core("Secret", "secrets")
  public static let serviceAccounts = core("ServiceAccount", "serviceaccounts")
  public static let events = core("Event", "events")
  public static let services = core("Service", "services")
  public static let endpoints = core("Endpoints", "endpoints")
  public static let daemonSets = v1("apps", "DaemonSet", "daemonsets")
  public static let statefulSets = v1("apps", "StatefulSet", "statefulsets")
  public static let controllerRevisions = v1("apps", "ControllerRevision", "controllerrevisions")
  public static let jobs = v1("batch", "Job", "jobs")
  public static let cronJobs = v1("batch", "CronJob", "cronjobs")
  public static let endpointSlices = v1("discovery.k8s.io", "EndpointSlice", "endpointslices")
  public static let disruptionBudgets = v1(
    "policy", "PodDisruptionBudget", "poddisruptionbudgets")
  public static let deployments = v1("apps", "Deployment", "deployments")
  public static let replicaSets = v1("apps", "ReplicaSet", "replicasets")
  public static let certificateSigningRequests = ResourceType(
    GroupVersionKind(group: "certificates.k8s.io", version: "v1", kind: "CertificateSigningRequest"),
    plural: "certificatesigningrequests", isNamespaced: false)
  public static let leases = v1("coordination.k8s.io", "Lease", "leases")

  /// The path of the collection, in one namespace or (nil) in all.
  public func path(namespace: String? = nil) -> String {
    let version = kind.groupVersion
    let root = version.group.isEmpty ? "/api/\(version.version)" : "/apis/\(version.apiVersion)"
    guard isNamespaced, let namespace else { return "\(root)/\(plural)" }
    return "\(root)/namespaces/\(namespace)/\(plural)"
  }

  /// The path of one object, or of one of its subresources.
  public func path(namespace: String?, name: String, subresource: String? = nil) -> String {
    path(namespace: namespace) + "/" + name + (subresource.map { "/" + $0 } ?? "")
  }
}

/// Which object: its namespace (empty where the kind has none) and name.
public struct ObjectKey: Sendable, Hashable, Comparable, CustomStringConvertible {
  public var namespace: String
  public var name: String

  public init(namespace: String, name: String) {
    self.namespace = namespace
    self.name = name
  }

  public init(_ object: Value) {
    namespace = object["metadata"]["namespace"].string ?? ""
    name = object["metadata"]["name"].string ?? ""
  }

  public static func < (left: ObjectKey, right: ObjectKey) -> Bool {
    (left.namespace, left.name) < (right.namespace, right.name)
  }

  public var description: String { namespace.isEmpty ? name : "\(namespace)/\(name)" }
}
