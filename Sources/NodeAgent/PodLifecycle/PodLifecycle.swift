import KubeAPI

/// Decides what a pod needs next.
///
/// ## The problem
/// A pod's fate depends on what it asks for, on what its containers do, on back-offs and grace periods,
/// and on an agent that may be restarted at any moment. Spread over callbacks, these rules can be
/// neither read nor tested.
///
/// ## The design
/// One value per pod, with no I/O and no clock in it. The shell around it (``PodWorker``) does this, for
/// ever: look at the runtime, call ``decide(_:_:now:)``, publish the status it gives, perform the actions
/// in order, tell their failures, look again. A decision is made from three things:
///
/// - the manifest, with the API's deletion mark;
/// - the sandboxes and containers that the runtime has, past attempts included;
/// - a short memory of failures that leave no container behind (an image that can't be had, a volume that
///   can't be filled). Losing it in a restart only means trying at once.
///
/// The restart back-off is *not* in that memory: each container carries the step of the back-off that led
/// to it, so a crash loop stays a crash loop when the agent restarts.
///
/// ## A worked example
/// A container exits with code 1, policy Always. Attempt 0 has step 0, so attempt 1 starts at once, with
/// step 1. It fails too: step 1 means 10 s after its end; until then the status says waiting,
/// CrashLoopBackOff, and the decision asks to be called again at that moment. Attempt 2 has step 2: 20 s,
/// and so on to 5 min. A container that ran for 10 min starts over at step 0.
///
/// ## What is left out
/// In-place resizing. When a probe or a hook runs is the shell's affair; what their results mean is decided
/// here, with ``ProbeTracker``.
public struct PodLifecycle: Sendable {
  public enum Action: Sendable, Equatable {
    case prepareVolumes
    case createSandbox(attempt: Int)
    /// Get the image, create the container, start it.
    case startContainer(PodManifest.Container, attempt: Int, backOffStep: Int)
    /// Run its preStop hook, ask it to stop, kill it after the grace period; `message` says why.
    case stopContainer(ContainerID, name: String, graceSeconds: Int64, message: String)
    case removeContainer(ContainerID)
    case stopSandbox(SandboxID)
    case removeSandbox(SandboxID)
    /// Nothing of the pod runs any more: remove its volumes and logs.
    case removeFiles
    /// All is gone: take the object out of the API.
    case deleteObject
  }

  public struct Announcement: Sendable, Equatable {
    public var isWarning: Bool
    public var reason: String
    public var message: String
    /// The container it concerns; empty for the pod.
    public var container: String
  }

  public struct Decision: Sendable {
    public var actions: [Action] = []
    /// The whole `status` to publish; nil to leave it as it is.
    public var status: Value?
    public var announcements: [Announcement] = []
    /// When to decide again even if nothing happens.
    public var wakeAt: Timestamp?
  }

  /// What the lifecycle must know of the node.
  public struct Node: Sendable {
    /// The node's addresses, for the pod's `hostIPs`.
    public var addresses: [String]
    public init(addresses: [String]) { self.addresses = addresses }
  }

  enum Limits {
    /// A failed container's first wait, in seconds, doubled with each failure.
    static let firstBackOffSeconds: Int64 = 10
    static let lastBackOffSeconds: Int64 = 300
    /// A container that ran this long has recovered.
    static let recoverySeconds: Int64 = 600
    /// How many attempts of a container are kept: the present one and the one before, for its log and
    /// its last state.
    static let keptAttempts = 2
    /// How long an image's failure shows as an error before it shows as a back-off, in seconds.
    static let imageErrorSeconds: Int64 = 5
    /// What a container gets at least to stop, in seconds, when others have used the grace period up.
    static let leastGraceSeconds: Int64 = 2
  }

  /// Something that failed without leaving a container behind, and when to try again.
  struct Failure: Sendable, Equatable {
    var reason: String
    var message: String
    var count: Int
    var failedAt: Timestamp
    var retryAt: Timestamp
  }

