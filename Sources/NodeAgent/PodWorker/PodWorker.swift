import KubeAPI
import Logging

/// Runs one pod: the shell around ``PodLifecycle``.
///
/// One task per pod, which looks, decides, publishes, acts, and waits for the next news: a newer object
/// from the API, an event of the runtime, or the time the decision asked for. Everything a pod does happens
/// in this one order, so there are no locks and no two actions at once.
actor PodWorker {
  struct Environment: Sendable {
    let runtime: any ContainerRuntime
    var api: any PodAPI
    let paths: PodPaths
    let addresses: [String]
    let nodeName: String
    /// The content of the node's own /etc/resolv.conf.
    let resolverConfiguration: String
    let logger: Logger
  }

  enum Limits {
    /// How long after a failed call to the API or the runtime the next try comes.
    static let retry: Duration = .seconds(1)
    /// How long after a failed request for a token the next one comes.
    static let tokenRetry: Duration = .seconds(10)
  }

  let environment: Environment
  var lifecycle: PodLifecycle
  var pod: PodManifest
  /// The object is gone from the API: nothing is published any more.
  var isGone: Bool
  var hasAnnouncedLimits = false
  let volumes: PodVolumes
  let preparation: ContainerPreparation
  let handlers: HandlerRunner
  private var probes: ProbeRunner?
  /// A postStart hook that runs; the pod's deletion ends it.
  var postStartHook: Task<Void, any Error>?
  /// Containers whose preStop hook runs.
  var stops: [ContainerID: Task<Void, Never>] = [:]
  /// Set when the content of a volume may have changed.
  var hasStaleVolumes = false
  private let signals: AsyncStream<Void>
  private let signal: AsyncStream<Void>.Continuation

  /// - Parameter isGone: true for a pod that the API no longer has but that still has something here.
  init(_ object: Value, isGone: Bool = false, environment: Environment) {
    self.environment = environment
    self.isGone = isGone
    pod = PodManifest(object)
    lifecycle = PodLifecycle(node: .init(addresses: environment.addresses))
    volumes = PodVolumes(paths: environment.paths, api: environment.api)
    preparation = ContainerPreparation(paths: environment.paths, api: environment.api)
    handlers = HandlerRunner(runtime: environment.runtime)
    // Signals say only "look again": one that waits is as good as many.
    (signals, signal) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    signal.yield()
  }

  /// Something may have changed.
  nonisolated func poke() { signal.yield() }

  /// A newer object from the API.
  func update(_ object: Value) {
    let before = pod.object["metadata"]
    if Self.version(object) >= Self.version(pod.object) { pod = PodManifest(object) }
    let now = pod.object["metadata"]
    // The downward API shows them.
    if before["labels"] != now["labels"] || before["annotations"] != now["annotations"] {
      hasStaleVolumes = true
    }
    if pod.isDeleted { postStartHook?.cancel() }
    poke()
  }

  /// The API has lost what was published: publish it again.
  func republish() {
    var object = pod.object
    object["status"] = nil
    pod = PodManifest(object)
    poke()
  }

  /// There is no object any more: end the pod's containers and forget it.
  ///
  /// - Parameter graceSeconds: what its containers get to stop; nil for what they ask for. Where the API has
  ///   no object nobody waits for them, and a second lets them see the signal.
  func markGone(graceSeconds: Int64? = 1) {
    isGone = true
    var object = pod.object
    let grace = graceSeconds ?? pod.graceSeconds
    if object["metadata"]["deletionTimestamp"].isNull {
      object["metadata"]["deletionTimestamp"] = Value(
        Timestamp.wallClock().adding(.seconds(graceSeconds == nil ? grace : 0)))
    }
    object["metadata"]["deletionGracePeriodSeconds"] = Value(grace)
    pod = PodManifest(object)
    postStartHook?.cancel()
    poke()
  }

  private static func version(_ object: Value) -> UInt64 {
    object["metadata"]["resourceVersion"].string.flatMap { UInt64($0) } ?? 0
  }

  /// Runs until the pod is gone from here and from the API, or the task is cancelled.
  func run() async {
    await runPod()
    await probes?.stop()
    environment.api.follow([], for: pod) {}
  }

  private func runPod() async {
    var iterator = signals.makeAsyncIterator()
    while await iterator.next() != nil, !Task.isCancelled {
      var wakeAt: Timestamp?
      var hasActed = true
      while hasActed, !Task.isCancelled {
        hasActed = false
        var decision = lifecycle.decide(
          pod, environment.runtime.pods(uid: pod.uid), now: .wallClock())
        wakeAt = decision.wakeAt
        for announcement in decision.announcements { announce(announcement) }
        if let status = decision.status, !isGone, differs(status), await !publish(status) {
          wakeAt = Timestamp.wallClock().adding(Limits.retry)
          // A status that matters may be lost with what it reports: first tell, then remove.
          if pod.isDeleted { decision.actions.removeAll { $0.isRemoval } }
        }
        for action in decision.actions {
          if action == .deleteObject, isGone || lifecycle.hasDeletedObject { return }
          do {
            try await perform(action)
            hasActed = true
          } catch {
            environment.logger.error(
              "pod \(pod.namespace)/\(pod.name): \(error)", metadata: ["action": "\(action)"])
            wakeAt = Timestamp.wallClock().adding(Limits.retry)
            hasActed = false
            break
          }
          if action == .deleteObject { return }
        }
      }
      await syncProbes()
      if let renewal = await refreshVolumes() { wakeAt = min(wakeAt ?? renewal, renewal) }
      if let wakeAt { wake(at: wakeAt) }
    }
  }

  /// Brings volumes up to date that may show something old. Returns when the next token is due.
  private func refreshVolumes() async -> Timestamp? {
    guard lifecycle.hasVolumes, !pod.isDeleted else { return nil }
    if let due = tokenRenewal, due <= .wallClock() { hasStaleVolumes = true }
    if hasStaleVolumes {
      hasStaleVolumes = false
      tokenRenewal = await volumes.refresh(pod)
      // A token that could not be had now is asked for again, but not at once.
      if let due = tokenRenewal, due <= .wallClock() {
        tokenRenewal = Timestamp.wallClock().adding(Limits.tokenRetry)
      }
    }
    return tokenRenewal
  }

  private var tokenRenewal: Timestamp?

  func volumesChanged() {
    hasStaleVolumes = true
    poke()
  }

  /// Has the probes run that the lifecycle wants now.
  private func syncProbes() async {
    var wanted: [ProbeRunner.Key: ProbeRunner.Wanted] = [:]
    let sandbox = environment.runtime.pods(uid: pod.uid).last(where: \.isReady)
    for container in sandbox?.containers ?? [] {
      guard case .running(let since) = container.state else { continue }
      for (kind, settings) in lifecycle.probes.active(container.id, isLeaving: pod.isDeleted) {
        wanted[ProbeRunner.Key(container: container.id, kind: kind)] = ProbeRunner.Wanted(
          settings: settings, name: container.name, startedAt: since)
      }
    }
    if wanted.isEmpty, probes == nil { return }
    let runner =
      probes
      ?? ProbeRunner(handlers) { [weak self] key, name, outcome in
        await self?.probed(key, name, outcome)
      }
    probes = runner
    await runner.run(wanted, address: address(sandbox))
  }

  func address(_ sandbox: SandboxStatus?) -> String? {
    pod.usesHostNetwork ? environment.addresses.first : sandbox?.address
  }

  private func probed(
    _ key: ProbeRunner.Key, _ name: String, _ outcome: ProbeTracker.Outcome
  ) {
    let announcement = lifecycle.probed(key.kind, key.container, name: name, outcome)
    if let announcement { announce(announcement) }
    poke()
  }

  private var timer: Task<Void, Never>?

  private func wake(at time: Timestamp) {
    timer?.cancel()
    timer = Task { [signal] in
      let delay = time.since(.wallClock())
      if delay > .zero { try? await Task.sleep(for: delay) }
      if !Task.isCancelled { signal.yield() }
    }
  }

  // MARK: Telling

  func announce(_ announcement: PodLifecycle.Announcement) {
    if !isGone { environment.api.announce(announcement, about: pod) }
  }

  func announce(
    _ reason: String, _ message: String, container: String = "", isWarning: Bool = false
  ) {
    announce(
      .init(isWarning: isWarning, reason: reason, message: message, container: container))
  }

  /// Whether publishing `status` would change the object.
  private func differs(_ status: Value) -> Bool {
    let known = pod.object["status"]
    return status.members.contains { known[$0.key] != $0.value }
  }

  /// Publishes, and takes over the object that results. Returns whether it reached the API.
  private func publish(_ status: Value) async -> Bool {
    do {
      guard let object = try await environment.api.publish(status, of: pod) else {
        markGone()
        return true
      }
      if Self.version(object) >= Self.version(pod.object) { pod = PodManifest(object) }
      return true
    } catch {
      environment.logger.debug("pod \(pod.namespace)/\(pod.name): status not published: \(error)")
      return false
    }
  }
}

extension PodLifecycle.Action {
  /// Whether it takes away what a status may still have to tell.
  fileprivate var isRemoval: Bool {
    switch self {
    case .removeSandbox, .removeFiles, .deleteObject: true
    default: false
    }
  }
}
