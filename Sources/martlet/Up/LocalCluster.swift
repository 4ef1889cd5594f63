import KubeAPI
import KubeClient
import Netfilter
import NodeAgent

#if canImport(Glibc)
  import Glibc
#endif

/// The processes of one local cluster: started in order, watched, stopped in reverse.
final class LocalCluster {
  private let shape: ClusterShape
  private var processes: [ManagedProcess] = []
  /// When a part that died may be started again, and how often it has died.
  private var restarts: [String: (at: ContinuousClock.Instant, count: Int)] = [:]
  private let clock = ContinuousClock()
  /// What connects the nodes; nil without nodes.
  private var bridge: ClusterBridge?
  /// The holders of the nodes' network namespaces.
  private var spaces: [ManagedProcess] = []

  /// How long a part may take to become ready before the start is given up.
  private static let startTimeout = Duration.seconds(60)
  /// How long a part may take to stop before it is killed.
  private static let stopTimeout = Duration.seconds(15)

  init(_ shape: ClusterShape) { self.shape = shape }

  func run() async throws {
    let began = clock.now
    let end = Task { await TerminationSignal.wait() }
    do {
      try await start(end)
    } catch {
      await stop()
      if end.isCancelled { return }
      throw error
    }
    print(greeting(after: clock.now - began))
    fflush(nil)
    await supervise(until: end)
    say("stopping")
    await stop()
    say("stopped; the data is in \(shape.directory)")
  }

  // MARK: Starting

  private func start(_ end: Task<Void, Never>) async throws {
    for member in shape.members {
      try launch(
        "store-\(member.name)",
        [
          "store", "--name", member.name, "--data-dir", shape.storeDirectory(member),
          "--listen-client-urls", member.clientURL, "--advertise-client-urls", member.clientURL,
          "--listen-peer-urls", member.peerURL, "--initial-advertise-peer-urls", member.peerURL,
          "--initial-cluster", shape.initialCluster, "--initial-cluster-token", "martlet-up",
        ])
    }
    for member in shape.members {
      try await wait("store member \(member.name)", "http://127.0.0.1:\(member.clientPort)") {
        HTTPProbe.get(port: member.clientPort, path: "/health")?.status == 200
      }
    }
    if shape.hasNode { try await makeNetwork() }
    var arguments = [
      "apiserver", "--etcd-servers", shape.endpoints, "--data-dir", shape.directory,
      "--secure-port", "\(shape.apiPort)", "--service-cluster-ip-range", ClusterShape.serviceRange,
    ]
    if let bridge {
      // Nodes and pods reach it by the bridge, this machine by the loopback too.
      arguments += [
        "--bind-address", "0.0.0.0", "--advertise-address", "\(bridge.address)",
      ]
      for (index, node) in shape.nodes.enumerated() {
        arguments += ["--node", "\(node.name)=\(bridge.address(ofNode: index))"]
      }
    }
    try launch("apiserver", arguments)
    var client: APIClient?
    try await wait("API server", "https://127.0.0.1:\(shape.apiPort)") {
      if client == nil, let kubeconfig = try? Kubeconfig(path: shape.kubeconfig) {
        client = try? APIClient(kubeconfig, userAgent: "martlet-up")
      }
      return await (try? client?.text("/readyz"))?.status == 200
    }
    try launch(
      "scheduler", ["scheduler", "--kubeconfig", shape.directory + "/scheduler.kubeconfig"])
    try launch(
      "controllers",
      [
        "controllers", "--kubeconfig", shape.directory + "/controller-manager.kubeconfig",
        "--cluster-signing-cert-file", shape.directory + "/pki/ca.crt",
        "--cluster-signing-key-file", shape.directory + "/pki/ca.key",
      ])
    try importImages()
    for index in shape.nodes.indices { try startNode(index) }
    let api = client!
    try await wait("scheduler and controllers", "leading") {
      for name in ["kube-scheduler", "kube-controller-manager"] {
        let lease = try? await api.get(.leases, namespace: "kube-system", name: name)
        guard let holder = lease?["spec"]["holderIdentity"].string, !holder.isEmpty else {
          return false
        }
      }
      return true
    }
    for node in shape.nodes {
      try await wait("node \(node.name)", "ready") {
        guard let node = try? await api.get(.nodes, name: node.name) else { return false }
        return node["status"]["conditions"].elements.contains {
          $0["type"].string == "Ready" && $0["status"].string == "True"
        }
      }
    }
  }

