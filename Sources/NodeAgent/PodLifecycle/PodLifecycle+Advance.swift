import KubeAPI

/// How a pod comes to run, and goes on running.
extension PodLifecycle {
  /// The pod is to run: find what is missing and start it.
  mutating func advance(_ plan: inout Plan) {
    let pod = plan.pod
    if let limit = pod.activeDeadlineSeconds {
      plan.wake(at: plan.startTime.adding(.seconds(limit)))
    }
    // In a new sandbox, init containers run again.
    var startable: [(container: PodManifest.Container, attempt: Int, step: Int)] = []
    var initIsDone = true
    let hasStartedMain = pod.containers.contains {
      plan.latest($0).map(plan.isInCurrentSandbox) ?? false
    }
    for container in pod.initContainers {
      guard initIsDone else {
        plan.waiting[container.name] = ("PodInitializing", "")
        continue
      }
      let latest = plan.latest(container).flatMap { own in
        plan.isInCurrentSandbox(own) || plan.sandbox == nil ? own : nil
      }
      switch latest?.state {
      case .running:
        if let latest { stopIfFailed(container, latest, &plan) }
        // A sidecar lets the next one begin once its startup probe has succeeded.
        if !container.isSidecar || latest.map({ !probes.isStarted($0.id) }) ?? false {
          initIsDone = hasStartedMain
        }
      case .exited(let exit) where !container.isSidecar && exit.code == 0 && plan.sandbox != nil:
        break
      case .exited(let exit) where !container.isSidecar && pod.restartPolicy == .never:
        if exit.code != 0 {
          plan.isFinal = true
          return wind(down: &plan)
        }
      default:
        // A sidecar that crashed doesn't hold the others up once they run.
        if !(container.isSidecar && hasStartedMain) { initIsDone = hasStartedMain }
        if !hasStartedMain || container.isSidecar, let next = next(container, &plan, isInit: true) {
          startable.append(next)
        }
      }
    }
    plan.hasInitialized = initIsDone

    if initIsDone {
      var isFinished = true
      for container in pod.containers {
        let latest = plan.latest(container)
        switch latest?.state {
        case .running:
          isFinished = false
          if let latest { stopIfFailed(container, latest, &plan) }
        case .exited(let exit) where !restarts(pod, exit, latest?.id): break
        default:
          isFinished = false
          if let next = next(container, &plan, isInit: false) { startable.append(next) }
        }
      }
      if isFinished {
        plan.isFinal = true
        return wind(down: &plan)
      }
    } else {
      for container in pod.containers where plan.latest(container) == nil {
        plan.waiting[container.name] = ("PodInitializing", "")
      }
    }
    guard !startable.isEmpty else {
      // After a restart of the agent the volumes of what runs are to be kept current again.
      if !hasVolumes, plan.sandbox != nil { attempt(.prepareVolumes, volumeFailure, &plan) }
      return
    }

    // What they need first.
    if !hasVolumes {
      attempt(.prepareVolumes, volumeFailure, &plan)
    } else if plan.sandbox == nil {
      let attempt = (plan.sandboxes.map(\.attempt).max() ?? -1) + 1
      self.attempt(.createSandbox(attempt: attempt), sandboxFailure, &plan)
    } else {
      for (container, attempt, step) in startable {
        plan.act(.startContainer(container, attempt: attempt, backOffStep: step))
      }
    }
  }

  private func attempt(_ action: Action, _ failure: Failure?, _ plan: inout Plan) {
    if let failure, plan.now < failure.retryAt {
      plan.wake(at: failure.retryAt)
    } else {
      plan.act(action)
    }
  }

  private func restarts(
    _ pod: PodManifest, _ exit: ContainerStatus.Exit, _ id: ContainerID?
  ) -> Bool {
    switch pod.restartPolicy {
    case .always: true
    // One that a probe has ended has failed, however politely it went.
    case .onFailure: exit.code != 0 || id.map { probes.failedProbe($0) != nil } ?? false
    case .never: false
    }
  }

  /// The start that a container which doesn't run needs now; nil if it has to wait, which is noted.
  private mutating func next(
    _ container: PodManifest.Container, _ plan: inout Plan, isInit: Bool
  ) -> (container: PodManifest.Container, attempt: Int, step: Int)? {
    let pending = !isInit && !plan.pod.initContainers.isEmpty && !plan.hasInitialized
    plan.waiting[container.name] = (pending ? "PodInitializing" : "ContainerCreating", "")
    if let failure = failures[container.name], plan.now < failure.retryAt {
      plan.wake(at: failure.retryAt)
      plan.waiting[container.name] = (failure.reason, failure.message)
      if failure.reason == "ErrImagePull" {
        let backOffAt = failure.failedAt.adding(.seconds(Limits.imageErrorSeconds))
        if plan.now < backOffAt {
          plan.wake(at: backOffAt)
        } else {
          let message = "Back-off pulling image \"\(container.image)\""
          plan.waiting[container.name] = ("ImagePullBackOff", "\(message): \(failure.message)")
          if announcedBackOffs[container.name] != -failure.count {
            announcedBackOffs[container.name] = -failure.count
            plan.announce("BackOff", message, container: container.name, isWarning: false)
          }
        }
      }
      return nil
    }
    guard let latest = plan.latest(container) else {
      // Records are gone, but the API knows of earlier runs.
      let restarts = plan.pod.recordedRestarts(container.name, isInit: isInit)
      return (container, restarts.map { $0 + 1 } ?? 0, 0)
    }
    switch latest.state {
    case .running: return nil
    case .created:
      // The agent went between creating and starting: begin that attempt again.
      plan.act(.removeContainer(latest.id))
      return (container, latest.attempt, latest.backOffStep)
    case .exited(let exit):
      let hasRecovered =
        exit.startedAt.map { exit.finishedAt.since($0) >= .seconds(Limits.recoverySeconds) }
        ?? false
      // One that ended well was not in trouble; in a lost sandbox it wasn't its own fault.
      let step = hasRecovered || !plan.isInCurrentSandbox(latest) ? 0 : latest.backOffStep
      let startAt = exit.finishedAt.adding(.seconds(Self.backOffSeconds(step: step)))
      if plan.now < startAt {
        plan.wake(at: startAt)
        let delay = Self.delayText(Self.backOffSeconds(step: step))
        let message =
          "back-off \(delay) restarting failed container=\(container.name) pod=\(plan.pod.name)_\(plan.pod.namespace)(\(plan.pod.uid))"
        plan.waiting[container.name] = ("CrashLoopBackOff", message)
        if announcedBackOffs[container.name] != latest.attempt {
          announcedBackOffs[container.name] = latest.attempt
          plan.announce(
            "BackOff",
            "Back-off restarting failed container \(container.name) in pod \(plan.pod.name)_\(plan.pod.namespace)(\(plan.pod.uid))",
            container: container.name)
        }
        return nil
      }
      // It starts at once: until then its end is what there is to say.
      plan.waiting[container.name] = nil
      return (container, latest.attempt + 1, step + 1)
    }
  }

  /// As Go prints durations: `10s`, `1m20s`, `5m0s`.
  private static func delayText(_ seconds: Int64) -> String {
    seconds < 60 ? "\(seconds)s" : "\(seconds / 60)m\(seconds % 60)s"
  }
}
