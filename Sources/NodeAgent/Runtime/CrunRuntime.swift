import CLinux
import Glibc
import KubeAPI
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// Runs pods as Linux containers with crun, one ``Shim`` per pod.
///
/// Everything that matters lies on disk, in the sandboxes' directories (``SandboxFiles``), and in the
/// shims: this object is a cache of it with the connections to the shims. ``recover()`` builds it anew,
/// so that an agent can go and another come while pods run.
///
/// ```
///  agent ── CrunRuntime ──socket── shim (pod A) ── crun ── containers
///                      └──socket── shim (pod B) ── crun ── containers
/// ```
///
/// Blocking work (files, processes, unpacking) runs on a small pool of threads of its own.
public final class CrunRuntime: ContainerRuntime {
  public struct Settings: Sendable {
    /// Where sandboxes and crun's state live. On a file system that can carry overlay mounts.
    public var root: String
    public var images: ImageStore
    /// The command that runs a shim; the sandbox's directory is appended.
    public var shimCommand: [String]
    /// The addresses for this node's pods; nil gives pods no network but their loopback.
    public var podBlock: IPv4Block?
    /// The name of the bridge, at most 15 bytes.
    public var bridge = "martlet0"
    /// The addresses of services, to be routed to the bridge.
    public var serviceBlock: IPv4Block?
    /// The cgroup below which all pods' cgroups lie.
    public var cgroupParent = "/martlet"

    public init(root: String, images: ImageStore, shimCommand: [String]) {
      self.root = root
      self.images = images
      self.shimCommand = shimCommand
    }
  }

  enum Limits {
    /// Threads for blocking work: enough to start pods while a layer is unpacked.
    static let threads = 4
    /// How long a shim may take to come up, in milliseconds.
    static let shimStartMilliseconds: Int32 = 10_000
    /// How long a shim may take to end its containers, in milliseconds.
    static let shimEndMilliseconds: Int32 = 20_000
  }

  public let version: String
  public let events: AsyncStream<RuntimeEvent>
  private let eventSink: AsyncStream<RuntimeEvent>.Continuation

  let settings: Settings
  let crunPath: String
  let cgroups: Cgroups
  let network: PodNetwork?
  let hostPorts: HostPortTable
  let logger: Logger
  private let threads: NIOThreadPool
  let group: any EventLoopGroup
  let reaper = ChildReaper()
  let state = Mutex(State())

  struct State {
    var sandboxes: [SandboxID: Sandbox] = [:]
    var owners: [ContainerID: SandboxID] = [:]
  }

  struct Sandbox {
    let record: SandboxRecord
    var isReady: Bool
    /// Nil once the shim has ended.
    var client: ShimClient?
    var shim: ShimProcess?
    var containers: [ContainerID: (record: ContainerRecord, state: ContainerState)] = [:]
  }

  /// A shim as a process, for good: ids are reused, an id with its start time is not.
  struct ShimProcess: Sendable {
    var pid: pid_t
    var startTime: UInt64
    var isAlive: Bool { startTime != 0 && clinux_process_start_time(pid) == startTime }
  }

