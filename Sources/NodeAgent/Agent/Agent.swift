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
    /// How often the lease is renewed; it lasts four times as long.
    static let leaseRenewal: Duration = .seconds(10)
    static let leaseSeconds = 40
    /// How often the node's status is written though nothing in it has changed.
    static let statusReport: Duration = .seconds(300)
    /// How long after a failed call to the API the next try comes.
    static let retry: Duration = .seconds(1)
  }

  private let settings: Settings
  private let client: APIClient
  private let runtime: CrunRuntime
  private let logger: Logger
  private let environment: PodWorker.Environment
  private let services: Informer
  private let workers = Mutex<[String: Running]>([:])

  private struct Running {
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
    environment = PodWorker.Environment(
      runtime: runtime,
      api: KubePodAPI(
        client: client, recorder: recorder, services: services,
        references: ReferencedObjects(client: client, log: logger)),
      paths: PodPaths(root: settings.directory), addresses: [settings.address],
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
    let server = AgentServer(runtime: runtime, logger: logger) {
      pods.get(namespace: $0, name: $1)
    }
    let listener = HTTPListener(
      address: settings.address, port: settings.port, tls: settings.tls, logger: logger
    ) { await server.respond(to: $0) }
    let port = try await listener.bind()
    logger.info("serving on \(settings.address):\(port)")

    pods.addHandler { [weak self] change in self?.podChanged(change) }
    // Not one of the group: without an API server it would wait for ever, and keep the agent from ending.
    Task { [weak self] in
      await pods.waitUntilSynced()
      self?.removeStrangers(known: Set(pods.list().compactMap { $0["metadata"]["uid"].string }))
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await listener.run() }
      group.addTask { await self.keepNode(port: port) }
      group.addTask { await self.keepLease() }
      group.addTask { await pods.run() }
      group.addTask { await self.services.run() }
      group.addTask { await self.passEvents() }
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

  // MARK: Pods

  private func podChanged(_ change: Informer.Change) {
    let object = change.object
    guard let uid = object["metadata"]["uid"].string else { return }
    switch change {
    case .added, .updated:
      if case .updated(let old, _) = change, let before = old["metadata"]["uid"].string,
        before != uid
      {
        // Deleted and made anew between two looks.
        markGone(before)
      }
      let known = ensureWorker(uid, object, isGone: false)
      if let known { Task { await known.update(object) } }
    case .deleted: markGone(uid)
    }
  }

  private func markGone(_ uid: String) {
    if let running = workers.withLock({ $0[uid] }) { Task { await running.worker.markGone() } }
  }

  /// Starts a worker for a pod. Returns the one there was before, if there was one.
  private func ensureWorker(_ uid: String, _ object: Value, isGone: Bool) -> PodWorker? {
    workers.withLock { workers in
      if let running = workers[uid] { return running.worker }
      let worker = PodWorker(object, isGone: isGone, environment: environment)
      let task = Task { [weak self] in
        await worker.run()
        self?.workers.withLock { _ = $0.removeValue(forKey: uid) }
      }
      workers[uid] = Running(worker: worker, task: task)
      return nil
    }
  }

  /// Sandboxes and files of pods that the API doesn't have (any more) on this node.
  private func removeStrangers(known: Set<String>) {
    var strangers: [String: (name: String, namespace: String)] = [:]
    for uid in environment.paths.knownUIDs() { strangers[uid] = ("", "") }
    for sandbox in runtime.pods() {
      strangers[sandbox.podUID] = (sandbox.podName, sandbox.podNamespace)
    }
    for (uid, pod) in strangers where !known.contains(uid) {
      logger.info("removing what is left of pod \(pod.namespace)/\(pod.name) (\(uid))")
      let object: Value = [
        "metadata": [
          "name": Value(pod.name), "namespace": Value(pod.namespace), "uid": Value(uid),
          "deletionTimestamp": Value(Timestamp.wallClock()), "deletionGracePeriodSeconds": 1,
        ]
      ]
      _ = ensureWorker(uid, object, isGone: true)
    }
  }

  private func passEvents() async {
    for await event in runtime.events {
      workers.withLock { $0[event.podUID]?.worker }?.poke()
    }
  }

  private func stopWorkers() async {
    let running = workers.withLock { Array($0.values) }
    for worker in running {
      worker.task.cancel()
      worker.worker.poke()
    }
    for worker in running { await worker.task.value }
  }

  /// Ends every pod on this node at once, as a machine that is switched off would, but tidily.
  private func stopPods() async {
    await withTaskGroup(of: Void.self) { group in
      for sandbox in runtime.pods() {
        group.addTask { [runtime, logger] in
          do {
            try await runtime.removePodSandbox(sandbox.id)
          } catch {
            logger.error("pod \(sandbox.podNamespace)/\(sandbox.podName): \(error)")
          }
        }
      }
    }
    runtime.removeNetwork()
  }

  // MARK: The node

  /// Registers the node, then keeps its status true.
  private func keepNode(port: Int) async {
    var isRegistered = false
    var hasWarned = false
    var lastReport: ContinuousClock.Instant?
    var lastStatus: Value = .null
    while !Task.isCancelled {
      let facts = MachineFacts.read(directory: settings.directory, addresses: [settings.address])
      let images = (try? await runtime.listImages()) ?? []
      let node = NodeObject(
        name: settings.nodeName, port: port, runtimeVersion: runtime.version,
        version: settings.version, images: images, podBlock: runtime.network?.settings.block)
      var delay = Limits.leaseRenewal
      do {
        if !isRegistered {
          try await register(node, facts)
          isRegistered = true
        }
        let known = try await client.get(.nodes, name: settings.nodeName)
        let status = node.status(facts, previous: known["status"], now: .wallClock())
        let comparable = Self.withoutHeartbeats(status)
        let isDue = lastReport.map { ContinuousClock.now - $0 >= Limits.statusReport } ?? true
        if isDue || comparable != lastStatus || !Self.isReady(known) {
          try await client.patch(
            .nodes, name: settings.nodeName, .merge, ["status": status], subresource: "status")
          lastReport = .now
          lastStatus = comparable
        }
        hasWarned = false
      } catch let error as StatusError where error.code == 404 {
        // Somebody deleted the node while it lives.
        isRegistered = false
        delay = Limits.retry
      } catch {
        // Once: an API server that is away is away for every try.
        if !hasWarned { logger.warning("the node's status could not be written: \(error)") }
        hasWarned = true
        delay = Limits.retry
      }
      try? await Task.sleep(for: delay)
    }
  }

  private func register(_ node: NodeObject, _ facts: MachineFacts) async throws {
    do {
      try await client.create(.nodes, node.object(facts, now: .wallClock()))
      logger.info("registered node \(settings.nodeName)")
    } catch let error as StatusError where error.code == 409 {
      try await client.patch(
        .nodes, name: settings.nodeName, .merge, ["metadata": ["labels": node.labels(facts)]])
      if let block = runtime.network?.settings.block {
        // It is written once: where another block was given before, the API server refuses.
        try await client.patch(
          .nodes, name: settings.nodeName, .merge,
          ["spec": ["podCIDR": Value(block.description), "podCIDRs": [Value(block.description)]]])
      }
    }
  }

  /// Routes the other nodes' pods to their nodes, which must be neighbours of this one.
  private func keepRoutes() async {
    let nodes = Informer(.nodes, client: client, log: logger)
    nodes.addHandler { [settings, runtime, logger] change in
      let node = change.object
      guard let network = runtime.network,
        node["metadata"]["name"].string != settings.nodeName,
        let block = node["spec"]["podCIDR"].string.flatMap({ IPv4Block($0) })
      else { return }
      if case .deleted = change { return network.deleteRoute(to: block) }
      let addresses = node["status"]["addresses"].elements
      guard
        let address = addresses.first(where: { $0["type"].string == "InternalIP" })?["address"]
          .string.flatMap({ IPv4Address($0) })
      else { return }
      if case .updated(let old, _) = change, old["status"]["addresses"] == node["status"]["addresses"],
        old["spec"]["podCIDR"] == node["spec"]["podCIDR"]
      {
        return
      }
      do {
        try network.addRoute(to: block, via: address)
      } catch {
        logger.warning("no route to the pods of node \(node["metadata"]["name"]): \(error)")
      }
    }
    await nodes.run()
  }

  private static func withoutHeartbeats(_ status: Value) -> Value {
    var status = status
    status["conditions"] = .array(
      status["conditions"].elements.map { condition in
        var condition = condition
        condition["lastHeartbeatTime"] = .null
        return condition
      })
    return status
  }

  private static func isReady(_ node: Value) -> Bool {
    node["status"]["conditions"].elements.contains {
      $0["type"].string == "Ready" && $0["status"].string == "True"
    }
  }

  /// Renews the lease by which the control plane sees that the node lives.
  private func keepLease() async {
    let namespace = "kube-node-lease"
    while !Task.isCancelled {
      var delay = Limits.leaseRenewal
      let spec: Value = [
        "holderIdentity": Value(settings.nodeName),
        "leaseDurationSeconds": Value(Limits.leaseSeconds),
        "renewTime": Value(Timestamp.wallClock().microDescription),
      ]
      do {
        do {
          try await client.patch(
            .leases, namespace: namespace, name: settings.nodeName, .merge, ["spec": spec])
        } catch let error as StatusError where error.code == 404 {
          try await client.create(
            .leases, namespace: namespace,
            [
              "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
              "metadata": ["name": Value(settings.nodeName), "namespace": Value(namespace)],
              "spec": spec,
            ])
        }
      } catch {
        logger.debug("the lease could not be renewed: \(error)")
        delay = Limits.retry
      }
      try? await Task.sleep(for: delay)
    }
  }
}
