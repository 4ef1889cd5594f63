import KubeAPI

/// Where a pod should run, or why it can't run anywhere.
///
/// First each node is *filtered*: the first reason against it is its verdict. The rest are *scored*; the
/// best takes the pod, and among equals the one with the fewest pods, then the first by name, so that a
/// decision is the same for the same cluster. Source: Kubernetes, "Scheduling Framework".
public struct Decision: Sendable, Equatable {
  public enum Outcome: Sendable, Equatable {
    case bind(node: String)
    /// In Kubernetes' words: `0/3 nodes are available: 1 Insufficient cpu, 2 ...`.
    case unschedulable(message: String)
  }

  /// A node's verdict.
  public struct Verdict: Sendable, Equatable {
    public var node: String
    /// Why not: one filter's objection, which may name several resources; empty if the node would do.
    public var reasons: [String]
    /// 0...100 for each score, summed; zero for nodes that were filtered.
    public var score: Int64
  }

  public var outcome: Outcome
  /// Of every node, by name.
  public var verdicts: [Verdict]

  public static func decide(_ pod: PodView, _ snapshot: ClusterSnapshot) -> Decision {
    let requests = pod.requests
    var verdicts: [Verdict] = []
    var best: (score: Int64, pods: Int, node: String)?
    let rules = PlacementRules(pod, snapshot)
    let names = snapshot.nodes.keys.sorted()
    let wishes = Scores.wishes(names.map { snapshot.nodes[$0]!.object }, pod, rules)
    for (index, name) in names.enumerated() {
      let node = snapshot.reserving(snapshot.nodes[name]!, for: pod)
      let reasons = Filters.reasons(against: node, for: pod, requests: requests, rules: rules)
      guard reasons.isEmpty else {
        verdicts.append(Verdict(node: name, reasons: reasons, score: 0))
        continue
      }
      let score =
        Scores.leastAllocated(node, requests) + Scores.balanced(node, requests) + wishes[index]
      verdicts.append(Verdict(node: name, reasons: [], score: score))
      if best == nil || (score, -node.pods.count) > (best!.score, -best!.pods) {
        best = (score, node.pods.count, name)
      }
    }
    if let best { return Decision(outcome: .bind(node: best.node), verdicts: verdicts) }
    return Decision(outcome: .unschedulable(message: message(verdicts)), verdicts: verdicts)
  }

  private static func message(_ verdicts: [Verdict]) -> String {
    guard !verdicts.isEmpty else { return "no nodes available to schedule pods" }
    var counts: [String: Int] = [:]
    // A node that lacks several resources counts for each.
    for reason in verdicts.lazy.flatMap(\.reasons) { counts[reason, default: 0] += 1 }
    let reasons = counts.map { "\($0.value) \($0.key)" }.sorted().joined(separator: ", ")
    return "0/\(verdicts.count) nodes are available: \(reasons)."
  }
}

/// Reasons against a node, in Kubernetes' words.
enum Filters {
  /// The first filter's objection to `node`; empty if none objects.
  static func reasons(
    against node: ClusterSnapshot.Node, for pod: PodView, requests: ResourceAmounts,
    rules: PlacementRules
  ) -> [String] {
    let objection =
      unschedulable(node, pod) ?? nodeName(node, pod) ?? taints(node, pod) ?? affinity(node, pod)
      ?? hostPorts(node, pod)
    if let objection { return [objection] }
    let lacking = resources(node, requests)
    if !lacking.isEmpty { return lacking }
    return rules.objection(node.object).map { [$0] } ?? []
  }

  private static func unschedulable(_ node: ClusterSnapshot.Node, _ pod: PodView) -> String? {
    let taint: Value = ["key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"]
    return node.object.isUnschedulable && !pod.tolerates(taint)
      ? "node(s) were unschedulable" : nil
  }

  private static func nodeName(_ node: ClusterSnapshot.Node, _ pod: PodView) -> String? {
    pod.nodeName.isEmpty || pod.nodeName == node.object.name
      ? nil : "node(s) didn't match the requested node name"
  }

  private static func taints(_ node: ClusterSnapshot.Node, _ pod: PodView) -> String? {
    // A node that never said it is ready has no taint yet, and is not ready all the same.
    var taints = node.object.taints
    if !node.object.isReady {
      taints.append(["key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"])
    }
    for taint in taints where ["NoSchedule", "NoExecute"].contains(taint["effect"].string) {
      if !pod.tolerates(taint) {
        let value = taint["value"].string ?? ""
        return "node(s) had untolerated taint {\(taint["key"].string ?? ""): \(value)}"
      }
    }
    return nil
  }