  /// Checks that the machine has what it takes.
  ///
  /// - Throws: ``RuntimeError`` with code `unavailable`, naming what is missing and what to do.
  public init(_ settings: Settings, group: any EventLoopGroup, logger: Logger) throws {
    guard geteuid() == 0 else {
      throw RuntimeError(
        .unavailable, "running containers needs root: start this as root (or with sudo)")
    }
    guard let crun = Program.find("crun") else {
      throw RuntimeError(.unavailable, "crun is not installed: apt-get install crun")
    }
    self.settings = settings
    self.logger = logger
    self.group = group
    crunPath = crun
    cgroups = Cgroups.detect()
    version = "crun://" + (Self.crunVersion(crun) ?? "unknown")
    network = settings.podBlock.map {
      PodNetwork(
        .init(block: $0, bridge: settings.bridge, services: settings.serviceBlock))
    }
    hostPorts = HostPortTable(bridge: settings.bridge)
    threads = NIOThreadPool(numberOfThreads: Limits.threads)
    // The consumer looks at everything again at each event: if it is slow, one is enough.
    (events, eventSink) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(4_096))
    do {
      try Disk.makeDirectories(sandboxesDirectory, mode: 0o700)
      try Disk.makeDirectories(settings.root + "/crun", mode: 0o700)
    } catch {
      throw RuntimeError(.system, error.description)
    }
    threads.start()
  }

  /// Closes the connections; pods run on.
  public func shutDown() async {
    let clients = state.withLock { state in
      let clients = state.sandboxes.values.compactMap(\.client)
      for id in state.sandboxes.keys { state.sandboxes[id]?.client = nil }
      return clients
    }
    for client in clients { client.close() }
    eventSink.finish()
    try? await threads.shutdownGracefully()
  }

  private static func crunVersion(_ path: String) -> String? {
    var ends: [Int32] = [-1, -1]
    guard clinux_pipe(&ends) == 0 else { return nil }
    defer { close(ends[0]) }
    var program = Program(path, ["--version"])
    program.output = ends[1]
    let pid = try? program.start()
    close(ends[1])
    guard let pid else { return nil }
    var status: Int32 = 0
    waitpid(pid, &status, 0)
    // "crun version 1.8.1" comes first.
    let output = (try? Descriptor(owning: dup(ends[0])).read(upTo: 4_096)) ?? []
    let words = String(decoding: output, as: UTF8.self).split(whereSeparator: \.isWhitespace)
    return words.count >= 3 ? String(words[2]) : nil
  }

  var sandboxesDirectory: String { settings.root + "/sandboxes" }
  func directory(_ id: SandboxID) -> String { "\(sandboxesDirectory)/\(id)" }

  /// Runs blocking work on the pool. A cancelled task waits for it too: half a sandbox, or half of its
  /// removal, is worth less than the time it takes to finish.
  func blocking<Result: Sendable>(
    _ work: @escaping @Sendable () throws -> Result
  ) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
      threads.submit { state in
        switch state {
        case .active: continuation.resume(with: Swift.Result { try work() })
        case .cancelled:
          continuation.resume(throwing: RuntimeError(.unavailable, "the runtime is shutting down"))
        }
      }
    }
  }

  func notify(_ uid: String) { eventSink.yield(RuntimeEvent(podUID: uid)) }

  static func newID() -> String {
    var random = SystemRandomNumberGenerator()
    return (0..<4).map { _ in
      let text = String(random.next() as UInt64, radix: 16)
      return String(repeating: "0", count: 16 - text.count) + text
    }.joined()
  }

  // MARK: Status

  public func pods() -> [SandboxStatus] {
    state.withLock { state in
      state.sandboxes.values.map(Self.status).sorted {
        ($0.createdAt, $0.id.rawValue) < ($1.createdAt, $1.id.rawValue)
      }
    }
  }

  public func pods(uid: String) -> [SandboxStatus] {
    pods().filter { $0.podUID == uid }
  }

  public func logPath(_ id: ContainerID) -> String? {
    state.withLock { state in
      state.owners[id].flatMap { state.sandboxes[$0]?.containers[id]?.record.logPath }
    }
  }

  private static func status(_ sandbox: Sandbox) -> SandboxStatus {
    let record = sandbox.record
    return SandboxStatus(
      id: record.id, podUID: record.uid, podName: record.name, podNamespace: record.namespace,
      attempt: record.attempt, isReady: sandbox.isReady, createdAt: record.createdAt,
      address: record.address?.description,
      containers: sandbox.containers.values.map { $0.record.status($0.state) }.sorted {
        ($0.createdAt, $0.id.rawValue) < ($1.createdAt, $1.id.rawValue)
      })
  }

  // MARK: Images

  public func imageStatus(_ reference: String) async throws -> Image? {
    let images = settings.images
    return try await blocking { try images.find(reference) }
  }

  public func listImages() async throws -> [Image] {
    let images = settings.images
    return try await blocking { try images.list() }
  }

  public func pullImage(_ reference: String) async throws -> Image {
    if let image = try await imageStatus(reference) { return image }
    let name = ImageName(reference)?.description ?? reference
    throw ImageError(
      .notFound,
      "failed to pull image \"\(name)\": not found in the node's image store "
        + "(import it with `martlet image import`; registries are not supported yet)")
  }

  // MARK: The shims' news

  /// Connects to the shim of a sandbox and follows its events.
  func connect(_ record: SandboxRecord) async throws -> ShimClient {
    let id = record.id
    let uid = record.uid
    return try await ShimClient.connect(
      directory: directory(id), group: group,
      onEvent: { [weak self] container, new in
        guard let self else { return }
        state.withLock { state in
          state.sandboxes[id]?.containers[container]?.state = new
        }
        notify(uid)
      },
      onEnd: { [weak self] in self?.shimHasEnded(id) })
  }

  /// A shim's connection has ended. If nobody asked it to end, the sandbox is lost.
  private func shimHasEnded(_ id: SandboxID) {
    let lost: SandboxRecord? = state.withLock { state in
      guard let sandbox = state.sandboxes[id], sandbox.client != nil else { return nil }
      state.sandboxes[id]?.client = nil
      return sandbox.isReady ? sandbox.record : nil
    }
    guard let lost else { return }
    logger.warning("the shim of pod \(lost.namespace)/\(lost.name) is gone; its sandbox is lost")
    Task {
      await abandon(lost)
      notify(lost.uid)
    }
  }

  /// Cleans up after a shim that died, and records its containers as ended.
  func abandon(_ record: SandboxRecord) async {
    let shim = state.withLock { $0.sandboxes[record.id]?.shim }
    try? await blocking { [self] in
      if let shim, shim.isAlive { kill(shim.pid, SIGKILL) }
      runShim(cleaningUp: record.id)
    }
    state.withLock { state in
      state.sandboxes[record.id]?.isReady = false
      guard let containers = state.sandboxes[record.id]?.containers else { return }
      for (id, container) in containers {
        state.sandboxes[record.id]?.containers[id]?.state = lastState(
          record.id, id, container.state)
      }
    }
    await releaseNetwork(record)
  }

  /// How a container ended whose shim is gone: what the shim wrote last, or that nobody knows.
  func lastState(
    _ sandbox: SandboxID, _ id: ContainerID, _ known: ContainerState
  ) -> ContainerState {
    let path = SandboxFiles.container(directory(sandbox), id) + "/status.json"
    var last = (try? Disk.readJSON(path)).flatMap { ContainerState($0) } ?? known
    if case .running(let since) = last.state {
      last.state = .exited(
        ContainerStatus.Exit(
          code: 137, startedAt: since, finishedAt: .wallClock(), reason: "ContainerStatusUnknown",
          message: "the container's supervisor ended before it; its exit code is not known"))
    }
    return last
  }

  /// Removes the bridge once no pod is left on it.
  public func removeNetwork() { network?.removeBridgeIfUnused() }

  func releaseNetwork(_ record: SandboxRecord) async {
    guard let network, let address = record.address else { return }
    await hostPorts.close(record.id)
    network.detach(record.id)
    network.release(address)
  }
}
