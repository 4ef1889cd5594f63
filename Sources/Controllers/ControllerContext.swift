import Certification
import KubeAPI
import KubeClient
import Logging

/// What all controllers of one process share: one cache a kind, one client, one voice.
public final class ControllerContext: Sendable {
  public let client: APIClient
  public let events: EventRecorder
  public let log: Logger
  let pods: Informer
  let replicaSets: Informer
  let deployments: Informer
  let nodes: Informer
  let namespaces: Informer
  let serviceAccounts: Informer
  let nodeLeases: Informer
  let services: Informer
  let endpoints: Informer
  let endpointSlices: Informer
  let jobs: Informer
  let cronJobs: Informer
  let daemonSets: Informer
  let statefulSets: Informer
  let revisions: Informer
  let budgets: Informer
  let configMaps: Informer
  let certificateRequests: Informer

  /// Objects of the controller with this uid.
  static let byController = "controller"
  static let byNamespace = "namespace"
  /// Pods of this namespace that have no controller.
  static let byOrphanage = "orphanage"
  /// Pods of the node with this name.
  static let byNode = "node"
  /// EndpointSlices of the Service whose key (`namespace/name`) this is.
  static let byService = "service"

  /// The certificates that the API server's leads to, for pods; nil if they aren't known.
  let rootCertificates: String?
  let monitoring: NodeMonitoring
  /// Who signs the certificates of nodes; nil where this process doesn't have the key.
  let authority: CertificateAuthority?

  public init(
    client: APIClient, rootCertificates: String? = nil, monitoring: NodeMonitoring = .init(),
    authority: CertificateAuthority? = nil, log: Logger
  ) {
    self.client = client
    self.rootCertificates = rootCertificates
    self.monitoring = monitoring
    self.authority = authority
    self.log = log
    events = EventRecorder(client: client, log: log) { object in
      // Kubernetes' names: each controller speaks of its own kind.
      "\((object["kind"].string ?? "").lowercased())-controller"
    }
    func informer(_ type: ResourceType, namespace: String? = nil) -> Informer {
      let informer = Informer(type, client: client, namespace: namespace, log: log)
      informer.addIndex(Self.byController) { object in
        AnyObjectView(object).controller.map { [$0.uid] } ?? []
      }
      informer.addIndex(Self.byNamespace) { [AnyObjectView($0).namespace] }
      return informer
    }
    pods = informer(.pods)
    replicaSets = informer(.replicaSets)
    deployments = informer(.deployments)
    nodes = informer(.nodes)
    namespaces = informer(.namespaces)
    serviceAccounts = informer(.serviceAccounts)
    nodeLeases = informer(.leases, namespace: "kube-node-lease")
    services = informer(.services)
    endpoints = informer(.endpoints)
    endpointSlices = informer(.endpointSlices)
    endpointSlices.addIndex(Self.byService) { slice in
      let view = AnyObjectView(slice)
      return view.labels[EndpointSlices.serviceLabel].string.map { ["\(view.namespace)/\($0)"] }
        ?? []
    }
    jobs = informer(.jobs)
    cronJobs = informer(.cronJobs)
    daemonSets = informer(.daemonSets)
    statefulSets = informer(.statefulSets)
    revisions = informer(.controllerRevisions)
    budgets = informer(.disruptionBudgets)
    configMaps = informer(.configMaps)
    certificateRequests = informer(.certificateSigningRequests)
    pods.addIndex(Self.byOrphanage) { pod in
      let view = AnyObjectView(pod)
      return view.controller == nil ? [view.namespace] : []
    }
    pods.addIndex(Self.byNode) { pod in
      let node = PodView(pod).nodeName
      return node.isEmpty ? [] : [node]
    }
  }

  var informers: [Informer] {
    [
      pods, replicaSets, deployments, nodes, namespaces, serviceAccounts, nodeLeases, services,
      endpoints, endpointSlices, jobs, cronJobs, daemonSets, statefulSets, revisions, budgets,
      configMaps, certificateRequests,
    ]
  }

  /// Keeps the caches current until cancelled.
  func runInformers() async {
    await withTaskGroup(of: Void.self) { group in
      for informer in informers { group.addTask { await informer.run() } }
    }
  }

  func waitUntilSynced() async {
    for informer in informers { await informer.waitUntilSynced() }
  }
}