  let node: Node
  /// By container name: no image, or no valid configuration.
  var failures: [String: Failure] = [:]
  var sandboxFailure: Failure?
  var volumeFailure: Failure?
  var hasVolumes = false
  var hasRemovedFiles = false
  var hasDeletedObject = false
  /// By container name: the attempt whose back-off was told.
  private var announcedBackOffs: [String: Int] = [:]
  /// When the agent first saw the pod, unless the API has it.
  private var startTime: Timestamp?
  var probes = ProbeTracker()
  /// Containers whose preStop hook runs: they are being stopped, though the runtime doesn't know yet.
  var stopping: Set<ContainerID> = []

  public init(node: Node) { self.node = node }

  // MARK: What the actions led to

  /// Where a container's start failed before there was a container.
  public mutating func startFailed(
    _ container: String, reason: String, message: String, now: Timestamp
  ) {
    failures[container] = Self.failure(after: failures[container], reason, message, now)
  }

  public mutating func started(_ container: String) { failures[container] = nil }

  public mutating func sandboxFailed(_ message: String, now: Timestamp) {
    sandboxFailure = Self.failure(
      after: sandboxFailure, "FailedCreatePodSandBox", message, now, firstSeconds: 2)
  }

  public mutating func sandboxCreated() { sandboxFailure = nil }

  public mutating func volumesFailed(_ message: String, now: Timestamp) {
    volumeFailure = Self.failure(
      after: volumeFailure, "FailedMount", message, now, firstSeconds: 1)
  }

  public mutating func volumesPrepared() {
    volumeFailure = nil
    hasVolumes = true
  }

  public mutating func filesRemoved() { hasRemovedFiles = true }
  public mutating func objectDeleted() { hasDeletedObject = true }

  /// A container's preStop hook has begun, and has ended.
  public mutating func stopBegan(_ container: ContainerID) { stopping.insert(container) }
  public mutating func stopEnded(_ container: ContainerID) { stopping.remove(container) }

  private static func failure(
    after previous: Failure?, _ reason: String, _ message: String, _ now: Timestamp,
    firstSeconds: Int64 = Limits.firstBackOffSeconds
  ) -> Failure {
    let count = (previous?.count ?? 0) + 1
    let seconds = backOffSeconds(step: count, first: firstSeconds)
    return Failure(
      reason: reason, message: message, count: count, failedAt: now,
      retryAt: now.adding(.seconds(seconds)))
  }

  /// 0 for step 0, then `first`, doubled at each step up to the limit.
  static func backOffSeconds(
    step: Int, first: Int64 = Limits.firstBackOffSeconds
  ) -> Int64 {
    guard step > 0 else { return 0 }
    return min(first << Int64(min(step - 1, 16)), Limits.lastBackOffSeconds)
  }

  // MARK: Deciding

  /// - Parameters:
  ///   - sandboxes: the pod's, oldest first.
  ///   - now: the wall clock.
  public mutating func decide(
    _ pod: PodManifest, _ sandboxes: [SandboxStatus], now: Timestamp
  ) -> Decision {
    if startTime == nil { startTime = pod.object["status"]["startTime"].timestamp ?? now }
    var sandboxes = sandboxes
    for sandbox in sandboxes.indices {
      for index in sandboxes[sandbox].containers.indices
      where stopping.contains(sandboxes[sandbox].containers[index].id) {
        sandboxes[sandbox].containers[index].isStopping = true
      }
    }
    var plan = Plan(pod, sandboxes, now: now, startTime: startTime ?? now)
    followProbes(plan)
    if pod.isDeleted {
      terminate(&plan)
    } else if plan.isOverdue || ["Succeeded", "Failed"].contains(pod.recordedPhase) {
      plan.isFinal = true
      wind(down: &plan)
    } else {
      advance(&plan)
    }
    prune(&plan)
    var decision = plan.decision
    // A pod without sandboxes that is on its way out has told its last status.
    let hasEnded = sandboxes.isEmpty && (pod.isDeleted || plan.isFinal)
    if !hasEnded || pod.recordedPhase.isEmpty {
      decision.status = status(plan)
    }
    return decision
  }

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

  /// The pod is to run: find what is missing and start it.
  private mutating func advance(_ plan: inout Plan) {
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
    guard !startable.isEmpty else { return }

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
