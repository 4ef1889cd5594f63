import Primitives

extension ResourceDefinition {
  /// The built-in kinds, in discovery's order.
  public static let builtIn: [ResourceDefinition] = core + apps + batch + others

  private static let readAndWrite = ["get", "patch", "update"]

  private static func schema(_ name: String) -> Schema {
    guard let schema = SchemaCatalog.kubernetes.schema(named: name) else {
      invariantFailure("no schema \(name)")
    }
    return schema
  }

  private static func kind(_ group: String, _ kind: String) -> GroupVersionKind {
    GroupVersionKind(group: group, version: "v1", kind: kind)
  }

  private static func status(_ kind: GroupVersionKind) -> Subresource {
    Subresource(name: "status", kind: kind, verbs: readAndWrite)
  }

  private static let scale = Subresource(
    name: "scale", kind: kind("autoscaling", "Scale"), verbs: readAndWrite)

  // MARK: core/v1

  private static let core: [ResourceDefinition] = [
    ResourceDefinition(
      kind: kind("", "ConfigMap"), plural: "configmaps", shortNames: ["cm"], isNamespaced: true,
      schema: schema("core.v1.ConfigMap"), printer: .configMap, strategy: ConfigMapStrategy()),
    ResourceDefinition(
      kind: kind("", "Endpoints"), plural: "endpoints", shortNames: ["ep"], isNamespaced: true,
      storagePrefix: "services/endpoints", schema: schema("core.v1.Endpoints"),
      printer: .endpoints, strategy: EndpointsStrategy()),
    ResourceDefinition(
      kind: kind("", "Event"), plural: "events", shortNames: ["ev"], isNamespaced: true,
      schema: schema("core.v1.Event"), selectableFields: eventFields, printer: .event,
      strategy: EventStrategy()),
    ResourceDefinition(
      kind: kind("", "Namespace"), plural: "namespaces", shortNames: ["ns"], isNamespaced: false,
      verbs: allVerbs.filter { $0 != "deletecollection" },
      subresources: [
        Subresource(name: "finalize", kind: kind("", "Namespace"), verbs: ["update"]),
        status(kind("", "Namespace")),
      ],
      schema: schema("core.v1.Namespace"),
      selectableFields: [
        SelectableField("status.phase"),
        SelectableField("name") { $0["metadata"]["name"].string ?? "" },
      ], printer: .namespace, strategy: NamespaceStrategy()),
    ResourceDefinition(
      kind: kind("", "Node"), plural: "nodes", shortNames: ["no"], isNamespaced: false,
      storagePrefix: "minions",
      subresources: [
        Subresource(name: "proxy", kind: kind("", "NodeProxyOptions"), verbs: ["get"]),
        status(kind("", "Node")),
      ],
      schema: schema("core.v1.Node"),
      selectableFields: [SelectableField("spec.unschedulable", default: "false")],
      printer: .node, strategy: NodeStrategy()),
    ResourceDefinition(
      kind: kind("", "Pod"), plural: "pods", shortNames: ["po"], categories: ["all"],
      isNamespaced: true,
      subresources: [
        Subresource(
          name: "attach", kind: kind("", "PodAttachOptions"), verbs: ["create", "get"]),
        Subresource(name: "binding", kind: kind("", "Binding"), verbs: ["create"]),
        Subresource(name: "eviction", kind: kind("policy", "Eviction"), verbs: ["create"]),
        Subresource(name: "exec", kind: kind("", "PodExecOptions"), verbs: ["create", "get"]),
        Subresource(name: "log", kind: kind("", "Pod"), verbs: ["get"]),
        Subresource(
          name: "portforward", kind: kind("", "PodPortForwardOptions"), verbs: ["create", "get"]),
        status(kind("", "Pod")),
      ],
      schema: schema("core.v1.Pod"), selectableFields: podFields, printer: .pod,
      strategy: PodStrategy()),
    ResourceDefinition(
      kind: kind("", "Secret"), plural: "secrets", isNamespaced: true,
      schema: schema("core.v1.Secret"), selectableFields: [SelectableField("type")],
      printer: .secret, strategy: SecretStrategy()),
    ResourceDefinition(
      kind: kind("", "ServiceAccount"), plural: "serviceaccounts", shortNames: ["sa"],
      isNamespaced: true,
      subresources: [
        Subresource(
          name: "token", kind: kind("authentication.k8s.io", "TokenRequest"), verbs: ["create"])
      ],
      schema: schema("core.v1.ServiceAccount"), printer: .serviceAccount,
      strategy: ServiceAccountStrategy()),
    ResourceDefinition(
      kind: kind("", "Service"), plural: "services", shortNames: ["svc"], categories: ["all"],
      isNamespaced: true, storagePrefix: "services/specs",
      subresources: [status(kind("", "Service"))], schema: schema("core.v1.Service"),
      selectableFields: [SelectableField("spec.clusterIP"), SelectableField("spec.type")],
      printer: .service, strategy: ServiceStrategy()),
  ]

