import Foundation
import KubeAPI
import KubeClient

/// Carries out `CronJobPlan`s.
struct CronJobController: Sendable {
  private let reconciler: Reconciler<ObjectKey>

  init(_ context: ControllerContext) {
    let queue = WorkQueue<ObjectKey>()
    let expectations = Expectations()
    reconciler = Reconciler(name: "cronjob", queue: queue, workers: 5, log: context.log) { key in
      try await Self.reconcile(key, context, queue, expectations)
    }
    context.cronJobs.addHandler { queue.add(ObjectKey($0.object)) }
    context.jobs.addHandler { change in
      let job = AnyObjectView(change.object)
      guard let owner = job.controller, owner.kind == "CronJob" else { return }
      queue.add(ObjectKey(namespace: job.namespace, name: owner.name))
    }
  }

  func run() async { await reconciler.run() }

  /// The offset of a named zone, by the machine's own time zone data.
  private static func offset(_ name: String?, _ time: Timestamp) -> Int64? {
    guard let zone = name.map(TimeZone.init(identifier:)) ?? TimeZone.current else { return nil }
    let date = Date(timeIntervalSince1970: Double(time.secondsSinceEpoch))
    return Int64(zone.secondsFromGMT(for: date))
  }

  private static func reconcile(
    _ key: ObjectKey, _ context: ControllerContext, _ queue: WorkQueue<ObjectKey>,
    _ expectations: Expectations
  ) async throws {
    guard let object = context.cronJobs.get(key) else { return expectations.forget(key) }
    let cron = AnyObjectView(object)
    let isSettled = expectations.areMet(key) {
      context.jobs.get(namespace: key.namespace, name: $0) == nil ? .absent : .alive
    }
    guard isSettled else { return queue.add(key, after: .seconds(1)) }
    let jobs = context.jobs.list(index: ControllerContext.byController, cron.uid).map(JobView.init)
    var plan = CronJobPlan.decide(cron, jobs: jobs, now: .now, offset: offset)
    for event in plan.events { note(object, event, context) }
    for name in plan.delete + plan.replace {
      do {
        try await context.client.delete(
          .jobs, namespace: key.namespace, name: name, propagation: "Background")
        note(
          object, JobPlan.Event(reason: "SuccessfulDelete", message: "Deleted job \(name)"),
          context)
      } catch let error as StatusError where error.code == 404 {}
    }
    if let job = plan.create {
      let name = AnyObjectView(job).name
      do {
        let made = try await context.client.create(.jobs, namespace: key.namespace, job)
        expectations.expect(key, made: [name])
        note(
          object, JobPlan.Event(reason: "SuccessfulCreate", message: "Created job \(name)"),
          context)
        plan.status["active"].append([
          "kind": "Job", "apiVersion": "batch/v1", "namespace": Value(key.namespace),
          "name": Value(name), "uid": made["metadata"]["uid"],
          "resourceVersion": made["metadata"]["resourceVersion"],
        ])
      } catch let error as StatusError
        where error.reason == .alreadyExists || error.isTerminating
      {
      } catch {
        note(
          object,
          JobPlan.Event(
            isWarning: true, reason: "FailedCreate", message: "Error creating job: \(error)"),
          context)
        throw error
      }
    }
    if let seconds = plan.checkAgainAfter { queue.add(key, after: .seconds(seconds)) }
    if plan.status != object["status"] {
      var updated = object
      updated["status"] = plan.status
      try await context.client.update(.cronJobs, updated, subresource: "status")
    }
  }

  private static func note(
    _ object: Value, _ event: JobPlan.Event, _ context: ControllerContext
  ) {
    context.events.record(
      object, event.isWarning ? .warning : .normal, reason: event.reason, message: event.message)
  }
}
