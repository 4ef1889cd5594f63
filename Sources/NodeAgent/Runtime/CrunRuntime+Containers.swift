import Glibc
import KubeAPI
import NIOPosix
import Synchronization

extension CrunRuntime {
  public func createContainer(
    in sandbox: SandboxID, _ configuration: ContainerConfiguration
  ) async throws -> ContainerID {
    guard
      let (record, shim) = state.withLock({ state in
        state.sandboxes[sandbox].flatMap { own in
          own.isReady ? own.shim.map { (own.record, $0) } : nil
        }
      })
    else { throw RuntimeError(.notFound, "sandbox \(sandbox) is not running") }
    let id = ContainerID(rawValue: Self.newID())
    let container = ContainerRecord(
      configuration, id: id, createdAt: .wallClock(), cgroupPath: "\(record.cgroupPath)/\(id)",
      stopSignal: try Self.signal(configuration.image.configuration.stopSignal))
    try await blocking { [self] in
      try prepare(configuration, container, record, shim)
    }
    state.withLock { state in
      state.owners[id] = sandbox
      state.sandboxes[sandbox]?.containers[id] = (container, .created)
    }
    return id
  }

  /// Writes a container's directory; `container.json` comes last and makes it one.
  private func prepare(
    _ configuration: ContainerConfiguration, _ container: ContainerRecord,
    _ sandbox: SandboxRecord, _ shim: ShimProcess
  ) throws {
    let directory = SandboxFiles.container(directory(sandbox.id), container.id)
    let images = settings.images
    let layers = configuration.image.layers.map { images.layerPath($0) }
    for layer in layers where !Disk.exists(layer) {
      throw RuntimeError(
        .system, "layer \(layer) of image \(configuration.imageReference) is missing")
    }
    let lookup = UserLookup(layers: layers)
    let identity = try lookup.resolve(
      configuration.image.configuration.user, userID: configuration.security.userID,
      groupID: configuration.security.groupID)
    if configuration.security.mustNotBeRoot, identity.user == 0 {
      throw RuntimeError(
        .invalidConfiguration,
        "container has runAsNonRoot and image will run as root (container: \(configuration.name))")
    }
    var namespaces: [(type: String, path: String)] = []
    if !sandbox.usesHostNetwork {
      namespaces.append(("network", "/proc/\(shim.pid)/ns/net"))
      namespaces.append(("uts", "/proc/\(shim.pid)/ns/uts"))
    }
    if !sandbox.usesHostIPC { namespaces.append(("ipc", "/proc/\(shim.pid)/ns/ipc")) }
    let bundle = RuntimeBundle(
      configuration: configuration, identity: identity, hostname: sandbox.hostname,
      usesHostPID: sandbox.usesHostPID, namespaces: namespaces, cgroups: cgroups,
      cgroupPath: container.cgroupPath, sandboxDirectory: self.directory(sandbox.id),
      containerDirectory: directory)
    let json = try bundle.json()
    do {
      try Disk.makeDirectories(directory, mode: 0o700)
      if let slash = container.logPath.lastIndex(of: "/") {
        try Disk.makeDirectories(String(container.logPath[..<slash]), mode: 0o755)
      }
      try Disk.write([], to: directory + "/termination-log", mode: 0o666)
      try Disk.write(json, to: directory + "/config.json")
      try Disk.write(container.json, to: directory + "/container.json")
    } catch {
      try? Disk.removeTree(directory)
      throw error
    }
  }

  public func startContainer(_ id: ContainerID) async throws {
    guard let client = client(of: id) else {
      throw RuntimeError(.notFound, "container \(id) has no running sandbox")
    }
    try await client.perform(.start(id))
  }

  public func stopContainer(_ id: ContainerID, timeout: Duration) async throws {
    guard let client = client(of: id) else { return }
    let (seconds, attoseconds) = timeout.components
    let milliseconds = seconds.multipliedReportingOverflow(by: 1_000)
    try await client.perform(
      .stop(
        id,
        milliseconds: milliseconds.overflow
          ? .max : milliseconds.partialValue + attoseconds / 1_000_000_000_000_000))
  }

  public func removeContainer(_ id: ContainerID) async throws {
    guard let sandbox = state.withLock({ $0.owners[id] }) else { return }
    if let client = client(of: id) { try await client.perform(.forget(id)) }
    let directory = SandboxFiles.container(directory(sandbox), id)
    let log = logPath(id)
    try await blocking {
      unlink(directory + "/container.json")
      try Disk.removeTree(directory)
      if let log { for path in [log] + ContainerLog.oldFiles(of: log) { unlink(path) } }
    }
    let uid = state.withLock { state in
      state.owners[id] = nil
      state.sandboxes[sandbox]?.containers[id] = nil
      return state.sandboxes[sandbox]?.record.uid
    }
    if let uid { notify(uid) }
  }

  private func client(of id: ContainerID) -> ShimClient? {
    state.withLock { state in state.owners[id].flatMap { state.sandboxes[$0]?.client } }
  }

  /// A signal by name (`SIGTERM`, `TERM`) or number; SIGTERM for an empty text.
  static func signal(_ text: String) throws -> Int32 {
    if text.isEmpty { return SIGTERM }
    if let number = Int32(text), (1...64).contains(number) { return number }
    let name = text.uppercased()
    let known: [String: Int32] = [
      "HUP": SIGHUP, "INT": SIGINT, "QUIT": SIGQUIT, "ABRT": SIGABRT, "KILL": SIGKILL,
      "USR1": SIGUSR1, "USR2": SIGUSR2, "ALRM": SIGALRM, "TERM": SIGTERM, "CONT": SIGCONT,
      "STOP": SIGSTOP, "WINCH": SIGWINCH, "PWR": SIGPWR, "RTMIN": 34, "RTMIN+3": 37,
    ]
    guard let number = known[name.hasPrefix("SIG") ? String(name.dropFirst(3)) : name] else {
      throw RuntimeError(.invalidConfiguration, "unknown stop signal \"\(text)\"")
    }
    return number
  }
}