  private static let podFields: [SelectableField] = [
    SelectableField("spec.nodeName"),
    SelectableField("spec.restartPolicy"),
    SelectableField("spec.schedulerName"),
    SelectableField("spec.serviceAccountName"),
    SelectableField("spec.hostNetwork", default: "false"),
    SelectableField("status.phase"),
    SelectableField("status.podIP"),
    SelectableField("status.podIPs") { $0["status"]["podIPs"][0]["ip"].string ?? "" },
    SelectableField("status.nominatedNodeName"),
  ]

  private static let eventFields: [SelectableField] =
    ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"]
    .map { SelectableField("involvedObject.\($0)") }
    + [
      SelectableField("reason"),
      SelectableField("reportingComponent"),
      SelectableField("source") { event in
        let source = event["source"]["component"].string ?? ""
        return source.isEmpty ? event["reportingComponent"].string ?? "" : source
      },
      SelectableField("type"),
    ]

  // MARK: apps/v1

  private static let apps: [ResourceDefinition] = [
    ResourceDefinition(
      kind: kind("apps", "ControllerRevision"), plural: "controllerrevisions", isNamespaced: true,
      schema: schema("apps.v1.ControllerRevision"), printer: .controllerRevision,
      strategy: ControllerRevisionStrategy()),
    ResourceDefinition(
      kind: kind("apps", "DaemonSet"), plural: "daemonsets", shortNames: ["ds"],
      categories: ["all"], isNamespaced: true, subresources: [status(kind("apps", "DaemonSet"))],
      schema: schema("apps.v1.DaemonSet"), printer: .daemonSet, strategy: DaemonSetStrategy()),
    ResourceDefinition(
      kind: kind("apps", "Deployment"), plural: "deployments", shortNames: ["deploy"],
      categories: ["all"], isNamespaced: true,
      subresources: [scale, status(kind("apps", "Deployment"))],
      schema: schema("apps.v1.Deployment"), printer: .deployment, strategy: DeploymentStrategy()),
    ResourceDefinition(
      kind: kind("apps", "ReplicaSet"), plural: "replicasets", shortNames: ["rs"],
      categories: ["all"], isNamespaced: true,
      subresources: [scale, status(kind("apps", "ReplicaSet"))],
      schema: schema("apps.v1.ReplicaSet"),
      selectableFields: [SelectableField("status.replicas", default: "0")], printer: .replicaSet,
      strategy: ReplicaSetStrategy()),
    ResourceDefinition(
      kind: kind("apps", "StatefulSet"), plural: "statefulsets", shortNames: ["sts"],
      categories: ["all"], isNamespaced: true,
      subresources: [scale, status(kind("apps", "StatefulSet"))],
      schema: schema("apps.v1.StatefulSet"), printer: .statefulSet,
      strategy: StatefulSetStrategy()),
  ]

  // MARK: batch/v1

  private static let batch: [ResourceDefinition] = [
    ResourceDefinition(
      kind: kind("batch", "CronJob"), plural: "cronjobs", shortNames: ["cj"], categories: ["all"],
      isNamespaced: true, subresources: [status(kind("batch", "CronJob"))],
      schema: schema("batch.v1.CronJob"), printer: .cronJob, strategy: CronJobStrategy()),
    ResourceDefinition(
      kind: kind("batch", "Job"), plural: "jobs", categories: ["all"], isNamespaced: true,
      subresources: [status(kind("batch", "Job"))], schema: schema("batch.v1.Job"),
      selectableFields: [
        SelectableField("status.successful") {
          String($0["status"]["succeeded"].integer ?? 0)
        }
      ], printer: .job, strategy: JobStrategy()),
  ]

