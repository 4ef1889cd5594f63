public struct NodeView: ObjectView {
  public let object: Value
  public init(_ object: Value) { self.object = object }

  public var isReady: Bool { condition("Ready")?["status"] == "True" }
  public var isUnschedulable: Bool { object["spec"]["unschedulable"] == true }
  public var taints: [Value] { object["spec"]["taints"].elements }
  public var capacity: ResourceAmounts { ResourceAmounts(object["status"]["capacity"]) }
  /// What is there for pods.
  public var allocatable: ResourceAmounts {
    let allocatable = object["status"]["allocatable"]
    return ResourceAmounts(allocatable.isNull ? object["status"]["capacity"] : allocatable)
  }
  /// The address of a type, such as `InternalIP`.
  public func address(_ type: String) -> String? {
    object["status"]["addresses"].elements.first { $0["type"].string == type }?["address"].string
  }
  /// The port of the node's agent.
  public var agentPort: Int? {
    object["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].int
  }
}

public struct DeploymentView: ObjectView {
  public let object: Value
  public init(_ object: Value) { self.object = object }

  public var replicas: Int64 { object["spec"]["replicas"].integer ?? 1 }
  public var selector: LabelSelector {
    (try? LabelSelector(object: object["spec"]["selector"])) ?? .nothing
  }
  public var template: Value { object["spec"]["template"] }
  public var isPaused: Bool { object["spec"]["paused"] == true }
  public var minReadySeconds: Int64 { object["spec"]["minReadySeconds"].integer ?? 0 }
  public var revisionHistoryLimit: Int64 { object["spec"]["revisionHistoryLimit"].integer ?? 10 }
  public var progressDeadlineSeconds: Int64 {
    object["spec"]["progressDeadlineSeconds"].integer ?? 600
  }
  public var isRecreate: Bool { object["spec"]["strategy"]["type"] == "Recreate" }
  /// Pods above the wanted number during a rolling update; percentages round up.
  public var maxSurge: Int64 { limits.surge }
  /// Pods below the wanted number during a rolling update; percentages round down. Both limits are
  /// never zero at once.
  public var maxUnavailable: Int64 { limits.unavailable }

  private var limits: (surge: Int64, unavailable: Int64) {
    if isRecreate { return (0, replicas) }
    let rolling = object["spec"]["strategy"]["rollingUpdate"]
    let surge = rolling["maxSurge"].scaled(to: replicas, roundsUp: true) ?? 0
    let unavailable = rolling["maxUnavailable"].scaled(to: replicas, roundsUp: false) ?? 0
    if surge == 0, unavailable == 0 { return (0, 1) }
    return (surge, min(unavailable, replicas))
  }
}

public struct ReplicaSetView: ObjectView {
  public let object: Value
  public init(_ object: Value) { self.object = object }

  public var replicas: Int64 { object["spec"]["replicas"].integer ?? 1 }
  public var selector: LabelSelector {
    (try? LabelSelector(object: object["spec"]["selector"])) ?? .nothing
  }
  public var template: Value { object["spec"]["template"] }
  public var minReadySeconds: Int64 { object["spec"]["minReadySeconds"].integer ?? 0 }
}

public struct LeaseView: ObjectView {
  public let object: Value
  public init(_ object: Value) { self.object = object }

  public var holder: String { object["spec"]["holderIdentity"].string ?? "" }
  public var durationSeconds: Int64 { object["spec"]["leaseDurationSeconds"].integer ?? 0 }
  public var renewTime: Timestamp? { object["spec"]["renewTime"].timestamp }
}

extension Value {
  /// A number, or a percentage of `total`; nil for anything else.
  public func scaled(to total: Int64, roundsUp: Bool) -> Int64? {
    switch self {
    case .integer(let number): return number
    case .string(let text):
      guard text.hasSuffix("%"), let percent = Int64(text.dropLast()), percent >= 0 else {
        return nil
      }
      let (product, overflow) = percent.multipliedReportingOverflow(by: total)
      if overflow { return nil }
      return roundsUp ? product / 100 + (product % 100 > 0 ? 1 : 0) : product / 100
    default: return nil
    }
  }
}
