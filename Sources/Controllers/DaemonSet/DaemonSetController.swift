import KubeAPI
import KubeClient

/// Carries out `DaemonSetPlan`s.
struct DaemonSetController: Sendable {
  private let reconciler: Reconciler<ObjectKey>

  init(_ context: ControllerContext) {
    let queue = WorkQueue<ObjectKey>()
    let expectations = Expectations()
    reconciler = Reconciler(name: "daemonset", queue: queue, workers: 2, log: context.log) { key in
      try await Self.reconcile(key, context, queue, expectations)
    }
    context.daemonSets.addHandler { queue.add(ObjectKey($0.object)) }
    context.follow(context.pods, for: context.daemonSets, selector: Self.selector) { queue.add($0) }
    context.follow(context.revisions, for: context.daemonSets) { queue.add($0) }
    context.nodes.addHandler { change in
      if case .updated(let old, let new) = change, !Self.isRelevant(old, new) { return }
      for set in context.daemonSets.list() { queue.add(ObjectKey(set)) }
    }
  }

  func run() async { await reconciler.run() }

  @Sendable static func selector(of set: Value) -> LabelSelector {
    (try? LabelSelector(object: set["spec"]["selector"])) ?? .nothing
  }

  /// Whether a node may have become one that wants a pod, or ceased to be one.
  private static func isRelevant(_ old: Value, _ new: Value) -> Bool {
    let (before, after) = (NodeView(old), NodeView(new))
    return before.labels != after.labels || before.taints != after.taints
      || before.isUnschedulable != after.isUnschedulable
  }

  private static func reconcile(
    _ key: ObjectKey, _ context: ControllerContext, _ queue: WorkQueue<ObjectKey>,
    _ expectations: Expectations
  ) async throws {
    guard let object = context.daemonSets.get(key) else { return expectations.forget(key) }
    let set = AnyObjectView(object)
    if try await PodAdoption.adopt(
      into: object, .daemonSets, selector: selector(of: object), context)
    {
      return
    }
    let pods = context.pods.list(index: ControllerContext.byController, set.uid).map(PodView.init)
    let history = RevisionPlan.decide(
      set, revisions: context.revisions.list(index: ControllerContext.byController, set.uid),
      used: Set(
        pods.compactMap { $0.labels[RevisionPlan.hashLabel].string }.map { "\(set.name)-\($0)" }))
    if !set.isBeingDeleted, try await !history.carryOut(set, context) {
      return try await noteCollision(object, context)
    }
    let hash = RevisionPlan.hash(of: history.currentName, owner: set.name)
    let plan = DaemonSetPlan.decide(
      set, pods: pods, nodes: context.nodes.list().map(NodeView.init), hash: hash, now: .now)
    if PodCreation.isSettled(key, context, expectations) {
      for name in plan.failed {
        context.events.record(
          object, .warning, reason: "FailedDaemonPod",
          message: "Found failed daemon pod \(key.namespace)/\(name), will try to kill it")
      }
      try await PodCreation.delete(plan.delete, of: object, key, context, expectations)
      try await PodCreation.create(
        plan.create.map { DaemonSetPlan.pod(of: set, node: $0, hash: hash) }, of: object, key,
        context, expectations)
    } else {
      queue.add(key, after: Expectations.patience)
    }
    if plan.status != object["status"] {
      var updated = object
      updated["status"] = plan.status
      try await context.client.update(.daemonSets, updated, subresource: "status")
    }
    try await history.cleanUp(namespace: key.namespace, context)
    if let seconds = plan.checkAgainAfter { queue.add(key, after: .seconds(seconds)) }
  }

  /// The name of a new revision is taken: another is made up the next time.
  private static func noteCollision(
    _ object: Value, _ context: ControllerContext
  ) async throws {
    var updated = object
    updated["status"]["collisionCount"] = Value(
      (object["status"]["collisionCount"].integer ?? 0) + 1)
    try await context.client.update(.daemonSets, updated, subresource: "status")
  }
}

/// Taking over pods without a controller.
enum PodAdoption {
  /// Adopts orphans that the selector matches and releases own pods that it no longer does.
  ///
  /// - Returns: whether there were any; their change calls again.
  static func adopt(
    into object: Value, _ type: ResourceType, selector: LabelSelector,
    _ context: ControllerContext
  ) async throws -> Bool {
    let owner = AnyObjectView(object)
    guard !owner.isBeingDeleted else { return false }
    let strangers = context.pods.list(index: ControllerContext.byController, owner.uid).filter {
      !selector.matches(AnyObjectView($0).labels) && !AnyObjectView($0).isBeingDeleted
    }
    for pod in strangers { try await Adoption.release(pod, .pods, from: owner.uid, context) }
    let orphans = context.pods.list(index: ControllerContext.byNamespace, owner.namespace)
      .map(PodView.init).filter {
        $0.controller == nil && !$0.isBeingDeleted && !$0.isFinished
          && selector.matches($0.labels)
      }
    guard !orphans.isEmpty, try await Adoption.isPossible(by: object, type, context) else {
      return !strangers.isEmpty
    }
    for orphan in orphans { try await Adoption.adopt(orphan.object, .pods, by: object, context) }
    return true
  }
}
