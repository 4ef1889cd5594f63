import KubeAPI
import KubeClient

/// Deletes Jobs some time after they have finished, where they say so.
/// Source: Kubernetes, "Automatic Cleanup for Finished Jobs".
struct JobTTLController: Sendable {
  private let reconciler: Reconciler<ObjectKey>

  init(_ context: ControllerContext) {
    let queue = WorkQueue<ObjectKey>()
    reconciler = Reconciler(name: "ttl-after-finished", queue: queue, workers: 2, log: context.log)
    { key in
      guard let object = context.jobs.get(key),
        let left = Self.secondsLeft(JobView(object), now: .now)
      else { return }
      if left > 0 { return queue.add(key, after: .seconds(left)) }
      do {
        try await context.client.delete(
          .jobs, namespace: key.namespace, name: key.name, uid: AnyObjectView(object).uid,
          propagation: "Foreground")
      } catch let error as StatusError where error.code == 404 {}
    }
    context.jobs.addHandler { change in
      if case .deleted = change { return }
      guard Self.secondsLeft(JobView(change.object), now: .now) != nil else { return }
      queue.add(ObjectKey(change.object))
    }
  }

  func run() async { await reconciler.run() }

  /// How long the Job may stay; nil if it is not to be deleted, or is on its way out already.
  static func secondsLeft(_ job: JobView, now: Timestamp) -> Int64? {
    guard let ttl = job.object["spec"]["ttlSecondsAfterFinished"].integer, !job.isBeingDeleted,
      let finished = job.finishTime
    else { return nil }
    return max(0, ttl - now.since(finished).components.seconds)
  }
}
