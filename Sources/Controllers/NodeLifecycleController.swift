import KubeAPI
import KubeClient
import Synchronization

/// Notices nodes that fell silent, says so in their conditions, and keeps new pods away from them.
///
/// A node lets itself be heard by renewing its Lease. What counts is when *this* process last saw the lease
/// change, so that clocks of nodes needn't agree with ours. Source: Kubernetes, "Nodes", "Heartbeats".
struct NodeLifecycleController: Sendable {
  private let context: ControllerContext
  private let reconciler: Reconciler<ObjectKey>
  private let queue: WorkQueue<ObjectKey>

  init(_ context: ControllerContext) {
    self.context = context
    let queue = WorkQueue<ObjectKey>()
    self.queue = queue
    let heard = Heartbeats()
    let pace = EvictionPace()
    reconciler = Reconciler(name: "node", queue: queue, workers: 2, log: context.log) { key in
      try await Self.reconcile(key, context, heard, pace)
    }
    context.nodes.addHandler { queue.add(ObjectKey($0.object)) }
    context.nodeLeases.addHandler { change in
      if case .deleted = change { return }
      heard.note(AnyObjectView(change.object).name)
    }
  }

  func run() async {
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await reconciler.run() }
      group.addTask {
        while !Task.isCancelled {
          for node in context.nodes.list() { queue.add(ObjectKey(node)) }
          try? await Task.sleep(for: context.monitoring.period)
        }
      }
    }
  }

  private static func reconcile(
    _ key: ObjectKey, _ context: ControllerContext, _ heard: Heartbeats, _ pace: EvictionPace
  ) async throws {
    guard let object = context.nodes.get(key) else { return heard.forget(key.name) }
    let node = NodeView(object)
    let monitoring = context.monitoring
    let patience =
      node.condition("Ready") == nil ? monitoring.startupGracePeriod : monitoring.gracePeriod
    let isSilent = heard.silence(of: key.name) > patience
    let rate = evictionRate(context)
    func decide(_ eviction: NodeHealthPlan.Eviction) -> NodeHealthPlan {
      .decide(node, isSilent: isSilent, eviction: eviction, now: .now)
    }
    var plan = decide(rate == nil ? .never : .now)
    // One after the other: should they come back, those that waited have lost nothing.
    if plan.startsEviction, !pace.takeTurn(rate: rate ?? 0, now: .now) { plan = decide(.later) }
    if let status = plan.status {
      var updated = object
      updated["status"] = status
      try await context.client.update(.nodes, updated, subresource: "status")
      context.events.record(
        object, .normal, reason: "NodeNotReady",
        message: "Node \(key.name) status is now: NodeNotReady")
    }
    if let taints = plan.taints {
      try await context.client.patch(
        .nodes, name: key.name, .merge,
        [
          "metadata": [
            "resourceVersion": plan.status == nil ? object["metadata"]["resourceVersion"] : nil
          ],
          "spec": ["taints": taints],
        ])
    }
    if NodeView(object).condition("Ready")?["status"] == "Unknown" {
      try await markPodsUnready(key.name, context)
    }
  }

  private static func evictionRate(_ context: ControllerContext) -> Double? {
    let nodes = context.nodes.list().map(NodeView.init)
    let ready = nodes.count(where: \.isReady)
    return context.monitoring.evictionRate(ready: ready, notReady: nodes.count - ready)
  }

  /// Pods of a node that isn't heard of serve nobody, as far as anybody knows.
  private static func markPodsUnready(
    _ node: String, _ context: ControllerContext
  ) async throws {
    for pod in context.pods.list(index: ControllerContext.byNode, node).map(PodView.init)
    where pod.isReady {
      do {
        try await context.client.patch(
          .pods, namespace: pod.namespace, name: pod.name, .strategicMerge,
          [
            "metadata": ["uid": Value(pod.uid)],
            "status": [
              "conditions": [
                [
                  "type": "Ready", "status": "False", "lastTransitionTime": Value(Timestamp.now),
                ]
              ]
            ],
          ], subresource: "status")
        context.events.record(
          pod.object, .warning, reason: "NodeNotReady", message: "Node is not ready")
      } catch let error as StatusError where error.code == 404 || error.code == 409 {}
    }
  }
}