  private static func affinity(_ node: ClusterSnapshot.Node, _ pod: PodView) -> String? {
    let labels = node.object.labels
    let isWanted =
      LabelSelector(labels: pod.nodeSelector).matches(labels)
      && NodeSelector.matches(
        pod.object["spec"]["affinity"]["nodeAffinity"][
          "requiredDuringSchedulingIgnoredDuringExecution"], node.object)
    return isWanted ? nil : "node(s) didn't match Pod's node affinity/selector"
  }

  private static func hostPorts(_ node: ClusterSnapshot.Node, _ pod: PodView) -> String? {
    let wanted = pod.hostPorts
    guard !wanted.isEmpty else { return nil }
    for other in node.pods.values {
      for taken in other.hostPorts {
        for port in wanted
        where port.port == taken.port && port.protocol == taken.protocol
          && (port.address == taken.address || Self.isAny(port.address)
            || Self.isAny(taken.address))
        {
          return "node(s) didn't have free ports for the requested pod ports"
        }
      }
    }
    return nil
  }

  private static func isAny(_ address: String) -> Bool { address.isEmpty || address == "0.0.0.0" }

  private static func resources(
    _ node: ClusterSnapshot.Node, _ requests: ResourceAmounts
  ) -> [String] {
    var lacking: [String] = []
    if let pods = node.object.object["status"]["allocatable"]["pods"].quantity,
      Int64(node.pods.count) + 1 > pods.value
    {
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

/// How good a place is: each score 0...100, times its weight.
enum Scores {
  /// What the pod would like, for each node. Weights are Kubernetes' defaults: taints 3, node affinity 2,
  /// neighbours 2, spread 2. A wish that tells no two nodes apart counts for nothing.
  static func wishes(_ nodes: [NodeView], _ pod: PodView, _ rules: PlacementRules) -> [Int64] {
    let terms = pod.object["spec"]["affinity"]["nodeAffinity"][
      "preferredDuringSchedulingIgnoredDuringExecution"
    ].elements
    let preferences = nodes.map(rules.preference)
    var totals = Array(repeating: Int64(0), count: nodes.count)
    func add(_ raw: [Int64], weight: Int64) {
      guard let low = raw.min(), let high = raw.max(), high > low else { return }
      for index in raw.indices {
        totals[index] += weight * ((raw[index] - low) * 100 / (high - low))
      }
    }
    add(
      nodes.map { node in
        -Int64(
          node.taints.filter { $0["effect"] == "PreferNoSchedule" && !pod.tolerates($0) }.count)
      }, weight: 3)
    if !terms.isEmpty {
      add(
        nodes.map { node in
          terms.reduce(0) {
            $0
              + (NodeSelector.matches(term: $1["preference"], node) ? $1["weight"].integer ?? 0 : 0)
          }
        }, weight: 2)
    }
    add(preferences.map(\.affinity), weight: 2)
    add(preferences.map(\.spread), weight: 2)
    return totals
  }

  /// The part of CPU and memory that stays free.
  static func leastAllocated(_ node: ClusterSnapshot.Node, _ requests: ResourceAmounts) -> Int64 {
    let parts = fractions(node, requests)
    return parts.isEmpty ? 0 : parts.reduce(0) { $0 + (100 - $1) } / Int64(parts.count)
  }

  /// How evenly CPU and memory are used.
  static func balanced(_ node: ClusterSnapshot.Node, _ requests: ResourceAmounts) -> Int64 {
    let parts = fractions(node, requests)
    guard parts.count == 2 else { return 100 }
    return 100 - abs(parts[0] - parts[1]) / 2
  }

  /// Percent of CPU and of memory in use with the pod.
  private static func fractions(
    _ node: ClusterSnapshot.Node, _ requests: ResourceAmounts
  ) -> [Int64] {
    ["cpu", "memory"].compactMap { name in
      let total = node.allocatable[name].nanoUnits
      guard total > 0 else { return nil }
      let used = (node.requested[name] + requests[name]).nanoUnits
      // Divide first: amounts of memory in nano-units times a hundred need more than 64 bits.
      return Int64(clamping: min(used / max(total / 100, 1), 100))
    }
  }
}
