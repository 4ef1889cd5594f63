import KubeAPI
import KubeClient

/// Carries out `StatefulSetPlan`s.
struct StatefulSetController: Sendable {
  private let reconciler: Reconciler<ObjectKey>

  init(_ context: ControllerContext) {
    let queue = WorkQueue<ObjectKey>()
    let expectations = Expectations()
    reconciler = Reconciler(name: "statefulset", queue: queue, workers: 4, log: context.log) {
      try await Self.reconcile($0, context, queue, expectations)
    }
    context.statefulSets.addHandler { queue.add(ObjectKey($0.object)) }
    context.follow(
      context.pods, for: context.statefulSets, selector: DaemonSetController.selector
    ) { queue.add($0) }
    context.follow(context.revisions, for: context.statefulSets) { queue.add($0) }
  }

  func run() async { await reconciler.run() }

  private static func reconcile(
    _ key: ObjectKey, _ context: ControllerContext, _ queue: WorkQueue<ObjectKey>,
    _ expectations: Expectations
  ) async throws {
    guard let object = context.statefulSets.get(key) else { return expectations.forget(key) }
    let set = AnyObjectView(object)
    if try await PodAdoption.adopt(
      into: object, .statefulSets, selector: DaemonSetController.selector(of: object), context)
    {
      return
    }
    let pods = context.pods.list(index: ControllerContext.byController, set.uid).map(PodView.init)
    let revisions = context.revisions.list(index: ControllerContext.byController, set.uid)
    let current = object["status"]["currentRevision"].string ?? ""
    let history = RevisionPlan.decide(
      set, revisions: revisions,
      used: Set(
        pods.compactMap { $0.labels[RevisionPlan.hashLabel].string }.map { "\(set.name)-\($0)" }
          + [current]))
    if !set.isBeingDeleted, try await !history.carryOut(set, context) {
      return try await noteCollision(object, context)
    }
    let plan = StatefulSetPlan.decide(set, pods: pods, update: history.currentName, now: .now)
    if PodCreation.isSettled(key, context, expectations) {
      for name in plan.recreate {
        context.events.record(
          object, .warning, reason: "RecreatingFailedPod",
          message: "StatefulSet \(key) is recreating failed Pod \(name)")
      }
      try await delete(plan.delete, object, key, context, expectations)
      for creation in plan.create {
        let old = revisions.first { AnyObjectView($0).name == current }
        let isNew = creation.isNew || old == nil
        let pod = StatefulSetPlan.pod(
          of: set, creation.ordinal,
          template: isNew ? object["spec"]["template"] : RevisionPlan.template(in: old!),
          hash: RevisionPlan.hash(of: isNew ? history.currentName : current, owner: set.name))
        try await create(pod, object, key, context, expectations)
      }
    } else {
      queue.add(key, after: Expectations.patience)
    }
    if plan.status != object["status"] {
      var updated = object
      updated["status"] = plan.status
      try await context.client.update(.statefulSets, updated, subresource: "status")
    }
    try await history.cleanUp(namespace: key.namespace, context)
    if let seconds = plan.checkAgainAfter { queue.add(key, after: .seconds(seconds)) }
  }

  private static func create(
    _ pod: Value, _ object: Value, _ key: ObjectKey, _ context: ControllerContext,
    _ expectations: Expectations
  ) async throws {
    let name = AnyObjectView(pod).name
    if !object["spec"]["volumeClaimTemplates"].isEmpty {
      context.events.record(
        object, .warning, reason: "FailedCreate",
        message: "create Claim for Pod \(name) in StatefulSet \(key.name) failed: this cluster "
          + "serves no persistent volume claims")
    }
    do {
      try await context.client.create(.pods, namespace: key.namespace, pod)
      expectations.expect(key, made: [name])
      context.events.record(
        object, .normal, reason: "SuccessfulCreate",
        message: "create Pod \(name) in StatefulSet \(key.name) successful")
    } catch let error as StatusError where error.reason == .alreadyExists || error.isTerminating {
      return
    } catch {
      context.events.record(
        object, .warning, reason: "FailedCreate",
        message: "create Pod \(name) in StatefulSet \(key.name) failed error: \(error)")
      throw error
    }
  }

  private static func delete(
    _ names: [String], _ object: Value, _ key: ObjectKey, _ context: ControllerContext,
    _ expectations: Expectations
  ) async throws {
    for name in names {
      do {
        try await context.client.delete(.pods, namespace: key.namespace, name: name)
        expectations.expect(key, deleted: [name])
        context.events.record(
          object, .normal, reason: "SuccessfulDelete",
          message: "delete Pod \(name) in StatefulSet \(key.name) successful")
      } catch let error as StatusError where error.code == 404 {}
    }
  }

  private static func noteCollision(
    _ object: Value, _ context: ControllerContext
  ) async throws {
    var updated = object
    updated["status"]["collisionCount"] = Value(
      (object["status"]["collisionCount"].integer ?? 0) + 1)
    try await context.client.update(.statefulSets, updated, subresource: "status")
  }
}