/// When each node was last heard of.
private final class Heartbeats: Sendable {
  private let last = Mutex<[String: ContinuousClock.Instant]>([:])

  func note(_ node: String) { last.withLock { $0[node] = .now } }

  /// A node that was never heard of is given the whole time from now on.
  func silence(of node: String) -> Duration {
    last.withLock { last in
      guard let heard = last[node] else {
        last[node] = .now
        return .zero
      }
      return .now - heard
    }
  }

  func forget(_ node: String) { _ = last.withLock { $0.removeValue(forKey: node) } }
}

/// What a node's conditions and taints should be.
struct NodeHealthPlan: Equatable {
  /// The whole status to write; nil if it is right.
  var status: Value?
  /// All taints to write; nil if they are right.
  var taints: Value?
  /// Whether these taints are what makes the node's pods leave.
  var startsEviction = false

  /// Whether the pods of a node in trouble are to leave, once their tolerations end.
  enum Eviction {
    case now
    /// Others have their turn first; who leaves already, goes on.
    case later
    case never
  }

  static let notReadyKey = "node.kubernetes.io/not-ready"
  static let unreachableKey = "node.kubernetes.io/unreachable"
  static let unschedulableKey = "node.kubernetes.io/unschedulable"
  /// Conditions of a node that keep new pods away. Source: Kubernetes, "Taint Nodes by Condition".
  private static let pressures = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
  ]

  /// - Parameters:
  ///   - isSilent: whether it hasn't been heard of for too long.
  static func decide(
    _ node: NodeView, isSilent: Bool, eviction: Eviction = .now, now: Timestamp
  ) -> NodeHealthPlan {
    var plan = NodeHealthPlan()
    // A node that has just come is not ready, rather than lost.
    var ready = node.condition("Ready")?["status"].string ?? "False"
    if isSilent, ready != "Unknown" {
      var object = node.object
      for type in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let known = node.condition(type)
        let heartbeat = known?["lastHeartbeatTime"] ?? nil
        object.setCondition(
          type, status: "Unknown",
          reason: known == nil ? "NodeStatusNeverUpdated" : "NodeStatusUnknown",
          message: known == nil
            ? "Kubelet never posted node status." : "Kubelet stopped posting node status.",
          now: now,
          extra: heartbeat.isNull ? nil : ["lastHeartbeatTime": heartbeat])
      }
      plan.status = object["status"]
      ready = "Unknown"
    }
    let key: String? =
      switch ready {
      case "True": nil
      case "False": notReadyKey
      default: unreachableKey
      }
    var due: [(key: String, effect: String)] = []
    if let key {
      due.append((key, "NoSchedule"))
      let isLeft = node.taints.contains {
        [notReadyKey, unreachableKey].contains($0["key"].string) && $0["effect"] == "NoExecute"
      }
      plan.startsEviction = eviction == .now && !isLeft
      if eviction == .now || eviction == .later && isLeft { due.append((key, "NoExecute")) }
    }
    for (condition, key) in Self.pressures where node.condition(condition)?["status"] == "True" {
      due.append((key, "NoSchedule"))
    }
    if node.isUnschedulable { due.append((unschedulableKey, "NoSchedule")) }
    let own = [notReadyKey, unreachableKey, unschedulableKey] + Self.pressures.map(\.1)
    var wanted = node.taints.filter { !own.contains($0["key"].string ?? "") }
    for taint in due {
      wanted.append(
        node.taints.first {
          $0["key"].string == taint.key && $0["effect"].string == taint.effect
        }
          ?? ["key": Value(taint.key), "effect": Value(taint.effect), "timeAdded": Value(now)])
    }
    if wanted != node.taints { plan.taints = .array(wanted) }
    return plan
  }
}
