import KubeAPI
import KubeClient

/// Deletes pods from nodes whose NoExecute taints they don't bear, or don't bear any longer.
/// Source: Kubernetes, "Taints and Tolerations", "Taint based Evictions".
struct TaintEvictionController: Sendable {
  private let reconciler: Reconciler<ObjectKey>

  init(_ context: ControllerContext) {
    let queue = WorkQueue<ObjectKey>()
    reconciler = Reconciler(name: "taint-eviction", queue: queue, workers: 8, log: context.log) {
      try await Self.reconcile($0, context, queue)
    }
    context.pods.addHandler { change in
      if case .deleted = change { return }
      let pod = PodView(change.object)
      guard !pod.nodeName.isEmpty, !pod.isFinished, !pod.isBeingDeleted,
        let node = context.nodes.get(name: pod.nodeName), Self.evicts(node)
      else { return }
      queue.add(ObjectKey(pod.object))
    }
    context.nodes.addHandler { change in
      let isRelevant =
        switch change {
        case .updated(let old, let new): NodeView(old).taints != NodeView(new).taints
        case .added(let node): Self.evicts(node)
        case .deleted: false
        }
      guard isRelevant else { return }
      let name = AnyObjectView(change.object).name
      for pod in context.pods.list(index: ControllerContext.byNode, name) {
        queue.add(ObjectKey(pod))
      }
    }
  }

  func run() async { await reconciler.run() }

  private static func evicts(_ node: Value) -> Bool {
    NodeView(node).taints.contains { $0["effect"] == "NoExecute" }
  }

  /// When a pod has to leave its node.
  enum Verdict: Equatable {
    case stays
    case leaves(inSeconds: Int64)
  }

  /// Whether a pod may stay on a node with these taints, and how long.
  static func verdict(_ pod: PodView, taints: [Value], now: Timestamp) -> Verdict {
    var verdict = Verdict.stays
    for taint in taints where taint["effect"] == "NoExecute" {
      let bearing = pod.tolerations.filter { Taint.isTolerated(taint, by: $0) }
      if bearing.isEmpty { return .leaves(inSeconds: 0) }
      // Of several tolerations the shortest counts; one without a time bears it for ever.
      guard let seconds = bearing.compactMap({ $0["tolerationSeconds"].integer }).min() else {
        continue
      }
      let since = taint["timeAdded"].timestamp ?? now
      let left = max(0, max(0, seconds) - now.since(since).components.seconds)
      if case .leaves(let known) = verdict, known <= left { continue }
      verdict = .leaves(inSeconds: left)
    }
    return verdict
  }

  private static func reconcile(
    _ key: ObjectKey, _ context: ControllerContext, _ queue: WorkQueue<ObjectKey>
  ) async throws {
    guard let object = context.pods.get(key) else { return }
    let pod = PodView(object)
    guard !pod.isFinished, !pod.isBeingDeleted,
      let node = context.nodes.get(name: pod.nodeName).map(NodeView.init),
      case .leaves(let seconds) = verdict(pod, taints: node.taints, now: .now)
    else { return }
    if seconds > 0 { return queue.add(key, after: .seconds(seconds)) }
    context.events.record(
      object, .normal, reason: "TaintManagerEviction", message: "Marking for deletion Pod \(key)")
    do {
      try await context.client.patch(
        .pods, namespace: key.namespace, name: key.name, .strategicMerge,
        [
          "metadata": ["uid": Value(pod.uid)],
          "status": [
            "conditions": [
              [
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
                "message": "Taint manager: deleting due to NoExecute taint",
                "lastTransitionTime": Value(Timestamp.now),
              ]
            ]
          ],
        ], subresource: "status")
      try await context.client.delete(
        .pods, namespace: key.namespace, name: key.name, uid: pod.uid)
    } catch let error as StatusError where error.code == 404 {}
  }
}
