import KubeAPI
import KubeClient

/// Carries out `ReplicaSetPlan`s.
struct ReplicaSetController: Sendable {
  private let reconciler: Reconciler<ObjectKey>

  enum Limits {
    /// Pods that one ReplicaSet makes at a time, each on a connection of its own.
    static let concurrentCreations = 16
  }

  init(_ context: ControllerContext) {
    let queue = WorkQueue<ObjectKey>()
    let expectations = Expectations()
    reconciler = Reconciler(name: "replicaset", queue: queue, workers: 8, log: context.log) { key in
      try await Self.reconcile(key, context, queue, expectations)
    }
    context.replicaSets.addHandler { queue.add(ObjectKey($0.object)) }
    context.pods.addHandler { change in
      let pod = PodView(change.object)
      if let owner = pod.controller {
        if owner.kind == "ReplicaSet" {
          queue.add(ObjectKey(namespace: pod.namespace, name: owner.name))
        }
      } else {
        // An orphan may have found its parent.
        for set in context.replicaSets.list(index: ControllerContext.byNamespace, pod.namespace)
        where ReplicaSetView(set).selector.matches(pod.labels) {
          queue.add(ObjectKey(set))
        }
      }
    }
  }

  func run() async { await reconciler.run() }

  private static func reconcile(
    _ key: ObjectKey, _ context: ControllerContext, _ queue: WorkQueue<ObjectKey>,
    _ expectations: Expectations
  ) async throws {
    guard let object = context.replicaSets.get(key) else { return expectations.forget(key) }
    let set = ReplicaSetView(object)
    let orphans = context.pods.list(index: ControllerContext.byNamespace, key.namespace)
      .filter { AnyObjectView($0).controller == nil }
    let own = context.pods.list(index: ControllerContext.byController, set.uid)
    var plan = ReplicaSetPlan.decide(set, pods: (own + orphans).map(PodView.init), now: .now)
    let mayAct = expectations.areMet(key) { name in
      guard let pod = context.pods.get(namespace: key.namespace, name: name) else { return .absent }
      return PodView(pod).isBeingDeleted ? .ending : .alive
    }
    if !mayAct { queue.add(key, after: Expectations.patience) }
    var failure: (any Error)?
    if mayAct {
      for name in plan.release {
        guard let pod = context.pods.get(namespace: key.namespace, name: name) else { continue }
        try await Adoption.release(pod, .pods, from: set.uid, context)
      }
      if !plan.adopt.isEmpty, try await Adoption.isPossible(by: object, .replicaSets, context) {
        for name in plan.adopt {
          guard let pod = context.pods.get(namespace: key.namespace, name: name) else { continue }
          try await Adoption.adopt(pod, .pods, by: object, context)
        }
      }
      do {
        try await create(plan.create, of: set, key, context, expectations)
      } catch {
        failure = error
        // One that is there stays as it is: a status that changed each time would call us at once.
        let known = set.condition("ReplicaFailure")
        plan.status["conditions"] = [
          known ?? [
            "type": "ReplicaFailure", "status": "True", "lastTransitionTime": Value(Timestamp.now),
            "reason": "FailedCreate", "message": Value("\(error)"),
          ]
        ]
      }
      try await delete(plan.delete, of: set, key, context, expectations)
    }
    if plan.status != object["status"] {
      var updated = object
      updated["status"] = plan.status
      try await context.client.update(.replicaSets, updated, subresource: "status")
    }
    if let seconds = plan.checkAgainAfter { queue.add(key, after: .seconds(seconds)) }
    if let failure { throw failure }
  }

  private static func create(
    _ count: Int, of set: ReplicaSetView, _ key: ObjectKey, _ context: ControllerContext,
    _ expectations: Expectations
  ) async throws {
    let pod = ReplicaSetPlan.pod(of: set)
    // Batches that double: a template that is refused is refused once, not five hundred times.
    var left = count
    var batch = 1
    while left > 0 {
      let size = min(batch, left)
      try await withThrowingTaskGroup(of: String.self) { group in
        for _ in 0..<size {
          group.addTask {
            let made = try await context.client.create(.pods, namespace: key.namespace, pod)
            return AnyObjectView(made).name
          }
        }
        // What was asked for along with a failure may have been made: all answers are waited for.
        var failure: (any Error)?
        while let result = await group.nextResult() {
          switch result {
          case .success(let name):
            expectations.expect(key, made: [name])
            context.events.record(
              set.object, .normal, reason: "SuccessfulCreate", message: "Created pod: \(name)")
          case .failure(let error):
            context.events.record(
              set.object, .warning, reason: "FailedCreate", message: "Error creating: \(error)")
            failure = error
          }
        }
        if let failure { throw failure }
      }
      left -= size
      batch = min(2 * batch, Limits.concurrentCreations)
    }
  }

  private static func delete(
    _ names: [String], of set: ReplicaSetView, _ key: ObjectKey, _ context: ControllerContext,
    _ expectations: Expectations
  ) async throws {
    for name in names {
      do {
        try await context.client.delete(.pods, namespace: key.namespace, name: name)
        expectations.expect(key, deleted: [name])
        context.events.record(
          set.object, .normal, reason: "SuccessfulDelete", message: "Deleted pod: \(name)")
      } catch let error as StatusError where error.code == 404 {}
    }
  }
}
