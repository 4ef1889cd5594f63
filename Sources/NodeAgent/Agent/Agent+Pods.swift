import KubeAPI
import KubeClient
import Logging
import Synchronization

/// The workers of the node's pods.
extension Agent {
  func podChanged(_ change: Informer.Change) {
    let object = change.object
    guard let uid = object["metadata"]["uid"].string else { return }
    if object["metadata"]["annotations"].has(StaticManifest.mirrorAnnotation) {
      return mirrorChanged(change)
    }
    switch change {
    case .added, .updated:
      if case .updated(let old, _) = change, let before = old["metadata"]["uid"].string,
        before != uid
      {
        // Deleted and made anew between two looks.
        markGone(before)
      }
      let known = ensureWorker(uid, object, isGone: false)
      if let known { Task { await known.update(object) } }
    case .deleted: markGone(uid)
    }
  }

  private func markGone(_ uid: String) {
    if let running = workers.withLock({ $0[uid] }) { Task { await running.worker.markGone() } }
  }

  /// Starts a worker for a pod. Returns the one there was before, if there was one.
  private func ensureWorker(_ uid: String, _ object: Value, isGone: Bool) -> PodWorker? {
    workers.withLock { workers in
      if let running = workers[uid] { return running.worker }
      workers[uid] = startWorker(
        uid, PodWorker(object, isGone: isGone, environment: environment))
      return nil
    }
  }

  private func startWorker(
    _ uid: String, _ worker: PodWorker, ended: @escaping @Sendable () -> Void = {}
  ) -> Running {
    let task = Task { [weak self] in
      await worker.run()
      self?.workers.withLock { _ = $0.removeValue(forKey: uid) }
      ended()
    }
    return Running(worker: worker, task: task)
  }

  // MARK: Static pods

  /// What looks after the static pods, if there are to be any.
  func makeStaticPods() -> StaticPods? {
    guard let path = settings.manifestPath else { return nil }
    var environment = environment
    environment.api = mirrors
    let pods = StaticPods(
      path: path, nodeName: settings.nodeName, interval: settings.manifestInterval,
      mirrors: mirrors, logger: logger
    ) { [weak self, environment] object, ended in
      let worker = PodWorker(object, environment: environment)
      let uid = object["metadata"]["uid"].string ?? ""
      self?.workers.withLock { workers in
        workers[uid] = self?.startWorker(uid, worker, ended: ended)
      }
      return worker
    }
    staticPods.withLock { $0 = pods }
    return pods
  }

  private func mirrorChanged(_ change: Informer.Change) {
    let mirror = change.object
    var isDeleted = false
    if case .deleted = change { isDeleted = true }
    let pods = staticPods.withLock { $0 }
    Task { [mirrors, logger, isDeleted] in
      if let pods {
        await pods.mirrorChanged(mirror, isDeleted: isDeleted)
      } else if !isDeleted {
        // What it showed was a static pod of this node, which has none any more.
        do { try await mirrors.remove(mirror) } catch {
          logger.warning("the mirror pod \(ObjectKey(mirror)) can't be removed: \(error)")
        }
      }
    }
  }

  /// Sandboxes and files of pods that the API doesn't have (any more) on this node.
  func removeStrangers(known: Set<String>) {
    var strangers: [String: (name: String, namespace: String)] = [:]
    for uid in environment.paths.knownUIDs() { strangers[uid] = ("", "") }
    for sandbox in runtime.pods() {
      strangers[sandbox.podUID] = (sandbox.podName, sandbox.podNamespace)
    }
    for (uid, pod) in strangers where !known.contains(uid) {
      logger.info("removing what is left of pod \(pod.namespace)/\(pod.name) (\(uid))")
      let object: Value = [
        "metadata": [
          "name": Value(pod.name), "namespace": Value(pod.namespace), "uid": Value(uid),
          "deletionTimestamp": Value(Timestamp.wallClock()), "deletionGracePeriodSeconds": 1,
        ]
      ]
      _ = ensureWorker(uid, object, isGone: true)
    }
  }

  func passEvents() async {
    for await event in runtime.events {
      workers.withLock { $0[event.podUID]?.worker }?.poke()
    }
  }

  func stopWorkers() async {
    let running = workers.withLock { Array($0.values) }
    for worker in running {
      worker.task.cancel()
      worker.worker.poke()
    }
    for worker in running { await worker.task.value }
  }

  /// Ends every pod on this node at once, as a machine that is switched off would, but tidily.
  func stopPods() async {
    await withTaskGroup(of: Void.self) { group in
      for sandbox in runtime.pods() {
        group.addTask { [runtime, logger] in
          do {
            try await runtime.removePodSandbox(sandbox.id)
          } catch {
            logger.error("pod \(sandbox.podNamespace)/\(sandbox.podName): \(error)")
          }
        }
      }
    }
    runtime.removeNetwork()
  }
}
