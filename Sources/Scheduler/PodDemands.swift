import KubeAPI

/// What a pod asks of nodes, read once a decision.
struct PodDemands {
  let pod: PodView
  let requests: ResourceAmounts
  let hostPorts: [(protocol: String, address: String, port: Int64)]
  /// Labels that a node must have.
  let labels: LabelSelector
  /// Required node affinity; null for none.
  let affinity: Value
  /// Preferred node affinity.
  let preferences: [Value]
  let isCordonTolerated: Bool

  init(_ pod: PodView) {
    self.pod = pod
    requests = pod.requests
    hostPorts = pod.hostPorts
    labels = LabelSelector(labels: pod.nodeSelector)
    let affinity = pod.object["spec"]["affinity"]["nodeAffinity"]
    self.affinity = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    preferences = affinity["preferredDuringSchedulingIgnoredDuringExecution"].elements
    isCordonTolerated = pod.tolerates([
      "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule",
    ])
  }
}
