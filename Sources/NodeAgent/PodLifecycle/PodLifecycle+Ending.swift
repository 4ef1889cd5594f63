import KubeAPI

/// How containers and pods end: by deletion, by their own end, by a failed probe.
extension PodLifecycle {
  /// The API wants the pod gone: stop its containers, then remove everything, the object last.
  mutating func terminate(_ plan: inout Plan) {
    plan.isFinal = true
    let running = plan.running
    stop(running, grace: plan.pod.deletionGraceSeconds ?? 0, &plan)
    guard running.isEmpty else { return }
    for sandbox in plan.sandboxes { plan.act(.removeSandbox(sandbox.id)) }
    guard plan.sandboxes.isEmpty else { return }
    if !hasRemovedFiles {
      plan.act(.removeFiles)
    } else if !hasDeletedObject {
      plan.act(.deleteObject)
    }
  }

  /// The pod has come to its end but stays in the API: nothing may run, and its network is free, but
  /// what its containers left (records, logs) stays to be seen.
  func wind(down plan: inout Plan) {
    let running = plan.running
    stop(running, grace: plan.pod.graceSeconds, &plan)
    guard running.isEmpty else { return }
    for sandbox in plan.sandboxes where sandbox.isReady { plan.act(.stopSandbox(sandbox.id)) }
  }

  /// Stops the pod's containers in order: all but the sidecars at once, then the sidecars, the one that was
  /// started last first, because the earlier ones may serve it.
  func stop(_ running: [ContainerStatus], grace: Int64, _ plan: inout Plan) {
    let sidecars = plan.pod.initContainers.filter(\.isSidecar).map(\.name)
    var next = running.filter { !sidecars.contains($0.name) }
    var grace = grace
    if next.isEmpty, grace > 0 {
      if let name = sidecars.last(where: { name in running.contains { $0.name == name } }) {
        next = running.filter { $0.name == name }
        // They share one grace period with the others.
        if let end = plan.pod.deletionTime {
          let left = end.since(plan.now).components.seconds
          grace = min(grace, max(Limits.leastGraceSeconds, left))
        }
      }
    } else if grace == 0 {
      next = running
    }
    for container in next where !container.isStopping || grace == 0 {
      plan.act(
        .stopContainer(
          container.id, name: container.name, graceSeconds: grace,
          message: "Stopping container \(container.name)"))
    }
  }

  mutating func followProbes(_ plan: Plan) {
    for container in plan.pod.initContainers + plan.pod.containers {
      guard let latest = plan.latest(container), case .running = latest.state else { continue }
      probes.follow(
        latest.id, container.probes, recorded: plan.pod.recordedStatus(container.name))
    }
    probes.keep(only: Set(plan.sandboxes.flatMap(\.containers).map(\.id)))
  }

  /// Takes a probe's result and returns what to tell about it.
  mutating func probed(
    _ kind: ProbeKind, _ id: ContainerID, name: String, _ outcome: ProbeTracker.Outcome
  ) -> Announcement? {
    probes.record(kind, of: id, name: name, outcome)
  }

  /// Ends a running container whose liveness or startup probe has failed.
  func stopIfFailed(
    _ container: PodManifest.Container, _ latest: ContainerStatus, _ plan: inout Plan
  ) {
    guard let (kind, settings) = probes.failedProbe(latest.id), !latest.isStopping else { return }
    let consequence =
      plan.pod.restartPolicy == .never && !container.isSidecar ? "" : ", will be restarted"
    plan.act(
      .stopContainer(
        latest.id, name: container.name,
        graceSeconds: settings.graceSeconds ?? plan.pod.graceSeconds,
        message: "Container \(container.name) failed \(kind.rawValue) probe\(consequence)"))
  }

  /// Removes attempts and lost sandboxes that nothing needs any more.
  func prune(_ plan: inout Plan) {
    guard !plan.pod.isDeleted else { return }
    var kept: Set<ContainerID> = []
    for containers in plan.attempts.values {
      for (index, container) in containers.enumerated() {
        if index < Limits.keptAttempts {
          kept.insert(container.id)
        } else if case .exited = container.state {
          plan.act(.removeContainer(container.id))
        }
      }
    }
    for sandbox in plan.sandboxes.dropLast() where !sandbox.isReady {
      if !sandbox.containers.contains(where: { kept.contains($0.id) }) {
        plan.act(.removeSandbox(sandbox.id))
      }
    }
  }
}
