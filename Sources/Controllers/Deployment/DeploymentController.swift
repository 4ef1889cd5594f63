import KubeAPI
import KubeClient

/// Carries out `DeploymentPlan`s.
struct DeploymentController: Sendable {
  private let context: ControllerContext
  private let reconciler: Reconciler<ObjectKey>

  init(_ context: ControllerContext) {
    self.context = context
    let queue = WorkQueue<ObjectKey>()
    reconciler = Reconciler(name: "deployment", queue: queue, workers: 4, log: context.log) { key in
      try await Self.reconcile(key, context, queue)
    }
    context.deployments.addHandler { queue.add(ObjectKey($0.object)) }
    context.follow(
      context.replicaSets, for: context.deployments, selector: { DeploymentView($0).selector }
    ) { queue.add($0) }
    // Recreate waits for the last old pod to be gone, of which no ReplicaSet's status tells.
    context.pods.addHandler { change in
      guard case .deleted(let pod) = change, let owner = AnyObjectView(pod).controller,
        owner.kind == "ReplicaSet",
        let set = context.replicaSets.get(
          namespace: AnyObjectView(pod).namespace, name: owner.name),
        let deployment = AnyObjectView(set).controller
      else { return }
      queue.add(ObjectKey(namespace: AnyObjectView(pod).namespace, name: deployment.name))
    }
  }

  func run() async { await reconciler.run() }

  private static func reconcile(
    _ key: ObjectKey, _ context: ControllerContext, _ queue: WorkQueue<ObjectKey>
  ) async throws {
    guard let object = context.deployments.get(key) else { return }
    let deployment = DeploymentView(object)
    if try await adoptOrphans(deployment, context) { return }  // Their change calls again.
    let sets = context.replicaSets.list(
      index: ControllerContext.byController, deployment.uid
    ).map(ReplicaSetView.init)
    let runningOldPods =
      deployment.isRecreate
      && Rollout(deployment, sets).old.contains { set in
        context.pods.list(index: ControllerContext.byController, set.uid)
          .contains { !PodView($0).isFinished }
      }
    let plan = DeploymentPlan.decide(
      deployment, replicaSets: sets, runningOldPods: runningOldPods, now: .now)
    var isCollision = false
    // Every write names the version that it was decided on: what has changed since is decided again.
    var versions = Dictionary(
      sets.map { ($0.name, $0.resourceVersion) }, uniquingKeysWith: { first, _ in first })
    for step in plan.steps {
      if try await !carryOut(step, deployment, sets, &versions, context) { isCollision = true }
    }
    var current = object
    if let revision = plan.revision {
      current = try await context.client.patch(
        .deployments, namespace: key.namespace, name: key.name, .merge,
        ["metadata": ["annotations": [DeploymentPlan.revisionKey: Value(revision)]]])
    }
    var status = plan.status
    if isCollision {
      let count = deployment.object["status"]["collisionCount"].integer ?? 0
      status["collisionCount"] = Value(count + 1)
    }
    if status != object["status"] {
      current["status"] = status
      try await context.client.update(.deployments, current, subresource: "status")
    }
    if let seconds = plan.checkAgainAfter { queue.add(key, after: .seconds(seconds)) }
  }

  /// Takes over ReplicaSets that the selector matches and nobody controls.
  ///
  /// - Returns: whether there were any.
  private static func adoptOrphans(
    _ deployment: DeploymentView, _ context: ControllerContext
  ) async throws -> Bool {
    guard !deployment.isBeingDeleted else { return false }
    let orphans = context.replicaSets.list(
      index: ControllerContext.byNamespace, deployment.namespace
    ).map(ReplicaSetView.init).filter {
      $0.controller == nil && !$0.isBeingDeleted && deployment.selector.matches($0.labels)
    }
    guard !orphans.isEmpty,
      try await Adoption.isPossible(by: deployment.object, .deployments, context)
    else { return false }
    for orphan in orphans {
      try await Adoption.adopt(orphan.object, .replicaSets, by: deployment.object, context)
    }
    return true
  }

  /// - Returns: false if the new ReplicaSet's name is taken by a stranger, so that another must be made up.
  private static func carryOut(
    _ step: DeploymentPlan.Step, _ deployment: DeploymentView, _ sets: [ReplicaSetView],
    _ versions: inout [String: String], _ context: ControllerContext
  ) async throws -> Bool {
    let namespace = deployment.namespace
    switch step {
    case .create(let set):
      do {
        try await context.client.create(.replicaSets, namespace: namespace, set)
      } catch let error as StatusError where error.reason == .alreadyExists {
        let name = AnyObjectView(set).name
        let existing = try await context.client.get(.replicaSets, namespace: namespace, name: name)
        // Ours, and the cache is behind: the next event tells.
        return AnyObjectView(existing).controller?.uid == deployment.uid
      }
      let count = set["spec"]["replicas"].integer ?? 0
      if count > 0 { note(deployment, "up", AnyObjectView(set).name, from: 0, to: count, context) }
    case .scale(let name, let replicas, let desired, let maximum):
      let before = sets.first { $0.name == name }?.replicas ?? 0
      let scaled = try await context.client.patch(
        .replicaSets, namespace: namespace, name: name, .merge,
        [
          "metadata": [
            "resourceVersion": Value(versions[name]),
            "annotations": [
              DeploymentPlan.desiredKey: Value("\(desired)"),
              DeploymentPlan.maximumKey: Value("\(maximum)"),
            ],
          ],
          "spec": ["replicas": Value(replicas)],
        ])
      versions[name] = AnyObjectView(scaled).resourceVersion
      if before != replicas {
        note(
          deployment, before < replicas ? "up" : "down", name, from: before, to: replicas, context)
      }
    case .align(let name, let annotations, let minReadySeconds):
      var patch: Value = ["metadata": ["resourceVersion": Value(versions[name])]]
      if !annotations.isEmpty { patch["metadata"]["annotations"] = annotations }
      if let minReadySeconds { patch["spec"]["minReadySeconds"] = Value(minReadySeconds) }
      let aligned = try await context.client.patch(
        .replicaSets, namespace: namespace, name: name, .merge, patch)
      versions[name] = AnyObjectView(aligned).resourceVersion
    case .delete(let name, let uid):
      do {
        try await context.client.delete(
          .replicaSets, namespace: namespace, name: name, uid: uid, propagation: "Background")
      } catch let error as StatusError where error.code == 404 {}
    }
    return true
  }

  private static func note(
    _ deployment: DeploymentView, _ direction: String, _ set: String, from: Int64, to: Int64,
    _ context: ControllerContext
  ) {
    context.events.record(
      deployment.object, .normal, reason: "ScalingReplicaSet",
      message: "Scaled \(direction) replica set \(set) from \(from) to \(to)")
  }
}
