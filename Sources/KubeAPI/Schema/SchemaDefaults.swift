/// The documented defaults of fields that are constants, by type, wherever the type occurs.
///
/// Defaults that depend on other fields or on the kind around them are in the strategies and in
/// `dependent`. Source: the field descriptions of the Kubernetes API reference, v1.32.
public struct SchemaDefaults: Sendable {
  private struct Rule: Sendable {
    let constants: [(field: String, value: Value)]
    let dependent: (@Sendable (inout Value) -> Void)?
  }

  private let catalog: SchemaCatalog
  private let rules: [Rule?]
  /// Types in which, or in whose fields, there is anything to fill in.
  private let isConcerned: [Bool]

  public static let kubernetes = SchemaDefaults(
    catalog: .kubernetes, constants: constants, dependent: dependent)

  init(
    catalog: SchemaCatalog, constants: [String: [(String, Value)]],
    dependent: [String: @Sendable (inout Value) -> Void]
  ) {
    self.catalog = catalog
    rules = catalog.types.map { type in
      let own = constants[type.name]
      let function = dependent[type.name]
      return own == nil && function == nil
        ? nil : Rule(constants: own ?? [], dependent: function)
    }
    var isConcerned = rules.map { $0 != nil }
    // Types may be recursive: repeat until nothing is added.
    var hasChanged = true
    while hasChanged {
      hasChanged = false
      for (index, type) in catalog.types.enumerated() where !isConcerned[index] {
        let reaches = type.fields.contains { field in
          Schema(catalog: catalog, id: TypeID(index: index)).nested(field.type)
            .map { isConcerned[$0.id.index] } ?? false
        }
        if reaches {
          isConcerned[index] = true
          hasChanged = true
        }
      }
    }
    self.isConcerned = isConcerned
  }

  /// Fills in what is missing in `object`, a value of type `schema`.
  public func apply(to object: inout Value, schema: Schema) {
    fill(&object, .object(schema.id))
  }

  /// The constant that fills a field of a type, if there is one.
  public func constant(_ field: String, of type: TypeID) -> Value? {
    rules.indices.contains(type.index)
      ? rules[type.index]?.constants.first { $0.field == field }?.value : nil
  }

  private func fill(_ value: inout Value, _ type: FieldType) {
    switch type {
    case .object(let id):
      guard isConcerned[id.index], case .object = value else { return }
      if let rule = rules[id.index] {
        for (field, constant) in rule.constants { value.setDefault(field, to: constant) }
        rule.dependent?(&value)
      }
      guard case .object(var object) = value else { return }
      value = .null
      let schema = catalog[id]
      object.mutateValues { key, member in
        if let field = schema.field(key) { fill(&member, field.type) }
      }
      value = .object(object)
    case .array(let element):
      guard isConcerned(element), case .array(var elements) = value else { return }
      value = .null
      for index in elements.indices { fill(&elements[index], element) }
      value = .array(elements)
    case .map(let element):
      guard isConcerned(element), case .object(var object) = value else { return }
      value = .null
      object.mutateValues { _, member in fill(&member, element) }
      value = .object(object)
    default: return
    }
  }

  private func isConcerned(_ type: FieldType) -> Bool {
    switch type {
    case .object(let id): isConcerned[id.index]
    case .array(let element), .map(let element): isConcerned(element)
    default: false
    }
  }
}

// MARK: Kubernetes' defaults

