import KubeAPI

/// How good a place is, under the name that Kubernetes' plugin has: 0...100, times a weight.
///
/// Wishes are compared over the nodes that would do: the worst gets 0, the best 100, and a wish that tells no two
/// nodes apart counts for nothing. Weights are Kubernetes' defaults.
enum Score: String, CaseIterable, Sendable {
  case taintToleration = "TaintToleration"
  case nodeAffinity = "NodeAffinity"
  case podTopologySpread = "PodTopologySpread"
  case interPodAffinity = "InterPodAffinity"
  case nodeResourcesFit = "NodeResourcesFit"
  case balancedAllocation = "NodeResourcesBalancedAllocation"

  var weight: Int64 {
    switch self {
    case .taintToleration: 3
    case .nodeAffinity, .podTopologySpread, .interPodAffinity: 2
    case .nodeResourcesFit, .balancedAllocation: 1
    }
  }

  /// What each node gets, weighted; nil where the score says nothing about this pod.
  func points(
    _ nodes: [ClusterSnapshot.Node], _ demands: PodDemands, _ rules: PlacementRules
  ) -> [Int64]? {
    switch self {
    case .taintToleration:
      guard nodes.contains(where: { !$0.deterrents.isEmpty }) else { return nil }
      return compared(
        nodes.map { node in
          -Int64(node.deterrents.count { !demands.pod.tolerates($0) })
        })
    case .nodeAffinity:
      guard !demands.preferences.isEmpty else { return nil }
      return compared(
        nodes.map { node in
          demands.preferences.reduce(0) { sum, term in
            NodeSelector.matches(term: term["preference"], node.object)
              ? sum + (term["weight"].integer ?? 0) : sum
          }
        })
    case .podTopologySpread:
      guard rules.hasSpreadWishes else { return nil }
      return compared(nodes.map { rules.preference($0.object).spread })
    case .interPodAffinity:
      guard rules.hasNeighbourWishes else { return nil }
      return compared(nodes.map { rules.preference($0.object).affinity })
    case .nodeResourcesFit: return nodes.map { Self.leastAllocated($0, demands.requests) }
    case .balancedAllocation: return nodes.map { Self.balanced($0, demands.requests) }
    }
  }

  private func compared(_ raw: [Int64]) -> [Int64]? {
    guard let low = raw.min(), let high = raw.max(), high > low else { return nil }
    return raw.map { weight * (($0 - low) * 100 / (high - low)) }
  }

  /// The part of CPU and memory that stays free.
  private static func leastAllocated(
    _ node: ClusterSnapshot.Node, _ requests: ResourceAmounts
  ) -> Int64 {
    switch (fraction("cpu", node, requests), fraction("memory", node, requests)) {
    case (let cpu?, let memory?): (200 - cpu - memory) / 2
    case (let one?, nil), (nil, let one?): 100 - one
    case (nil, nil): 0
    }
  }

  /// How evenly CPU and memory are used.
  private static func balanced(
    _ node: ClusterSnapshot.Node, _ requests: ResourceAmounts
  ) -> Int64 {
    guard let cpu = fraction("cpu", node, requests),
      let memory = fraction("memory", node, requests)
    else { return 100 }
    return 100 - abs(cpu - memory) / 2
  }

  /// Percent of a resource in use with the pod; nil where the node has none of it.
  private static func fraction(
    _ name: String, _ node: ClusterSnapshot.Node, _ requests: ResourceAmounts
  ) -> Int64? {
    let total = node.allocatable[name].nanoUnits
    guard total > 0 else { return nil }
    let used = (node.requested[name] + requests[name]).nanoUnits
    return Int64(clamping: min(used / max(total / 100, 1), 100))
  }
}
