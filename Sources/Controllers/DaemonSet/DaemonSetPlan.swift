import KubeAPI

/// What a DaemonSet's controller does next: a pod on each node that should have one.
///
/// A rolling update is a series of these decisions. Without surge an old pod goes, and a new one comes in its
/// place; with surge a new one comes first, and the old one goes when that is available. Pods that serve
/// nobody go at once: they cost nothing.
/// Source: Kubernetes, "DaemonSet", "Perform a Rolling Update on a DaemonSet".
public struct DaemonSetPlan: Sendable, Equatable {
  /// Nodes to make a pod for.
  public var create: [String] = []
  public var delete: [String] = []
  /// Pods that failed, among those to delete: name and node.
  public var failed: [String] = []
  public var status: Value = [:]
  public var checkAgainAfter: Int64?

  static let mostPerStep = 250
  /// A pod that failed is replaced at this age at the earliest: a node that fails each at once is not flooded.
  static let leastAge: Int64 = 5

  /// Whether a node should get a pod, and whether one that is there may stay.
  static func wants(_ set: AnyObjectView, _ node: NodeView) -> (run: Bool, stay: Bool) {
    let spec = set.object["spec"]["template"]["spec"]
    if let name = spec["nodeName"].string, !name.isEmpty, name != node.name {
      return (false, false)
    }
    guard NodeSelector.allows(node, spec: spec) else { return (false, false) }
    let pod = PodView(["spec": ["tolerations": tolerations(spec)]])
    let untolerated = node.taints.filter { !pod.tolerates($0) }
    if untolerated.contains(where: { $0["effect"] == "NoExecute" }) { return (false, false) }
    return (!untolerated.contains { $0["effect"] == "NoSchedule" }, true)
  }

  /// The template's tolerations and those that every daemon has.
  static func tolerations(_ spec: Value) -> Value {
    var list = spec["tolerations"].elements
    var own: [(String, String)] = [
      ("node.kubernetes.io/not-ready", "NoExecute"),
      ("node.kubernetes.io/unreachable", "NoExecute"),
      ("node.kubernetes.io/disk-pressure", "NoSchedule"),
      ("node.kubernetes.io/memory-pressure", "NoSchedule"),
      ("node.kubernetes.io/pid-pressure", "NoSchedule"),
      ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ]
    if spec["hostNetwork"] == true {
      own.append(("node.kubernetes.io/network-unavailable", "NoSchedule"))
    }
    for (key, effect) in own {
      let toleration: Value = [
        "key": Value(key), "operator": "Exists", "effect": Value(effect),
      ]
      if !list.contains(toleration) { list.append(toleration) }
    }
    return .array(list)
  }

  /// - Parameters:
  ///   - pods: those that the DaemonSet controls.
  ///   - hash: the label of pods of its template as it is now.
  public static func decide(
    _ set: AnyObjectView, pods: [PodView], nodes: [NodeView], hash: String, now: Timestamp
  ) -> DaemonSetPlan {
    var decision = Decision(set, pods, nodes, hash, now)
    if !set.isBeingDeleted {
      decision.place()
      if set.object["spec"]["updateStrategy"]["type"] != "OnDelete" { decision.roll() }
    }
    decision.writeStatus()
    decision.plan.create = Array(decision.plan.create.prefix(mostPerStep))
    return decision.plan
  }

  /// The node that a pod is on, or is meant for.
  static func node(of pod: PodView) -> String? {
    if !pod.nodeName.isEmpty { return pod.nodeName }
    let terms = pod.object["spec"]["affinity"]["nodeAffinity"][
      "requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    for field in terms[0]["matchFields"].elements where field["key"] == "metadata.name" {
      return field["values"][0].string
    }
    return nil
  }

