import KubeAPI

/// What the lifecycle of a pod depends on, read from the API object.
///
/// Only fields that decide *what happens when* are here; what a container looks like inside
/// (environment, mounts, security) is read from `object` when one is made.
public struct PodManifest: Sendable {
  public enum RestartPolicy: String, Sendable {
    case always = "Always"
    case onFailure = "OnFailure"
    case never = "Never"
  }

  public enum PullPolicy: String, Sendable {
    case always = "Always"
    case ifNotPresent = "IfNotPresent"
    case never = "Never"
  }

  public struct Container: Sendable, Equatable {
    public var name: String
    public var image: String
    public var pullPolicy: PullPolicy
    /// An init container that goes on running beside the others (`restartPolicy: Always`).
    public var isSidecar: Bool
    public var probes: [ProbeKind: ProbeSettings] = [:]
    /// Done right after the start; if it fails, the container is killed.
    public var postStart: ContainerHandler?
    /// Done before the stop signal, within the grace period.
    public var preStop: ContainerHandler?
  }

  public let object: Value
  public let name: String
  public let namespace: String
  public let uid: String
  public let restartPolicy: RestartPolicy
  public let initContainers: [Container]
  public let containers: [Container]
  public let usesHostNetwork: Bool
  /// How long the pod may be active, in seconds.
  public let activeDeadlineSeconds: Int64?
  /// Conditions that others must set before the pod is ready.
  public let readinessGates: [String]
  /// How long its containers may take to stop, in seconds, where nothing says otherwise.
  public let graceSeconds: Int64
  /// Set once the pod is to go: how long its containers may take to stop, in seconds.
  public let deletionGraceSeconds: Int64?

  public init(_ object: Value) {
    self.object = object
    let metadata = object["metadata"]
    let spec = object["spec"]
    name = metadata["name"].string ?? ""
    namespace = metadata["namespace"].string ?? ""
    uid = metadata["uid"].string ?? ""
    restartPolicy = spec["restartPolicy"].string.flatMap(RestartPolicy.init) ?? .always
    func containers(_ key: String) -> [Container] {
      spec[key].elements.map { container in
        let image = container["image"].string ?? ""
        let ports = container["ports"].elements
        var probes: [ProbeKind: ProbeSettings] = [:]
        for kind in ProbeKind.allCases {
          probes[kind] = ProbeSettings(container["\(kind.rawValue)Probe"], ports: ports)
        }
        return Container(
          name: container["name"].string ?? "", image: image,
          pullPolicy: container["imagePullPolicy"].string.flatMap(PullPolicy.init)
            ?? (ImageName(image)?.tag == "latest" ? .always : .ifNotPresent),
          isSidecar: key == "initContainers" && container["restartPolicy"].string == "Always",
          probes: probes,
          postStart: ContainerHandler(container["lifecycle"]["postStart"], ports: ports),
          preStop: ContainerHandler(container["lifecycle"]["preStop"], ports: ports))
      }
    }
    initContainers = containers("initContainers")
    self.containers = containers("containers")
    usesHostNetwork = spec["hostNetwork"].bool ?? false
    activeDeadlineSeconds = spec["activeDeadlineSeconds"].integer
    readinessGates = spec["readinessGates"].elements.compactMap { $0["conditionType"].string }
    graceSeconds = spec["terminationGracePeriodSeconds"].integer ?? 30
    if metadata["deletionTimestamp"].isNull {
      deletionGraceSeconds = nil
    } else {
      deletionGraceSeconds =
        metadata["deletionGracePeriodSeconds"].integer
        ?? graceSeconds
    }
  }

  public var isDeleted: Bool { deletionGraceSeconds != nil }
  /// When the API expects the pod to be gone.
  var deletionTime: Timestamp? { object["metadata"]["deletionTimestamp"].timestamp }

  /// A container by name, of whatever kind.
  func container(_ name: String) -> Container? {
    containers.first { $0.name == name } ?? initContainers.first { $0.name == name }
  }
  /// The phase in the API: once it is final, the pod never runs again.
  public var recordedPhase: String { object["status"]["phase"].string ?? "" }

  /// What the API has of a container's status.
  func recordedStatus(_ name: String) -> Value {
    let status = object["status"]
    return (status["containerStatuses"].elements + status["initContainerStatuses"].elements)
      .first { $0["name"].string == name } ?? .null
  }

  /// The restart count that the API has for a container that ran before, or nil if it never did.
  func recordedRestarts(_ name: String, isInit: Bool) -> Int? {
    let statuses = object["status"][isInit ? "initContainerStatuses" : "containerStatuses"]
    guard let status = statuses.elements.first(where: { $0["name"].string == name }),
      !(status["containerID"].string ?? "").isEmpty
    else { return nil }
    return status["restartCount"].int
  }

  /// The specification of one container, of whatever kind.
  func specification(of name: String) -> Value {
    let all = object["spec"]["initContainers"].elements + object["spec"]["containers"].elements
    return all.first { $0["name"].string == name } ?? .null
  }
}
