import KubeAPI
import KubeClient

/// Carries out `JobPlan`s.
struct JobController: Sendable {
  private let reconciler: Reconciler<ObjectKey>

  init(_ context: ControllerContext) {
    let queue = WorkQueue<ObjectKey>()
    let expectations = Expectations()
    reconciler = Reconciler(name: "job", queue: queue, workers: 5, log: context.log) { key in
      try await Self.reconcile(key, context, queue, expectations)
    }
    context.jobs.addHandler { queue.add(ObjectKey($0.object)) }
    context.pods.addHandler { change in
      if let name = Self.jobName(of: AnyObjectView(change.object)) {
        queue.add(ObjectKey(namespace: AnyObjectView(change.object).namespace, name: name))
      }
    }
  }

  func run() async { await reconciler.run() }

  /// The Job that a pod belongs to, or belonged to before it was orphaned.
  private static func jobName(of pod: AnyObjectView) -> String? {
    if let owner = pod.controller { return owner.kind == "Job" ? owner.name : nil }
    guard pod.finalizers.contains(JobPlan.finalizer) else { return nil }
    return pod.labels["batch.kubernetes.io/job-name"].string
  }

  private static func reconcile(
    _ key: ObjectKey, _ context: ControllerContext, _ queue: WorkQueue<ObjectKey>,
    _ expectations: Expectations
  ) async throws {
    guard let object = context.jobs.get(key) else {
      expectations.forget(key)
      return try await releaseOrphans(of: key, context)
    }
    let job = JobView(object)
    // Another controller has it. Source: Kubernetes, "Delegation of managing a Job object".
    if let manager = object["spec"]["managedBy"].string,
      manager != "kubernetes.io/job-controller"
    {
      return
    }
    let pods = context.pods.list(index: ControllerContext.byController, job.uid)
      .map(PodView.init)
    let mayAct = PodCreation.isSettled(key, context, expectations)
    let plan = JobPlan.decide(job, pods: pods, now: .now)
    // Counts are written before the pods that they count may go.
    if plan.status != object["status"] {
      var updated = object
      updated["status"] = plan.status
      try await context.client.update(.jobs, updated, subresource: "status")
    }
    for event in plan.events {
      context.events.record(
        object, event.isWarning ? .warning : .normal, reason: event.reason,
        message: event.message)
    }
    for name in plan.release + (mayAct ? plan.drop : []) {
      guard let pod = context.pods.get(namespace: key.namespace, name: name) else { continue }
      try await release(pod, context)
    }
    if let seconds = plan.checkAgainAfter { queue.add(key, after: .seconds(seconds)) }
    guard mayAct else { return queue.add(key, after: Expectations.patience) }
    try await PodCreation.delete(
      plan.delete + plan.drop, of: object, key, context, expectations)
    do {
      try await PodCreation.create(
        plan.create.map { JobPods.pod(of: job, index: $0, pods: pods) }, of: object, key, context,
        expectations)
    } catch let error as StatusError where error.isTerminating {}
  }

  /// Takes the finalizer from a pod.
  private static func release(_ pod: Value, _ context: ControllerContext) async throws {
    let view = AnyObjectView(pod)
    guard view.finalizers.contains(JobPlan.finalizer) else { return }
    do {
      try await context.client.patch(
        .pods, namespace: view.namespace, name: view.name, .strategicMerge,
        [
          "metadata": [
            "uid": Value(view.uid),
            "$deleteFromPrimitiveList/finalizers": [Value(JobPlan.finalizer)],
          ]
        ])
    } catch let error as StatusError where error.code == 404 || error.code == 409 {}
  }

  /// A Job that is gone counts no more: its pods are free to go.
  private static func releaseOrphans(
    of key: ObjectKey, _ context: ControllerContext
  ) async throws {
    for pod in context.pods.list(index: ControllerContext.byNamespace, key.namespace)
    where jobName(of: AnyObjectView(pod)) == key.name {
      try await release(pod, context)
    }
  }
}
