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
  var announcedBackOffs: [String: Int] = [:]
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
}
