import KubeAPI

/// Which pods of lower priority should make room for one that fits nowhere.
///
/// On each node all pods of lower priority are taken away in thought; if the pod then fits, as many as possible
/// are given back, the important ones and those that a disruption budget protects first. The node whose
/// victims matter least is taken. Source: Kubernetes, "Pod Priority and Preemption".
public struct Preemption: Sendable, Equatable {
  public var node: String
  /// Names of the victims, with their namespaces.
  public var victims: [PodView]

  public static func == (left: Preemption, right: Preemption) -> Bool {
    left.node == right.node && left.victims.map(\.uid) == right.victims.map(\.uid)
  }

  private struct Cost {
    var violations: Int
    var highest: Int64
    var sum: Int64
    var count: Int

    func isLess(than other: Cost) -> Bool {
      (violations, highest, sum, count)
        < (other.violations, other.highest, other.sum, other.count)
    }
  }

  /// - Parameter budgets: disruption budgets, which are respected where it can be done.
  /// - Returns: nil where no pods of lower priority would make room.
  public static func decide(
    _ pod: PodView, _ snapshot: ClusterSnapshot, budgets: [Value] = []
  ) -> Preemption? {
    guard pod.object["spec"]["preemptionPolicy"] != "Never" else { return nil }
    var best: (plan: Preemption, cost: Cost)?
    for name in snapshot.nodes.keys.sorted() {
      guard let node = snapshot.nodes[name] else { continue }
      let lower = node.pods.values.filter { $0.priority < pod.priority }
      guard !lower.isEmpty else { continue }
      guard let victims = victims(on: name, lower, pod, snapshot, budgets) else { continue }
      let cost = Cost(
        violations: victims.filter { isProtected($0, budgets) }.count,
        highest: victims.map(\.priority).max() ?? .min,
        sum: victims.reduce(0) { $0 + $1.priority + Int64(Int32.max) }, count: victims.count)
      if best.map({ cost.isLess(than: $0.cost) }) ?? true {
        best = (Preemption(node: name, victims: victims), cost)
      }
    }
    return best?.plan
  }

  private static func victims(
    on name: String, _ lower: [PodView], _ pod: PodView, _ snapshot: ClusterSnapshot,
    _ budgets: [Value]
  ) -> [PodView]? {
    var trial = snapshot
    for victim in lower { trial.remove(pod: victim.uid) }
    guard fits(pod, name, trial) else { return nil }
    var victims: [PodView] = []
    let ordered = lower.sorted { left, right in
      let protection = (isProtected(left, budgets), isProtected(right, budgets))
      if protection.0 != protection.1 { return protection.0 }
      if left.priority != right.priority { return left.priority > right.priority }
      return (left.creationTime ?? Timestamp(secondsSinceEpoch: 0), left.name)
        < (right.creationTime ?? Timestamp(secondsSinceEpoch: 0), right.name)
    }
    for candidate in ordered {
      trial.place(candidate, on: name)
      if !fits(pod, name, trial) {
        trial.remove(pod: candidate.uid)
        victims.append(candidate)
      }
    }
    return victims.isEmpty ? nil : victims
  }

  private static func fits(_ pod: PodView, _ name: String, _ snapshot: ClusterSnapshot) -> Bool {
    guard let node = snapshot.nodes[name] else { return false }
    return Filter.reasons(
      against: snapshot.reserving(node, for: pod), for: PodDemands(pod),
      rules: PlacementRules(pod, snapshot)
    ).isEmpty
  }

  private static func isProtected(_ pod: PodView, _ budgets: [Value]) -> Bool {
    budgets.contains { budget in
      AnyObjectView(budget).namespace == pod.namespace
        && !budget["spec"]["selector"].isNull
        && ((try? LabelSelector(object: budget["spec"]["selector"]))?.matches(pod.labels) ?? false)
        && budget["status"]["disruptionsAllowed"].integer ?? 0 <= 0
    }
  }
}
