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
    let api: any PodAPI
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
  }

  private let environment: Environment
  private var lifecycle: PodLifecycle
  private var pod: PodManifest
  /// The object is gone from the API: nothing is published any more.
  private var isGone: Bool
  private var hasAnnouncedLimits = false
  private let volumes: PodVolumes
  private let preparation: ContainerPreparation
  private let handlers: HandlerRunner
  private var probes: ProbeRunner?
  /// A postStart hook that runs; the pod's deletion ends it.
  private var postStartHook: Task<Void, any Error>?
  /// Containers whose preStop hook runs.
  private var stops: [ContainerID: Task<Void, Never>] = [:]
  /// Set when the content of a volume may have changed.
  private var hasStaleVolumes = false
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

  /// The API no longer has the object: end the pod's containers and forget it.
  func markGone() {
    isGone = true
    var object = pod.object
    if object["metadata"]["deletionTimestamp"].isNull {
      object["metadata"]["deletionTimestamp"] = Value(Timestamp.wallClock())
    }
    // Nobody waits for it; a second lets it see the signal.
    object["metadata"]["deletionGracePeriodSeconds"] = 1
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
    }
    return tokenRenewal
  }

  private var tokenRenewal: Timestamp?

  private func volumesChanged() {
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

  private func address(_ sandbox: SandboxStatus?) -> String? {
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

  private func announce(_ announcement: PodLifecycle.Announcement) {
    if !isGone { environment.api.announce(announcement, about: pod) }
  }

  private func announce(
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

  // MARK: Doing

  private func perform(_ action: PodLifecycle.Action) async throws {
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
  private func stop(_ id: ContainerID, _ name: String, graceSeconds: Int64) async throws {
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
  private func runPostStartHook(_ container: PodManifest.Container, _ id: ContainerID) async {
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

  private func prepareVolumes() async {
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

  private func createSandbox(_ attempt: Int) async {
    let spec = pod.object["spec"]
    var configuration = SandboxConfiguration(
      name: pod.name, namespace: pod.namespace, uid: pod.uid)
    configuration.attempt = attempt
    configuration.network = pod.usesHostNetwork ? .host : .pod
    configuration.hostname =
      pod.usesHostNetwork
      ? environment.nodeName : String((spec["hostname"].string ?? pod.name).prefix(63))
    configuration.usesHostIPC = spec["hostIPC"].bool ?? false
    configuration.usesHostPID = spec["hostPID"].bool ?? false
    configuration.resolverConfiguration = Self.resolverConfiguration(
      spec, node: environment.resolverConfiguration)
    configuration.hostAliases = spec["hostAliases"].elements.map {
      .init(address: $0["ip"].string ?? "", names: $0["hostnames"].strings)
    }
    configuration.memoryVolumes = volumes.memoryVolumes(pod)
    do {
      _ = try await environment.runtime.runPodSandbox(configuration)
      lifecycle.sandboxCreated()
    } catch {
      announce(
        "FailedCreatePodSandBox", "Failed to create pod sandbox: \(error)", isWarning: true)
      lifecycle.sandboxFailed("\(error)", now: .wallClock())
    }
  }

  /// The pod's resolv.conf: its own with policy None, else the node's, with the pod's additions.
  static func resolverConfiguration(_ spec: Value, node: String) -> String {
    let own = spec["dnsConfig"]
    var text = spec["dnsPolicy"].string == "None" ? "" : node
    if !text.isEmpty, !text.hasSuffix("\n") { text += "\n" }
    for address in own["nameservers"].strings { text += "nameserver \(address)\n" }
    if !own["searches"].strings.isEmpty {
      text += "search \(own["searches"].strings.joined(separator: " "))\n"
    }
    let options = own["options"].elements.compactMap { option in
      option["name"].string.map { name in name + (option["value"].string.map { ":" + $0 } ?? "") }
    }
    if !options.isEmpty { text += "options \(options.joined(separator: " "))\n" }
    return text
  }

  private func start(
    _ container: PodManifest.Container, attempt: Int, backOffStep: Int
  ) async {
    let name = container.name
    func failed(_ reason: String, _ message: String, event: String = "Failed") {
      announce(event, message, container: name, isWarning: true)
      lifecycle.startFailed(name, reason: reason, message: message, now: .wallClock())
    }
    guard let image = await image(for: container, failed: failed) else { return }
    let runtime = environment.runtime
    guard let sandbox = runtime.pods(uid: pod.uid).last(where: \.isReady) else { return }
    let id: ContainerID
    do {
      let configuration = try await preparation.configuration(
        pod, container, image: image, attempt: attempt, backOffStep: backOffStep,
        addresses: environment.addresses,
        podAddress: pod.usesHostNetwork ? environment.addresses.first : sandbox.address)
      id = try await runtime.createContainer(in: sandbox.id, configuration)
    } catch let error as PreparationError {
      return failed("CreateContainerConfigError", "Error: \(error)")
    } catch let error as RuntimeError where error.code == .invalidConfiguration {
      return failed("CreateContainerConfigError", "Error: \(error)")
    } catch {
      return failed("CreateContainerError", "Error: \(error)")
    }
    lifecycle.started(name)
    announce("Created", "Created container: \(name)", container: name)
    do {
      try await runtime.startContainer(id)
      announce("Started", "Started container \(name)", container: name)
      await runPostStartHook(container, id)
    } catch {
      // The container has now ended with code 128: its restart follows the usual rules.
      announce("Failed", "Error: \(error)", container: name, isWarning: true)
    }
  }

  /// Finds or pulls an image by the container's policy; nil if it failed, which is noted then.
  private func image(
    for container: PodManifest.Container, failed: (String, String, String) -> Void
  ) async -> Image? {
    let reference = container.image
    let runtime = environment.runtime
    do {
      if container.pullPolicy != .always, let image = try await runtime.imageStatus(reference) {
        announce(
          "Pulled", "Container image \"\(reference)\" already present on machine",
          container: container.name)
        return image
      }
      if container.pullPolicy == .never {
        failed(
          "ErrImageNeverPull",
          "Container image \"\(reference)\" is not present with pull policy of Never",
          "ErrImageNeverPull")
        return nil
      }
      announce("Pulling", "Pulling image \"\(reference)\"", container: container.name)
      let image = try await runtime.pullImage(reference)
      announce(
        "Pulled",
        "Successfully pulled image \"\(reference)\" from the node's store. Image size: \(image.size) bytes.",
        container: container.name)
      return image
    } catch let error as ImageError where error.code == .invalidReference {
      failed(
        "InvalidImageName", "Failed to apply default image tag \"\(reference)\": \(error)",
        "InspectFailed")
    } catch {
      failed("ErrImagePull", "Failed to pull image \"\(reference)\": \(error)", "Failed")
    }
    return nil
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
