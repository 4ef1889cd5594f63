import KubeAPI
import KubeClient

/// Carries out `ReplicaSetPlan`s.
///
/// A ReplicaSet of thousands of pods that all change at once would be looked at thousands of times, each time at
/// all of them. So what its pods tell is gathered: for some time after each look, and for the longer the more there
/// was to look at (`Pace`).
struct ReplicaSetController: Sendable {
  private let reconciler: Reconciler<ObjectKey>

  init(_ context: ControllerContext) {
    let queue = WorkQueue<ObjectKey>()
    let expectations = Expectations()
    let pace = Pace()
    reconciler = Reconciler(name: "replicaset", queue: queue, workers: 8, log: context.log) { key in
      try await Self.reconcile(key, context, queue, expectations, pace)
    }
    context.replicaSets.addHandler { queue.add(ObjectKey($0.object)) }
    context.follow(
      context.pods, for: context.replicaSets, selector: { ReplicaSetView($0).selector }
    ) { queue.add($0, after: pace.pause(of: $0)) }
  }

  func run() async { await reconciler.run() }

  private static func reconcile(
    _ key: ObjectKey, _ context: ControllerContext, _ queue: WorkQueue<ObjectKey>,
    _ expectations: Expectations, _ pace: Pace
  ) async throws {
    guard let object = context.replicaSets.get(key) else {
      pace.forget(key)
      return expectations.forget(key)
    }
    let set = ReplicaSetView(object)
    var plan = pace.measure(key) {
      let orphans = context.pods.list(index: ControllerContext.byOrphanage, key.namespace)
      let own = context.pods.unordered(index: ControllerContext.byController, set.uid)
      return ReplicaSetPlan.decide(set, pods: (own + orphans).map(PodView.init), now: .now)
    }
    let mayAct = PodCreation.isSettled(key, context, expectations)
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
        let pod = ReplicaSetPlan.pod(of: set)
        try await PodCreation.create(
          Array(repeating: pod, count: plan.create), of: object, key, context, expectations)
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
      try await PodCreation.delete(plan.delete, of: object, key, context, expectations)
    }
    if plan.status != object["status"] {
      var updated = object
      updated["status"] = plan.status
      try await context.client.update(.replicaSets, updated, subresource: "status")
    }
    if let seconds = plan.checkAgainAfter { queue.add(key, after: .seconds(seconds)) }
    if let failure { throw failure }
  }
}
