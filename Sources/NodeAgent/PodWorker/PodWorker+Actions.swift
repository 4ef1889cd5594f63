import KubeAPI
import Logging

/// What a decision's actions do: stops, hooks, volumes.
extension PodWorker {
  func perform(_ action: PodLifecycle.Action) async throws {
    let runtime = environment.runtime
    switch action {
    case .prepareVolumes: await prepareVolumes()
    case .createSandbox(let attempt): await createSandbox(attempt)
    case .startContainer(let container, let attempt, let step):
      await start(container, attempt: attempt, backOffStep: step)
    case .stopContainer(let id, let name, let grace, let message):
      announce("Killing", message, container: name)
      try await stop(id, name, graceSeconds: grace)
    case .removeContainer(let id): try await runtime.removeContainer(id)
    case .stopSandbox(let id): try await runtime.stopPodSandbox(id)
    case .removeSandbox(let id): try await runtime.removePodSandbox(id)
    case .removeFiles:
      try environment.paths.remove(uid: pod.uid)
      lifecycle.filesRemoved()
    case .deleteObject:
      if !isGone { try await environment.api.delete(pod) }
      lifecycle.objectDeleted()
    }
  }

  /// Asks a container to stop, after its preStop hook if it has one. The hook runs beside the worker, so
  /// that other containers are stopped meanwhile, and takes its time from the grace period.
  func stop(_ id: ContainerID, _ name: String, graceSeconds: Int64) async throws {
    let runtime = environment.runtime
    stops.removeValue(forKey: id)?.cancel()
    guard graceSeconds > 0, let hook = pod.container(name)?.preStop else {
      lifecycle.stopEnded(id)
      return try await runtime.stopContainer(id, timeout: .seconds(graceSeconds))
    }
    lifecycle.stopBegan(id)
    let address = address(runtime.pods(uid: pod.uid).last(where: \.isReady))
    stops[id] = Task { [handlers] in
      let deadline = ContinuousClock.now + .seconds(graceSeconds)
      let isDone = await withTaskGroup(of: Bool?.self) { group in
        group.addTask {
          do {
            try await handlers.hook(hook, id, address: address)
            return true
          } catch {
            return Task.isCancelled ? nil : false
          }
        }
        group.addTask {
          try? await Task.sleep(until: deadline, clock: .continuous)
          return nil
        }
        let first = await group.next() ?? nil
        group.cancelAll()
        return first
      }
      if Task.isCancelled { return }
      if isDone == false {
        announce("FailedPreStopHook", "PreStopHook failed", container: name, isWarning: true)
      }
      let left = max(
        deadline - ContinuousClock.now, .seconds(PodLifecycle.Limits.leastGraceSeconds))
      try? await runtime.stopContainer(id, timeout: left)
      lifecycle.stopEnded(id)
      stops[id] = nil
      poke()
    }
  }

  /// Does what is to be done right after a container's start; if that fails, the container is killed.
  func runPostStartHook(_ container: PodManifest.Container, _ id: ContainerID) async {
    guard let hook = container.postStart else { return }
    let address = address(environment.runtime.pods(uid: pod.uid).last(where: \.isReady))
    let task = Task { [handlers] in try await handlers.hook(hook, id, address: address) }
    postStartHook = task
    if pod.isDeleted { task.cancel() }
    defer { postStartHook = nil }
    do {
      try await task.value
    } catch {
      // Deleted meanwhile: the deletion stops it with its own grace.
      if pod.isDeleted { return }
      environment.logger.info(
        "pod \(pod.namespace)/\(pod.name): postStart of \(container.name): \(error)")
      announce(
        "FailedPostStartHook", "PostStartHook failed", container: container.name, isWarning: true)
      announce("Killing", "FailedPostStartHook", container: container.name)
      try? await stop(id, container.name, graceSeconds: pod.graceSeconds)
    }
  }

  func prepareVolumes() async {
    if !hasAnnouncedLimits {
      hasAnnouncedLimits = true
      let missing = ContainerPreparation.unsupported(pod) + PodVolumes.omissions(pod)
      if !missing.isEmpty {
        announce(
          "NotSupported", "this node does not act on: " + missing.joined(separator: ", "),
          isWarning: true)
      }
    }
    do {
      environment.api.follow(PodVolumes.references(pod), for: pod) { [weak self] in
        Task { await self?.volumesChanged() }
      }
      try await volumes.prepare(pod)
      lifecycle.volumesPrepared()
      // What changed in between, and tokens' ends, are seen at the first look.
      hasStaleVolumes = true
    } catch {
      announce("FailedMount", "\(error)", isWarning: true)
      lifecycle.volumesFailed("\(error)", now: .wallClock())
    }
  }
}