extension SchemaDefaults {
  private static let constants: [String: [(String, Value)]] = [
    "core.v1.PodSpec": [
      ("restartPolicy", "Always"), ("terminationGracePeriodSeconds", 30),
      ("dnsPolicy", "ClusterFirst"), ("securityContext", [:]),
      ("schedulerName", "default-scheduler"),
    ],
    "core.v1.Container": [
      ("resources", [:]), ("terminationMessagePath", "/dev/termination-log"),
      ("terminationMessagePolicy", "File"),
    ],
    "core.v1.EphemeralContainer": [
      ("resources", [:]), ("terminationMessagePath", "/dev/termination-log"),
      ("terminationMessagePolicy", "File"),
    ],
    "core.v1.ContainerPort": [("protocol", "TCP")],
    "core.v1.Probe": [
      ("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1),
      ("failureThreshold", 3),
    ],
    "core.v1.HTTPGetAction": [("path", "/"), ("scheme", "HTTP")],
    "core.v1.GRPCAction": [("service", "")],
    "core.v1.SecretVolumeSource": [("defaultMode", 420)],
    "core.v1.ConfigMapVolumeSource": [("defaultMode", 420)],
    "core.v1.DownwardAPIVolumeSource": [("defaultMode", 420)],
    "core.v1.ProjectedVolumeSource": [("defaultMode", 420)],
    "core.v1.ServiceAccountTokenProjection": [("expirationSeconds", 3600)],
    "core.v1.ObjectFieldSelector": [("apiVersion", "v1")],
    "core.v1.HostPathVolumeSource": [("type", "")],
    "core.v1.ISCSIVolumeSource": [("iscsiInterface", "default")],
    "core.v1.RBDVolumeSource": [
      ("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring"),
    ],
    "core.v1.AzureDiskVolumeSource": [
      ("cachingMode", "ReadWrite"), ("kind", "Shared"), ("fsType", "ext4"), ("readOnly", false),
    ],
    "core.v1.ScaleIOVolumeSource": [("storageMode", "ThinProvisioned"), ("fsType", "xfs")],
    "core.v1.PersistentVolumeClaimSpec": [("volumeMode", "Filesystem")],
    "core.v1.ServiceSpec": [("sessionAffinity", "None"), ("type", "ClusterIP")],
    "core.v1.ServicePort": [("protocol", "TCP")],
    "core.v1.EndpointPort": [("protocol", "TCP")],
    "core.v1.Secret": [("type", "Opaque")],
    "apps.v1.DeploymentSpec": [
      ("replicas", 1), ("strategy", [:]), ("revisionHistoryLimit", 10),
      ("progressDeadlineSeconds", 600),
    ],
    "apps.v1.DeploymentStrategy": [("type", "RollingUpdate")],
    "apps.v1.ReplicaSetSpec": [("replicas", 1)],
    "apps.v1.DaemonSetSpec": [("updateStrategy", [:]), ("revisionHistoryLimit", 10)],
    "apps.v1.DaemonSetUpdateStrategy": [("type", "RollingUpdate")],
    "apps.v1.StatefulSetSpec": [
      ("replicas", 1), ("podManagementPolicy", "OrderedReady"), ("updateStrategy", [:]),
      ("revisionHistoryLimit", 10), ("persistentVolumeClaimRetentionPolicy", [:]),
    ],
    "apps.v1.StatefulSetUpdateStrategy": [("type", "RollingUpdate")],
    "apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy": [
      ("whenDeleted", "Retain"), ("whenScaled", "Retain"),
    ],
    "batch.v1.CronJobSpec": [
      ("concurrencyPolicy", "Allow"), ("suspend", false), ("successfulJobsHistoryLimit", 3),
      ("failedJobsHistoryLimit", 1),
    ],
    "batch.v1.PodFailurePolicyOnPodConditionsPattern": [("status", "True")],
    "discovery.v1.EndpointPort": [("name", ""), ("protocol", "TCP")],
    "scheduling.v1.PriorityClass": [("preemptionPolicy", "PreemptLowerPriority")],
  ]

  /// Defaults that depend on the object's other fields.
  private static let dependent: [String: @Sendable (inout Value) -> Void] = [
    "core.v1.Container": defaultPullPolicy,
    "core.v1.EphemeralContainer": defaultPullPolicy,
    "core.v1.Volume": { volume in
      // A volume that says nothing of its source is an empty directory.
      if volume.members.allSatisfy({ $0.key == "name" }) { volume["emptyDir"] = [:] }
    },
    "core.v1.PodSpec": { spec in
      // Two names for the same thing, the older one still read by clients.
      if let name = spec["serviceAccountName"].string ?? spec["serviceAccount"].string {
        spec["serviceAccountName"] = Value(name)
        spec["serviceAccount"] = Value(name)
      }
    },
    "core.v1.ServiceSpec": { spec in
      let type = spec["type"].string
      if spec["sessionAffinity"] == "ClientIP" {
        if spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].isNull {
          spec["sessionAffinityConfig"] = ["clientIP": ["timeoutSeconds": 10800]]
        }
      }
      if type == "NodePort" || type == "LoadBalancer" {
        spec.setDefault("externalTrafficPolicy", to: "Cluster")
      }
      if type != "ExternalName" { spec.setDefault("internalTrafficPolicy", to: "Cluster") }
      if type == "LoadBalancer" { spec.setDefault("allocateLoadBalancerNodePorts", to: true) }
    },
    "core.v1.ServicePort": { port in
      let own = port["port"]
      port.setDefault("targetPort", to: own)
    },
    "apps.v1.DeploymentStrategy": { strategy in
      guard strategy["type"] == "RollingUpdate" else { return }
      strategy["rollingUpdate"].setDefault("maxUnavailable", to: "25%")
      strategy["rollingUpdate"].setDefault("maxSurge", to: "25%")
    },
    "apps.v1.DaemonSetUpdateStrategy": { strategy in
      guard strategy["type"] == "RollingUpdate" else { return }
      strategy["rollingUpdate"].setDefault("maxUnavailable", to: 1)
      strategy["rollingUpdate"].setDefault("maxSurge", to: 0)
    },
    "apps.v1.StatefulSetUpdateStrategy": { strategy in
      guard strategy["type"] == "RollingUpdate" else { return }
      strategy["rollingUpdate"].setDefault("partition", to: 0)
    },
  ]

  /// An image without a tag, or with the tag `latest`, may be another one tomorrow.
  @Sendable private static func defaultPullPolicy(_ container: inout Value) {
    guard container["imagePullPolicy"].isEmpty else { return }
    let image = ImageReference(container["image"].string ?? "")
    container["imagePullPolicy"] =
      image.digest == nil && (image.tag ?? "latest") == "latest" ? "Always" : "IfNotPresent"
  }
}