  /// Makes the bridge, and a network namespace for each node.
  private func makeNetwork() async throws {
    guard let block = ClusterBridge.freeBlock() else {
      throw StartFailure("no network 172.30.N.0/24 is free for the nodes of this cluster")
    }
    let bridge = ClusterBridge(name: shape.bridgeName, block: block)
    do { try bridge.create() } catch {
      throw StartFailure("the nodes' network can't be made: \(error)")
    }
    self.bridge = bridge
    for (index, node) in shape.nodes.enumerated() {
      let space = ManagedProcess(
        name: "network-\(node.name)",
        arguments: [
          "node-space", "--address", "\(bridge.address(ofNode: index))/\(block.prefixLength)",
          "--gateway", "\(bridge.address)",
        ], logPath: shape.logPath("network-\(node.name)"))
      space.hasOwnNetwork = true
      try space.start()
      processes.append(space)
      spaces.append(space)
      try plug(index)
      try await wait("network of \(node.name)", "\(bridge.address(ofNode: index))") {
        NodeSpace.isConfigured(pid: space.pid)
      }
      if let pods = IPv4Block(node.podBlock), !bridge.route(pods, toNode: index) {
        say("\(node.podBlock) is routed elsewhere: pods of \(node.name) can't be reached from here")
      }
    }
    if let services = IPv4Block(ClusterShape.serviceRange), !bridge.route(services, toNode: 0) {
      say("\(ClusterShape.serviceRange) is routed elsewhere: services can't be reached from here")
    }
    do {
      // Nodes reach what this machine reaches, by its address.
      try await NftCommand.run(Self.outboundRules(bridge))
    } catch {
      say("pods can't reach other networks: \(error)")
    }
  }

  private func plug(_ index: Int) throws {
    do { try bridge?.plug(index, pid: spaces[index].pid) } catch {
      throw StartFailure("\(shape.nodes[index].name) can't be connected: \(error)")
    }
  }

  private static func outboundRules(_ bridge: ClusterBridge) -> String {
    """
    add table ip \(bridge.name)
    delete table ip \(bridge.name)
    add table ip \(bridge.name)
    add chain ip \(bridge.name) out { type nat hook postrouting priority 100 ; }
    add rule ip \(bridge.name) out ip saddr \(bridge.block) oifname != "\(bridge.name)" masquerade

    """
  }

  private func removeNetwork() async {
    guard let bridge else { return }
    bridge.remove()
    try? await NftCommand.run("add table ip \(bridge.name)\ndelete table ip \(bridge.name)\n")
  }

  private func importImages() throws {
    guard shape.hasNode else { return }
    for image in shape.images {
      let importer = ManagedProcess(
        name: "image", arguments: ["image", "import", image, "--image-dir", shape.imageDirectory],
        logPath: shape.logPath("image"))
      try importer.start()
      while importer.isRunning {
        usleep(20_000)
        importer.poll()
      }
      guard importer.end == .code(0) else {
        throw StartFailure("image \(image) could not be imported: \(importer.logTail())")
      }
    }
  }

  private func startNode(_ index: Int) throws {
    let node = shape.nodes[index]
    let pki = shape.directory + "/pki"
    let kubeconfig = "\(shape.directory)/node-\(node.name).kubeconfig"
    guard let bridge else { return }
    try launch(
      "proxy-\(node.name)",
      [
        "proxy", "--kubeconfig", kubeconfig, "--node-name", node.name,
        "--cluster-cidr", ClusterShape.podRange,
      ], in: spaces[index])
    try launch(
      "node-\(node.name)",
      [
        "node", "--kubeconfig", kubeconfig, "--node-name", node.name,
        "--data-dir", shape.nodeDirectory(node), "--image-dir", shape.imageDirectory,
        "--address", "\(bridge.address(ofNode: index))", "--port", "\(shape.nodePort)",
        "--pod-cidr", node.podBlock, "--service-cidr", ClusterShape.serviceRange,
        "--tls-cert-file", "\(pki)/node-\(node.name).crt",
        "--tls-private-key-file", "\(pki)/node-\(node.name).key",
        "--client-ca-file", "\(pki)/ca.crt", "--stop-pods-on-exit",
      ], in: spaces[index])
  }

  private func launch(
    _ name: String, _ arguments: [String], in network: ManagedProcess? = nil
  ) throws {
    let process = ManagedProcess(
      name: name, arguments: arguments + (shape.extra[arguments[0]] ?? []),
      logPath: shape.logPath(name))
    process.network = network
    try process.start()
    processes.append(process)
  }

