import KubeAPI

extension PodLifecycle {
  /// A decision in the making.
  struct Plan {
    let pod: PodManifest
    let sandboxes: [SandboxStatus]
    let now: Timestamp
    let startTime: Timestamp
    /// The one that containers are started in; nil while there is none.
    let sandbox: SandboxStatus?
    /// All attempts by container name, newest first.
    let attempts: [String: [ContainerStatus]]
    /// Containers that are not running and why, for the status.
    var waiting: [String: (reason: String, message: String)] = [:]
    /// The pod will never start another container.
    var isFinal = false
    var hasInitialized = false
    var decision = Decision()

    init(_ pod: PodManifest, _ sandboxes: [SandboxStatus], now: Timestamp, startTime: Timestamp) {
      self.pod = pod
      self.sandboxes = sandboxes
      self.now = now
      self.startTime = startTime
      sandbox = sandboxes.last.flatMap { $0.isReady ? $0 : nil }
      var attempts: [String: [ContainerStatus]] = [:]
      for container in sandboxes.flatMap(\.containers) {
        attempts[container.name, default: []].append(container)
      }
      self.attempts = attempts.mapValues { containers in
        containers.sorted { ($0.attempt, $0.createdAt) > ($1.attempt, $1.createdAt) }
      }
    }

    func latest(_ container: PodManifest.Container) -> ContainerStatus? {
      attempts[container.name]?.first
    }

    func isInCurrentSandbox(_ container: ContainerStatus) -> Bool {
      sandbox?.containers.contains { $0.id == container.id } ?? false
    }

    /// Whether the pod has been active for longer than it may.
    var isOverdue: Bool {
      guard let limit = pod.activeDeadlineSeconds else { return false }
      return now.since(startTime) >= .seconds(limit)
    }

    mutating func act(_ action: Action) { decision.actions.append(action) }

    mutating func wake(at time: Timestamp) {
      decision.wakeAt = min(decision.wakeAt ?? time, time)
    }

    mutating func announce(
      _ reason: String, _ message: String, container: String = "", isWarning: Bool = true
    ) {
      decision.announcements.append(
        Announcement(isWarning: isWarning, reason: reason, message: message, container: container))
    }

    var running: [ContainerStatus] {
      sandboxes.flatMap(\.containers).filter {
        if case .running = $0.state { true } else { false }
      }
    }
  }
}
