import HTTPServer
import KubeAPI
import KubeClient
import Logging
import Synchronization

/// The agent of one node: registers the machine, keeps its lease, and runs the pods that are bound to it.
///
/// Everything it does goes through the API server; everything it knows is in the API, in the runtime and
/// on disk, so it can be stopped and started at any moment while pods run:
///
/// ```
///   API server ──watch pods of this node──▶ one PodWorker per pod ──▶ ContainerRuntime
///        ▲  ▲                                       │   ▲                  │
///        │  └───── status, events ──────────────────┘   └──── events ──────┘
///        └── Node, Lease
///   API server ──logs──▶ AgentServer
/// ```
///
/// A pod that the API no longer has, but of which something is still here, gets a worker too, which
/// removes it: so nothing outlives a deletion that happened while the agent was away.
public final class Agent: Sendable {
  public struct Settings: Sendable {
    public var nodeName: String
    /// The agent's own directory.
    public var directory: String
    /// The node's address, for its status and its port.
    public var address: String
    public var port: Int
    public var tls: TLSSettings
    /// The Kubernetes version whose behaviour the agent has, for the Node's status.
    public var version: String
    /// Whether the end of the agent is the end of its pods.
    public var stopsPodsOnExit = false
    /// How long the node's lease lasts; it is renewed four times as often.
    public var leaseSeconds = 40
    /// How often the node is looked at for its status.
    public var statusInterval: Duration = .seconds(10)
    /// How often what pods use is looked at.
    public var samplingInterval: Duration = .seconds(10)
    /// A manifest of a static pod, or a directory of them; nil for none.
    public var manifestPath: String?
    /// How often that is read though nothing told of a change.
    public var manifestInterval: Duration = .seconds(20)

    public init(
      nodeName: String, directory: String, address: String, port: Int, tls: TLSSettings,
      version: String
    ) {
      self.nodeName = nodeName
      self.directory = directory
      self.address = address
      self.port = port
      self.tls = tls
      self.version = version
    }
  }

  enum Limits {
    /// How often the node's status is written though nothing in it has changed.
    static let statusReport: Duration = .seconds(300)
    /// How long after a failed call to the API the next try comes.
    static let retry: Duration = .seconds(1)
  }

  let settings: Settings
  let client: APIClient
  let runtime: CrunRuntime
  let logger: Logger
  let environment: PodWorker.Environment
  let services: Informer
  let mirrors: MirrorPods
  let staticPods = Mutex<StaticPods?>(nil)
  let workers = Mutex<[String: Running]>([:])

  struct Running {
    let worker: PodWorker
    let task: Task<Void, Never>
  }

  public init(_ settings: Settings, client: APIClient, runtime: CrunRuntime, logger: Logger) {
    self.settings = settings
    self.client = client
    self.runtime = runtime
    self.logger = logger
    let recorder = EventRecorder(
      client: client, component: "kubelet", host: settings.nodeName, log: logger)
    let resolver = (try? Disk.read("/etc/resolv.conf", limit: 64 << 10)) ?? []
    services = Informer(.services, client: client, log: logger)
    let api = KubePodAPI(
      client: client, recorder: recorder, services: services,
      references: ReferencedObjects(client: client, log: logger))
    mirrors = MirrorPods(client: client, base: api, nodeName: settings.nodeName)
    environment = PodWorker.Environment(
      runtime: runtime, api: api, paths: PodPaths(root: settings.directory), addresses: [settings.address],
      nodeName: settings.nodeName,
      resolverConfiguration: String(decoding: resolver, as: UTF8.self), logger: logger)
  }

  /// Runs until the task is cancelled.
  ///
  /// - Throws: if the port can't be opened or the runtime's records can't be read.
  public func run() async throws {
    try await runtime.recover()
    try runtime.network?.prepare()
    let pods = Informer(
      .pods, client: client, fieldSelector: "spec.nodeName=\(settings.nodeName)", log: logger)
    let sampler = ResourceSampler(runtime: runtime)
    let metrics = MetricsEndpoints(
      sampler: sampler, nodeName: settings.nodeName, directory: settings.directory)
    let server = AgentServer(runtime: runtime, metrics: metrics, logger: logger) {
      pods.get(namespace: $0, name: $1)
    }
    let listener = HTTPListener(
      address: settings.address, port: settings.port, tls: settings.tls, logger: logger
    ) { await server.respond(to: $0) }
    let port = try await listener.bind()
    logger.info("serving on \(settings.address):\(port)")

    let staticPods = makeStaticPods()
    pods.addHandler { [weak self] change in self?.podChanged(change) }
    // Not one of the group: without an API server it would wait for ever, and keep the agent from ending.
    Task { [weak self] in
      await pods.waitUntilSynced()
      let own = await staticPods?.uids() ?? []
      self?.removeStrangers(
        known: own.union(pods.list().compactMap { $0["metadata"]["uid"].string }))
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await listener.run() }
      group.addTask { try await self.keepNode(port: port) }
      group.addTask { await self.keepLease() }
      group.addTask { await pods.run() }
      group.addTask { await self.services.run() }
      group.addTask { await self.passEvents() }
      if let staticPods { group.addTask { await staticPods.run() } }
      group.addTask { await sampler.run(every: self.settings.samplingInterval) }
      if runtime.network != nil { group.addTask { await self.keepRoutes() } }
      // The first failure ends the agent; so does cancellation.
      do {
        for try await _ in group {}
      } catch {
        group.cancelAll()
        throw error
      }
    }
    await stopWorkers()
    // In a task of its own: this one is cancelled, and the calls would only hear that.
    if settings.stopsPodsOnExit { await Task { await self.stopPods() }.value }
    await runtime.shutDown()
  }
}