  /// Waits for `isReady`, showing how long it takes; fails with a part's last words if one dies.
  private func wait(
    _ what: String, _ detail: String, _ isReady: () async -> Bool
  ) async throws {
    let began = clock.now
    while await !isReady() {
      if Task.isCancelled { throw CancellationError() }
      for process in processes {
        process.poll()
        if let end = process.end {
          throw StartFailure(
            "\(process.name) ended with \(end) while starting. Its last lines "
              + "(\(process.logPath)): \(process.logTail())")
        }
      }
      guard clock.now - began < Self.startTimeout else {
        throw StartFailure(
          "\(what) was not ready after \(Self.startTimeout.components.seconds) s; see the logs in "
            + "\(shape.directory)/logs")
      }
      try? await Task.sleep(for: .milliseconds(50))
    }
    let taken = Double((clock.now - began) / .milliseconds(1)) / 1000
    say("\(what.padded(to: 28)) \(detail.padded(to: 28)) ready after \(rounded(taken)) s")
  }

  // MARK: Keeping it running

  private func supervise(until end: Task<Void, Never>) async {
    let stopping = Task {
      await end.value
      return true
    }
    let flag = StopFlag()
    Task {
      _ = await stopping.value
      await flag.raise()
    }
    while await !flag.isRaised {
      for process in processes {
        process.poll()
        guard let ended = process.end else { continue }
        if let restart = restarts[process.name], restart.at > clock.now { continue }
        if restarts[process.name] == nil || restarts[process.name]!.at <= clock.now {
          revive(process, ended)
        }
      }
      try? await Task.sleep(for: .milliseconds(100))
    }
  }

  /// Starts a dead part again, the later the more often it has died.
  private func revive(_ process: ManagedProcess, _ ended: ManagedProcess.End) {
    let count = (restarts[process.name]?.count ?? 0) + 1
    let pause = min(Duration.seconds(1) * (1 << min(count - 1, 4)), .seconds(15))
    restarts[process.name] = (clock.now + pause, count)
    say("\(process.name) ended with \(ended); starting it again")
    do {
      try process.start()
      if let index = spaces.firstIndex(where: { $0 === process }) {
        // A new network: those who were in the old one must come over.
        try plug(index)
        for other in processes where other.network === process { other.send(SIGTERM) }
      }
    } catch { say("\(error)") }
  }

  // MARK: Stopping

  /// Asks the parts to stop in reverse order of starting, the store last and together.
  private func stop() async {
    let store = processes.filter { $0.name.hasPrefix("store-") }
    // The nodes of a cluster stop together: each ends its pods.
    await end(processes.filter { $0.network != nil })
    for process in processes.reversed()
    where !process.name.hasPrefix("store-") && process.network == nil {
      await end([process])
    }
    await end(store)
    await removeNetwork()
  }

  private func end(_ group: [ManagedProcess]) async {
    for process in group { process.send(SIGTERM) }
    let deadline = clock.now + Self.stopTimeout
    while true {
      for process in group { process.poll() }
      guard group.contains(where: \.isRunning) else { return }
      if clock.now > deadline {
        for process in group where process.isRunning {
          say("\(process.name) does not stop; killing it")
          process.send(SIGKILL)
        }
      }
      // Not cancellable: stopping is what cancellation leads to.
      usleep(20_000)
    }
  }

  // MARK: What the user reads

  private func greeting(after duration: Duration) -> String {
    let relative = shape.kubeconfig
    var text = """

      The cluster is ready (\(rounded(Double(duration / .milliseconds(1)) / 1000)) s). In another terminal:

        export KUBECONFIG=\(relative)
        kubectl get nodes

      """
    if shape.hasNode {
      text += """
          kubectl apply -f Docs/Examples/hello.yaml
          kubectl get pods -w

        """
    }
    text += """

        export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=\(shape.endpoints)
        etcdctl put hello world
        etcdctl endpoint status -w table

      Logs are in \(shape.directory)/logs. Ctrl-C stops the cluster; its data stays.
      """
    return text
  }

  private func say(_ line: String) {
    print("martlet: \(line)")
    fflush(nil)
  }
}

/// Raised once, read by a loop.
private actor StopFlag {
  private(set) var isRaised = false
  func raise() { isRaised = true }
}

private func rounded(_ seconds: Double) -> String {
  let tenths = Int((seconds * 10).rounded())
  return "\(tenths / 10).\(tenths % 10)"
}

extension String {
  fileprivate func padded(to width: Int) -> String {
    count >= width ? self : self + String(repeating: " ", count: width - count)
  }
}
