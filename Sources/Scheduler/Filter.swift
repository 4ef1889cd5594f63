import KubeAPI

/// A reason for which a node can't take a pod, under the name that Kubernetes' plugin has.
///
/// Filters are asked in the order in which they stand here; the first that objects decides. Reasons are in
/// Kubernetes' words. Source: Kubernetes, "Scheduler Configuration", default plugins.
enum Filter: String, CaseIterable, Sendable {
  case nodeUnschedulable = "NodeUnschedulable"
  case nodeName = "NodeName"
  case taintToleration = "TaintToleration"
  case nodeAffinity = "NodeAffinity"
  case nodePorts = "NodePorts"
  case nodeResourcesFit = "NodeResourcesFit"
  case podTopologySpread = "PodTopologySpread"
  case interPodAffinity = "InterPodAffinity"

  /// The first filter's objection to `node`; empty if none objects.
  static func reasons(
    against node: ClusterSnapshot.Node, for demands: PodDemands, rules: PlacementRules
  ) -> [String] {
    for filter in allCases {
      let reasons = filter.reasons(against: node, for: demands, rules: rules)
      if !reasons.isEmpty { return reasons }
    }
    return []
  }

  /// Why not; several for a node that lacks several resources, none if the node would do.
  func reasons(
    against node: ClusterSnapshot.Node, for demands: PodDemands, rules: PlacementRules
  ) -> [String] {
    switch self {
    case .nodeUnschedulable:
      node.object.isUnschedulable && !demands.isCordonTolerated
        ? ["node(s) were unschedulable"] : []
    case .nodeName:
      demands.pod.nodeName.isEmpty || demands.pod.nodeName == node.object.name
        ? [] : ["node(s) didn't match the requested node name"]
    case .taintToleration: Self.taints(node, demands.pod)
    case .nodeAffinity: Self.affinity(node.object, demands)
    case .nodePorts: Self.hostPorts(node, demands)
    case .nodeResourcesFit: Self.resources(node, demands.requests)
    case .podTopologySpread: rules.spreadObjection(node.object).map { [$0] } ?? []
    case .interPodAffinity: rules.neighbourObjection(node.object).map { [$0] } ?? []
    }
  }

  private static func taints(_ node: ClusterSnapshot.Node, _ pod: PodView) -> [String] {
    for taint in node.repellents where !pod.tolerates(taint) {
      let value = taint["value"].string ?? ""
      return ["node(s) had untolerated taint {\(taint["key"].string ?? ""): \(value)}"]
    }
    return []
  }

  private static func affinity(_ node: NodeView, _ demands: PodDemands) -> [String] {
    if demands.labels.isEverything, demands.affinity.isNull { return [] }
    return demands.labels.matches(node.labels) && NodeSelector.matches(demands.affinity, node)
      ? [] : ["node(s) didn't match Pod's node affinity/selector"]
  }

  private static func hostPorts(_ node: ClusterSnapshot.Node, _ demands: PodDemands) -> [String] {
    guard !demands.hostPorts.isEmpty else { return [] }
    for other in node.pods.values {
      for taken in other.hostPorts {
        for port in demands.hostPorts
        where port.port == taken.port && port.protocol == taken.protocol
          && (port.address == taken.address || isAny(port.address) || isAny(taken.address))
        {
          return ["node(s) didn't have free ports for the requested pod ports"]
        }
      }
    }
    return []
  }

  private static func isAny(_ address: String) -> Bool { address.isEmpty || address == "0.0.0.0" }

  private static func resources(
    _ node: ClusterSnapshot.Node, _ requests: ResourceAmounts
  ) -> [String] {
    var lacking: [String] = []
    if let most = node.mostPods, Int64(node.pods.count) + 1 > most {
      lacking.append("Too many pods")
    }
    for (name, amount) in requests.amounts where !amount.isZero {
      if node.requested[name] + amount > node.allocatable[name] {
        lacking.append("Insufficient \(name)")
      }
    }
    return lacking
  }
}
