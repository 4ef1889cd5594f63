import KubeAPI

/// Keeps one task for each probe of a pod's running containers, each at its own pace.
///
/// Which probes there are to be is the lifecycle's to say; this starts and ends the tasks.
actor ProbeRunner {
  struct Key: Hashable {
    var container: ContainerID
    var kind: ProbeKind
  }
  struct Wanted: Sendable, Equatable {
    var settings: ProbeSettings
    var name: String
    /// When the container started: the initial delay counts from there.
    var startedAt: Timestamp
  }

  private let handlers: HandlerRunner
  private let report: @Sendable (Key, _ name: String, ProbeTracker.Outcome) async -> Void
  private var tasks: [Key: Task<Void, Never>] = [:]

  init(
    _ handlers: HandlerRunner,
    report: @escaping @Sendable (Key, _ name: String, ProbeTracker.Outcome) async -> Void
  ) {
    self.handlers = handlers
    self.report = report
  }

  /// Makes the running probes these.
  ///
  /// - Parameter address: the pod's.
  func run(_ wanted: [Key: Wanted], address: String?) {
    for (key, task) in tasks where wanted[key] == nil {
      task.cancel()
      tasks[key] = nil
    }
    for (key, probe) in wanted where tasks[key] == nil {
      tasks[key] = Task { [handlers, report] in
        let begin = probe.startedAt.adding(.seconds(probe.settings.initialDelaySeconds))
        let wait = begin.since(.wallClock())
        if wait > .zero { try? await Task.sleep(for: wait) }
        var next = ContinuousClock.now
        while !Task.isCancelled {
          let outcome = await handlers.probe(probe.settings, key.container, address: address)
          if Task.isCancelled { return }
          await report(key, probe.name, outcome)
          // A probe that took longer than its period is followed by the next at once, not by many.
          next = max(next + .seconds(probe.settings.periodSeconds), .now)
          try? await Task.sleep(until: next, clock: .continuous)
        }
      }
    }
  }

  func stop() {
    for task in tasks.values { task.cancel() }
    tasks = [:]
  }
}
