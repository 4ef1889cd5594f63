import KubeAPI

/// What a ReplicaSet's controller does next: the pods to make, adopt and delete, and the status.
///
/// Source: Kubernetes, "ReplicaSet".
public struct ReplicaSetPlan: Sendable, Equatable {
  /// How many pods to make.
  public var create = 0
  /// Pods to delete, in the order in which they can best be spared.
  public var delete: [String] = []
  /// Pods without a controller that the selector matches.
  public var adopt: [String] = []
  /// Its pods that the selector no longer matches: they live on without it.
  public var release: [String] = []
  public var status: Value = [:]
  /// Seconds until time alone makes another pod available; nil if only events can.
  public var checkAgainAfter: Int64?

  /// Pods made or deleted in one step, so that one large ReplicaSet doesn't hold up the others.
  static let mostPerStep = 500

  /// - Parameter pods: those in the namespace that the selector matches or the ReplicaSet controls.
  public static func decide(
    _ set: ReplicaSetView, pods: [PodView], now: Timestamp
  ) -> ReplicaSetPlan {
    var plan = ReplicaSetPlan()
    let selector = set.selector
    let matching = pods.filter { !$0.isFinished && selector.matches($0.labels) }
    let own = matching.filter { $0.controller?.uid == set.uid }
    if !set.isBeingDeleted {
      plan.release =
        pods.filter {
          $0.controller?.uid == set.uid && !$0.isBeingDeleted && !selector.matches($0.labels)
        }.map(\.name)
      plan.adopt = matching.filter { $0.controller == nil && !$0.isBeingDeleted }.map(\.name)
      let active = own.filter { !$0.isBeingDeleted }
      // What is adopted counts once it is ours: until then nothing is made or deleted on its account.
      let difference = plan.adopt.isEmpty ? set.replicas - Int64(active.count) : 0
      if difference > 0 {
        plan.create = Int(min(difference, Int64(mostPerStep)))
      } else if difference < 0 {
        let count = Int(min(-difference, Int64(mostPerStep)))
        plan.delete = active.sorted { spares($0, before: $1) }.prefix(count).map(\.name)
      }
    }
    let active = own.filter { !$0.isBeingDeleted }
    let template = LabelSelector(labels: set.template["metadata"]["labels"])
    let ready = active.filter(\.isReady)
    let available = ready.filter { $0.isAvailable(minReadySeconds: set.minReadySeconds, now: now) }
    plan.status["replicas"] = Value(active.count)
    for (name, count) in [
      ("fullyLabeledReplicas", active.filter { template.matches($0.labels) }.count),
      ("readyReplicas", ready.count), ("availableReplicas", available.count),
    ] where count > 0 {
      plan.status[name] = Value(count)
    }
    plan.status["observedGeneration"] = Value(set.generation)
    plan.checkAgainAfter =
      ready.compactMap { pod -> Int64? in
        guard let since = pod.condition("Ready")?["lastTransitionTime"].timestamp else {
          return nil
        }
        let left = set.minReadySeconds - now.since(since).components.seconds
        return left > 0 ? left : nil
      }.min()
    return plan
  }

  /// Which of two pods is missed less: unbound before bound, pending before running, unready before
  /// ready, the one that became ready later, more restarts, the younger.
  private static func spares(_ left: PodView, before right: PodView) -> Bool {
    func rank(_ pod: PodView) -> (Int, Int, Int) {
      let phase =
        switch pod.phase {
        case .pending: 0
        case .unknown: 1
        default: 2
        }
      return (pod.nodeName.isEmpty ? 0 : 1, phase, pod.isReady ? 1 : 0)
    }
    if rank(left) != rank(right) { return rank(left) < rank(right) }
    let since = [left, right].map { $0.condition("Ready")?["lastTransitionTime"].timestamp }
    if left.isReady, let first = since[0], let second = since[1], first != second {
      return first > second
    }
    func restarts(_ pod: PodView) -> Int64 {
      pod.object["status"]["containerStatuses"].elements.map { $0["restartCount"].integer ?? 0 }
        .max() ?? 0
    }
    if restarts(left) != restarts(right) { return restarts(left) > restarts(right) }
    if left.creationTime != right.creationTime {
      return (left.creationTime ?? .distantPast) > (right.creationTime ?? .distantPast)
    }
    return left.name < right.name
  }
}

extension ReplicaSetPlan {
  /// A pod of the ReplicaSet's template.
  static func pod(of set: ReplicaSetView) -> Value {
    let template = set.template
    var metadata: Value = [
      "generateName": Value("\(set.name)-"), "namespace": Value(set.namespace),
    ]
    for part in ["labels", "annotations", "finalizers"] where !template["metadata"][part].isEmpty {
      metadata[part] = template["metadata"][part]
    }
    metadata["ownerReferences"] = [OwnerReference(controller: set.object).value]
    return [
      "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"],
    ]
  }
}
