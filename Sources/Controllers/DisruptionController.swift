import KubeAPI
import KubeClient

/// Counts how many pods of each disruption budget may go: what evictions spend.
/// Source: Kubernetes, "Specifying a Disruption Budget for your Application".
struct DisruptionController: Sendable {
  private let reconciler: Reconciler<ObjectKey>

  init(_ context: ControllerContext) {
    let queue = WorkQueue<ObjectKey>()
    reconciler = Reconciler(name: "disruption", queue: queue, workers: 2, log: context.log) {
      try await Self.reconcile($0, context, queue)
    }
    context.budgets.addHandler { queue.add(ObjectKey($0.object)) }
    context.pods.addHandler { change in
      var pods = [AnyObjectView(change.object)]
      if case .updated(let old, let new) = change {
        let (before, after) = (PodView(old), PodView(new))
        guard
          before.isReady != after.isReady || before.labels != after.labels
            || before.isBeingDeleted != after.isBeingDeleted
            || before.isFinished != after.isFinished
        else { return }
        pods.append(AnyObjectView(old))
      }
      for budget in context.budgets.list(index: ControllerContext.byNamespace, pods[0].namespace)
      where pods.contains(where: { DisruptionPlan.selector(budget).matches($0.labels) }) {
        queue.add(ObjectKey(budget))
      }
    }
    // A budget in per cent follows the size of the workload.
    for informer in [context.deployments, context.replicaSets, context.statefulSets] {
      informer.addHandler { change in
        if case .updated(let old, let new) = change,
          old["spec"]["replicas"] == new["spec"]["replicas"]
        {
          return
        }
        let namespace = AnyObjectView(change.object).namespace
        for budget in context.budgets.list(index: ControllerContext.byNamespace, namespace) {
          queue.add(ObjectKey(budget))
        }
      }
    }
  }

  func run() async { await reconciler.run() }

  private static func reconcile(
    _ key: ObjectKey, _ context: ControllerContext, _ queue: WorkQueue<ObjectKey>
  ) async throws {
    guard let object = context.budgets.get(key), !AnyObjectView(object).isBeingDeleted else {
      return
    }
    let pods = context.pods.list(index: ControllerContext.byNamespace, key.namespace)
    let plan = DisruptionPlan.decide(
      AnyObjectView(object), pods: pods.map(PodView.init), now: .now
    ) { replicas(of: $0, key.namespace, context) }
    if plan.status != object["status"] {
      var updated = object
      updated["status"] = plan.status
      try await context.client.update(.disruptionBudgets, updated, subresource: "status")
    }
    if let seconds = plan.checkAgainAfter { queue.add(key, after: .seconds(seconds)) }
  }

  /// How many pods the workload behind a pod's controller wants, and its uid; nil for one without a number.
  private static func replicas(
    of owner: OwnerReference, _ namespace: String, _ context: ControllerContext
  ) -> (uid: String, replicas: Int64)? {
    func found(_ informer: Informer, _ owner: OwnerReference) -> Value? {
      informer.get(namespace: namespace, name: owner.name).flatMap {
        AnyObjectView($0).uid == owner.uid ? $0 : nil
      }
    }
    switch owner.kind {
    case "ReplicaSet":
      guard let set = found(context.replicaSets, owner) else { return nil }
      if let deployment = AnyObjectView(set).controller, deployment.kind == "Deployment",
        let object = found(context.deployments, deployment)
      {
        return (deployment.uid, DeploymentView(object).replicas)
      }
      return (owner.uid, ReplicaSetView(set).replicas)
    case "StatefulSet":
      return found(context.statefulSets, owner).map {
        (owner.uid, $0["spec"]["replicas"].integer ?? 1)
      }
    default: return nil
    }
  }
}

/// A disruption budget's status.
struct DisruptionPlan: Equatable {
  var status: Value
  var checkAgainAfter: Int64?

  /// How long a pod whose eviction was granted may take to be deleted before it counts again.
  static let patience: Int64 = 120

  static func selector(_ budget: Value) -> LabelSelector {
    // An absent selector matches nothing, an empty one everything.
    guard !budget["spec"]["selector"].isNull else { return .nothing }
    return (try? LabelSelector(object: budget["spec"]["selector"])) ?? .nothing
  }

  /// - Parameter replicas: the size of the workload behind a controller.
  static func decide(
    _ budget: AnyObjectView, pods: [PodView], now: Timestamp,
    replicas: (OwnerReference) -> (uid: String, replicas: Int64)?
  ) -> DisruptionPlan {
    let selector = selector(budget.object)
    let matching = pods.filter { selector.matches($0.labels) && !$0.isFinished }
    var plan = DisruptionPlan(status: [:])
    // What was granted and not yet seen to be done.
    var granted: Value = [:]
    for member in budget.object["status"]["disruptedPods"].members {
      guard let time = member.value.timestamp,
        let pod = matching.first(where: { $0.name == member.key }), !pod.isBeingDeleted
      else { continue }
      let left = patience - now.since(time).components.seconds
      if left > 0 {
        granted[member.key] = member.value
        plan.checkAgainAfter = min(plan.checkAgainAfter ?? left, left)
      }
    }
    let healthy = Int64(
      matching.filter { $0.isReady && !$0.isBeingDeleted && granted[$0.name].isNull }.count)
    let spec = budget.object["spec"]
    var expected = Int64(matching.count)
    let desired: Int64
    if !spec["maxUnavailable"].isNull || spec["minAvailable"].string != nil {
      var sizes: [String: Int64] = [:]
      for pod in matching {
        guard let owner = pod.controller, let size = replicas(owner) else { continue }
        sizes[size.uid] = size.replicas
      }
      if !sizes.isEmpty { expected = sizes.values.reduce(0, +) }
    }
    if !spec["maxUnavailable"].isNull {
      let amount = spec["maxUnavailable"].scaled(to: expected, roundsUp: true) ?? 0
      desired = max(0, expected - amount)
    } else {
      desired = spec["minAvailable"].scaled(to: expected, roundsUp: true) ?? 1
    }
    let allowed = expected > 0 ? max(0, healthy - desired) : 0
    var object: Value = ["status": [:]]
    object["status"]["conditions"] = budget.object["status"]["conditions"]
    object.setCondition(
      "DisruptionAllowed", status: allowed > 0 ? "True" : "False",
      reason: allowed > 0 ? "SufficientPods" : "InsufficientPods", message: "", now: now,
      extra: ["observedGeneration": Value(budget.generation)])
    let index = object["status"]["conditions"].elements.count - 1
    for position in 0...index
    where object["status"]["conditions"][position]["type"] == "DisruptionAllowed" {
      object["status"]["conditions"][position].set("message", to: "")
    }
    plan.status = object["status"]
    if !granted.isEmpty { plan.status["disruptedPods"] = granted }
    for (name, count) in [
      ("currentHealthy", healthy), ("desiredHealthy", desired), ("disruptionsAllowed", allowed),
      ("expectedPods", expected), ("observedGeneration", budget.generation),
    ] { plan.status[name] = Value(count) }
    return plan
  }
}