  // MARK: The other groups

  /// A question that the server answers and doesn't store.
  private static func review(
    _ group: String, _ name: String, _ plural: String, isNamespaced: Bool = false
  ) -> ResourceDefinition {
    let prefix = group.split(separator: ".").first.map(String.init) ?? ""
    return ResourceDefinition(
      kind: kind(group, name), plural: plural, isNamespaced: isNamespaced, verbs: ["create"],
      schema: schema("\(prefix).v1.\(name)"), isStored: false)
  }

  /// What the nodes answer themselves, and nobody stores.
  public static let metricsGroup = "metrics.k8s.io"

  private static func metrics(
    _ name: String, _ plural: String, isNamespaced: Bool
  ) -> ResourceDefinition {
    ResourceDefinition(
      kind: GroupVersionKind(group: metricsGroup, version: "v1beta1", kind: name), plural: plural,
      singular: "", isNamespaced: isNamespaced, storagePrefix: "\(metricsGroup)/\(plural)",
      verbs: ["get", "list"], schema: schema("metrics.v1beta1.\(name)"), isStored: false)
  }

  private static let others: [ResourceDefinition] = [
    review("authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews"),
    review("authentication.k8s.io", "TokenReview", "tokenreviews"),
    review(
      "authorization.k8s.io", "LocalSubjectAccessReview", "localsubjectaccessreviews",
      isNamespaced: true),
    review("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
    review("authorization.k8s.io", "SelfSubjectRulesReview", "selfsubjectrulesreviews"),
    review("authorization.k8s.io", "SubjectAccessReview", "subjectaccessreviews"),
    ResourceDefinition(
      kind: kind("certificates.k8s.io", "CertificateSigningRequest"),
      plural: "certificatesigningrequests", shortNames: ["csr"], isNamespaced: false,
      subresources: [
        Subresource(
          name: "approval", kind: kind("certificates.k8s.io", "CertificateSigningRequest"),
          verbs: readAndWrite),
        status(kind("certificates.k8s.io", "CertificateSigningRequest")),
      ],
      schema: schema("certificates.v1.CertificateSigningRequest"),
      selectableFields: [SelectableField("spec.signerName")], printer: .certificateSigningRequest,
      strategy: CertificateSigningRequestStrategy()),
    ResourceDefinition(
      kind: kind("coordination.k8s.io", "Lease"), plural: "leases", isNamespaced: true,
      schema: schema("coordination.v1.Lease"), printer: .lease, strategy: LeaseStrategy()),
    ResourceDefinition(
      kind: kind("discovery.k8s.io", "EndpointSlice"), plural: "endpointslices",
      isNamespaced: true, schema: schema("discovery.v1.EndpointSlice"), printer: .endpointSlice,
      strategy: EndpointSliceStrategy()),
    ResourceDefinition(
      kind: kind("events.k8s.io", "Event"), plural: "events", shortNames: ["ev"],
      isNamespaced: true,
      storage: StorageForm(
        kind: kind("", "Event"), encode: EventConversion.toCore, decode: EventConversion.fromCore),
      schema: schema("events.v1.Event"), selectableFields: regardingFields,
      printer: .regardingEvent, strategy: RegardingEventStrategy()),
    metrics("NodeMetrics", "nodes", isNamespaced: false),
    metrics("PodMetrics", "pods", isNamespaced: true),
    ResourceDefinition(
      kind: kind("policy", "PodDisruptionBudget"), plural: "poddisruptionbudgets",
      shortNames: ["pdb"], isNamespaced: true,
      subresources: [status(kind("policy", "PodDisruptionBudget"))],
      schema: schema("policy.v1.PodDisruptionBudget"), printer: .podDisruptionBudget,
      strategy: PodDisruptionBudgetStrategy()),
    ResourceDefinition(
      kind: kind("scheduling.k8s.io", "PriorityClass"), plural: "priorityclasses",
      shortNames: ["pc"], isNamespaced: false, schema: schema("scheduling.v1.PriorityClass"),
      printer: .priorityClass, strategy: PriorityClassStrategy()),
  ]

  private static let regardingFields: [SelectableField] =
    ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"]
    .map { SelectableField("regarding.\($0)") }
    + [
      SelectableField("reason"), SelectableField("reportingController"), SelectableField("type"),
    ]
}
