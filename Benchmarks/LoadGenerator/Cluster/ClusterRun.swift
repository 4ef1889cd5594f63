import Foundation
import KubeAPI
import KubeClient
import Logging

/// Why a run gave no figures.
struct ClusterRunFailure: Error, CustomStringConvertible {
  var description: String
}

/// One run: nodes, a Deployment, its pods, and their end.
struct ClusterRun: Sendable {
  private let options: Cluster
  private let client: APIClient
  private let log: Logger
  private let namespace = "bench"
  private let pods: Informer
  private let counter = PodCounter()

  /// Requests under way for all nodes together.
  private static let concurrency = 16

  init(options: Cluster, client: APIClient, log: Logger) {
    self.options = options
    self.client = client
    self.log = log
    pods = Informer(.pods, client: client, namespace: namespace, log: log)
  }

  func execute() async throws -> ClusterReport {
    let nodes = (0..<options.nodes).map { SimulatedNode(number: $0, client: client, log: log) }
    let counter = counter
    pods.addHandler { counter.note($0) }
    return try await withThrowingTaskGroup(of: ClusterReport?.self) { group in
      group.addTask { [pods] in
        await pods.run()
        return nil
      }
      try await makeNamespace()
      var report = ClusterReport(options: options)
      var clock = Stopwatch(options.watch)
      try await register(nodes)
      report.add("nodes registered", options.nodes, clock.lap())
      await pods.waitUntilSynced()
      group.addTask {
        await live(nodes)
        return nil
      }
      group.addTask { [report, clock] in
        var (report, clock) = (report, clock)
        try await measure(&report, &clock)
        return report
      }
      defer { group.cancelAll() }
      while let result = try await group.next() {
        if let result { return result }
      }
      throw ClusterRunFailure(description: "the run was cancelled")
    }
  }

  // MARK: Nodes

  private func register(_ nodes: [SimulatedNode]) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (index, node) in nodes.enumerated() {
        if index >= Self.concurrency { try await group.next() }
        group.addTask { try await node.register() }
      }
      try await group.waitForAll()
    }
  }

  /// Renews all leases and, unless the nodes are passive, runs what is bound to them.
  private func live(_ nodes: [SimulatedNode]) async {
    let queue = WorkQueue<SimulatedNode.Turn>()
    let runner = Reconciler(
      name: "nodes", queue: queue, workers: Self.concurrency, log: log
    ) { try await nodes[$0.node].bringInLine($0.pod) }
    await withTaskGroup(of: Void.self) { group in
      let interval = Duration.seconds(options.renewInterval)
      for node in nodes {
        group.addTask { await node.renew(every: interval) }
        if !options.passive { group.addTask { await node.follow(queue) } }
      }
      group.addTask { await runner.run() }
    }
  }

  // MARK: The Deployment

  private func makeNamespace() async throws {
    do {
      try await client.create(
        .namespaces,
        ["kind": "Namespace", "apiVersion": "v1", "metadata": ["name": Value(namespace)]])
    } catch let error as StatusError where error.reason == .alreadyExists {
      throw ClusterRunFailure(
        description: "the namespace \(namespace) is there already: this is no fresh cluster")
    }
  }

  private var deployment: Value {
    [
      "kind": "Deployment", "apiVersion": "apps/v1",
      "metadata": ["name": "web", "namespace": Value(namespace), "labels": ["app": "web"]],
      "spec": [
        "replicas": Value(options.replicas), "selector": ["matchLabels": ["app": "web"]],
        "template": [
          "metadata": ["labels": ["app": "web"]],
          "spec": [
            "containers": [
              [
                "name": "web", "image": "registry.example/web:1.0",
                "ports": [["containerPort": 8080, "name": "http"]],
                "env": [["name": "MODE", "value": "production"]],
                "resources": [
                  "requests": ["cpu": "100m", "memory": "128Mi"], "limits": ["memory": "256Mi"],
                ],
              ]
            ]
          ],
        ],
      ],
    ]
  }

  private func measure(_ report: inout ClusterReport, _ clock: inout Stopwatch) async throws {
    // The watches of the nodes are there before the load comes.
    try await Task.sleep(for: .seconds(min(5, 0.5 + Double(options.nodes) / 500)))
    clock.restart()
    try await client.create(.deployments, namespace: namespace, deployment)
    try await reach(.created, &report, clock)
    try await reach(.bound, &report, clock)
    if !options.passive {
      try await reach(.running, &report, clock)
      try await waitUntilAvailable()
      report.add("available", options.replicas, clock.total())
    }
    if options.rest > 0 {
      // What the load left behind settles first.
      try await Task.sleep(for: .seconds(5))
      clock.restart()
      try await Task.sleep(for: .seconds(options.rest))
      report.rest = clock.total()
    }
    clock.restart()
    try await client.delete(
      .deployments, namespace: namespace, name: "web", propagation: "Background")
    if options.passive {
      // Nobody confirms the end of a pod on a node that runs nothing: the pods stay marked.
      return
    }
    try await reach(.gone, &report, clock)
  }

  private func reach(
    _ milestone: PodCounter.Milestone, _ report: inout ClusterReport, _ clock: Stopwatch
  ) async throws {
    let (counter, replicas) = (counter, options.replicas)
    try await within("\(milestone)") { await counter.wait(for: milestone, replicas) }
    report.add("\(milestone)", replicas, clock.total())
  }

  private func waitUntilAvailable() async throws {
    let (client, replicas, namespace) = (client, options.replicas, namespace)
    try await within("available") {
      while true {
        let deployment = try? await client.get(.deployments, namespace: namespace, name: "web")
        if deployment?["status"]["availableReplicas"].int == replicas { return }
        if (try? await Task.sleep(for: .milliseconds(20))) == nil { return }
      }
    }
  }

  /// Runs `body`, which can't be stopped, for as long as a phase may take.
  private func within(_ phase: String, _ body: @escaping @Sendable () async -> Void) async throws {
    let (done, signal) = AsyncStream.makeStream(of: Bool.self)
    Task {
      await body()
      signal.yield(true)
    }
    let timeout = Duration.seconds(options.timeout)
    let timer = Task {
      try await Task.sleep(for: timeout)
      signal.yield(false)
    }
    defer { timer.cancel() }
    for await isDone in done {
      if isDone { return }
      let reached = PodCounter.Milestone.allCases.map { "\(counter.count($0)) \($0)" }
      throw ClusterRunFailure(
        description: "phase \(phase) took longer than \(options.timeout) s: "
          + reached.joined(separator: ", ") + " of \(options.replicas)")
    }
  }
}

/// Time and resources since a moment.
struct Stopwatch: Sendable {
  private let processes: [Int32]
  private var start: ResourceSample

  init(_ processes: [WatchedProcess]) {
    self.processes = processes.map(\.pid)
    start = ResourceSample(processes: self.processes, disk: nil)
  }

  mutating func restart() { start = ResourceSample(processes: processes, disk: nil) }

  /// What was used since the start.
  func total() -> ClusterReport.Usage {
    let end = ResourceSample(processes: processes, disk: nil)
    return ClusterReport.Usage(from: start, to: end)
  }

  /// The same, and starts again.
  mutating func lap() -> ClusterReport.Usage {
    defer { restart() }
    return total()
  }
}