  /// A pod for one node: the scheduler binds it there and nowhere else.
  static func pod(of set: AnyObjectView, node: String, hash: String) -> Value {
    let template = set.object["spec"]["template"]
    var metadata: Value = [
      "generateName": Value("\(set.name)-"), "namespace": Value(set.namespace),
    ]
    for part in ["labels", "annotations", "finalizers"] where !template["metadata"][part].isEmpty {
      metadata[part] = template["metadata"][part]
    }
    metadata["labels"][RevisionPlan.hashLabel] = Value(hash)
    metadata["labels"]["pod-template-generation"] = Value("\(set.generation)")
    metadata["ownerReferences"] = [OwnerReference(controller: set.object).value]
    var spec = template["spec"]
    spec["tolerations"] = tolerations(spec)
    let field: Value = ["key": "metadata.name", "operator": "In", "values": [Value(node)]]
    let path = "requiredDuringSchedulingIgnoredDuringExecution"
    var terms = spec["affinity"]["nodeAffinity"][path]["nodeSelectorTerms"].elements
    if terms.isEmpty { terms = [[:]] }
    // Each term is a way to be allowed: the node is part of all of them.
    for index in terms.indices { terms[index]["matchFields"] = [field] }
    spec["affinity"]["nodeAffinity"][path] = ["nodeSelectorTerms": .array(terms)]
    return ["apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec]
  }
}

extension DaemonSetPlan {
  /// One decision in the making.
  fileprivate struct Decision {
    let set: AnyObjectView
    let nodes: [NodeView]
    let hash: String
    let now: Timestamp
    let minReadySeconds: Int64
    /// Living pods by node.
    var byNode: [String: [PodView]] = [:]
    var wanted: [(node: NodeView, run: Bool, stay: Bool)]
    var plan = DaemonSetPlan()

    init(
      _ set: AnyObjectView, _ pods: [PodView], _ nodes: [NodeView], _ hash: String,
      _ now: Timestamp
    ) {
      self.set = set
      self.nodes = nodes
      self.hash = hash
      self.now = now
      minReadySeconds = set.object["spec"]["minReadySeconds"].integer ?? 0
      wanted = nodes.map { node in
        let wants = DaemonSetPlan.wants(set, node)
        return (node, wants.run, wants.stay)
      }
      for pod in pods {
        guard let node = DaemonSetPlan.node(of: pod) else { continue }
        byNode[node, default: []].append(pod)
      }
      // Pods of nodes that are gone are the garbage collector's.
      for (node, pods) in byNode {
        byNode[node] = pods.sorted {
          ($0.creationTime ?? .distantPast, $0.name) < ($1.creationTime ?? .distantPast, $1.name)
        }
      }
    }

    func isNew(_ pod: PodView) -> Bool { pod.labels[RevisionPlan.hashLabel].string == hash }
    func isAvailable(_ pod: PodView) -> Bool {
      pod.isAvailable(minReadySeconds: minReadySeconds, now: now)
    }

    // MARK: A pod on each node

    mutating func place() {
      for (node, run, stay) in wanted {
        let pods = byNode[node.name] ?? []
        if !stay {
          plan.delete += pods.filter { !$0.isBeingDeleted }.map(\.name)
          continue
        }
        var standing: [PodView] = []
        for pod in pods where !pod.isBeingDeleted {
          if pod.isFinished {
            let age = now.since(pod.creationTime ?? now).components.seconds
            guard age >= DaemonSetPlan.leastAge else {
              plan.checkAgainAfter = DaemonSetPlan.leastAge
              continue
            }
            plan.delete.append(pod.name)
            if pod.phase == .failed { plan.failed.append(pod.name) }
          } else {
            standing.append(pod)
          }
        }
        if pods.isEmpty, run { plan.create.append(node.name) }
        // One too many: the older stays, but a surge has two for a while.
        if !surges, standing.count > 1 { plan.delete += standing.dropFirst().map(\.name) }
      }
    }

    // MARK: Rolling update

    private var rolling: Value { self.set.object["spec"]["updateStrategy"]["rollingUpdate"] }
    private var desired: Int64 { Int64(wanted.filter(\.run).count) }
    private var maxSurge: Int64 { rolling["maxSurge"].scaled(to: desired, roundsUp: true) ?? 0 }
    private var surges: Bool { maxSurge > 0 }
    private var maxUnavailable: Int64 {
      let amount = rolling["maxUnavailable"].scaled(to: desired, roundsUp: true) ?? 1
      return amount == 0 && maxSurge == 0 ? 1 : amount
    }

    mutating func roll() {
      if surges { return rollWithSurge() }
      var unavailable: Int64 = 0
      var idle: [String] = []
      var serving: [String] = []
      for (node, run, _) in wanted where run {
        let pods = (byNode[node.name] ?? []).filter { !plan.delete.contains($0.name) }
        let standing = pods.filter { !$0.isBeingDeleted }
        guard let pod = standing.first, isAvailable(pod), pods.count == standing.count else {
          unavailable += 1
          if let pod = standing.first, !isNew(pod) { idle.append(pod.name) }
          continue
        }
        if !isNew(pod) { serving.append(pod.name) }
      }
      plan.delete += idle
      plan.delete += serving.prefix(Int(max(0, maxUnavailable - unavailable)))
    }

    private mutating func rollWithSurge() {
      var surging: Int64 = 0
      var candidates: [String] = []
      for (node, run, _) in wanted where run {
        let pods = (byNode[node.name] ?? []).filter { !$0.isBeingDeleted && !$0.isFinished }
        guard let old = pods.first(where: { !isNew($0) }) else { continue }
        if let new = pods.first(where: isNew) {
          if isAvailable(new) { plan.delete.append(old.name) } else { surging += 1 }
        } else if !isAvailable(old) {
          // It serves nobody: its successor may take its place at once.
          plan.delete.append(old.name)
        } else {
          candidates.append(node.name)
        }
      }
      plan.create += candidates.prefix(Int(max(0, maxSurge - surging)))
    }

    // MARK: Status

    mutating func writeStatus() {
      var counts: [String: Int64] = [:]
      var wait: Int64?
      for (node, run, _) in wanted {
        let pods = (byNode[node.name] ?? []).filter { !$0.isFinished }
        guard run else {
          if !pods.isEmpty { counts["numberMisscheduled", default: 0] += 1 }
          continue
        }
        counts["desiredNumberScheduled", default: 0] += 1
        guard let pod = pods.first else { continue }
        counts["currentNumberScheduled", default: 0] += 1
        if pods.contains(where: { $0.isReady && !$0.isBeingDeleted }) {
          counts["numberReady", default: 0] += 1
          if pods.contains(where: isAvailable) {
            counts["numberAvailable", default: 0] += 1
          } else if let since = pod.condition("Ready")?["lastTransitionTime"].timestamp {
            let left = max(1, minReadySeconds - now.since(since).components.seconds)
            wait = min(wait ?? left, left)
          }
        }
        if pods.contains(where: isNew) { counts["updatedNumberScheduled", default: 0] += 1 }
      }
      let desired = counts["desiredNumberScheduled"] ?? 0
      counts["numberUnavailable"] = desired - (counts["numberAvailable"] ?? 0)
      for name in [
        "currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady",
      ] { plan.status[name] = Value(counts[name] ?? 0) }
      plan.status["observedGeneration"] = Value(set.generation)
      for name in ["updatedNumberScheduled", "numberAvailable", "numberUnavailable"] {
        if let count = counts[name], count > 0 { plan.status[name] = Value(count) }
      }
      for key in ["collisionCount", "conditions"] where !set.object["status"][key].isNull {
        plan.status[key] = set.object["status"][key]
      }
      plan.checkAgainAfter = [plan.checkAgainAfter, wait].compactMap { $0 }.min()
    }
  }
}
