import KubeAPI
import KubeClient
import Logging
import Synchronization

/// Gives every new pod a node. Of several such processes one works: the holder of the lease.
///
/// Pods are decided one after the other from a snapshot that follows the caches; bindings travel in
/// the background. A pod that fits nowhere is tried again when something changed that might help, and
/// now and then.
public struct PodScheduler: Sendable {
  private let client: APIClient
  private let election: LeaderElection
  private let log: Logger

  static let name = "default-scheduler"

  /// The lease by which one of several is chosen.
  public static let election = LeaderElection.Settings(name: "kube-scheduler")

  /// - Parameter identity: this process, unlike any other.
  public init(
    client: APIClient, identity: String, election: LeaderElection.Settings = Self.election,
    log: Logger
  ) {
    self.client = client
    self.log = log
    self.election = LeaderElection(election, identity: identity, client: client, log: log)
  }

  /// Runs until the task is cancelled.
  public func run() async {
    while !Task.isCancelled {
      let (client, log) = (client, log)
      await election.run { await SchedulingLoop(client: client, log: log).run() }
    }
  }
}

/// One term of leadership.
final class SchedulingLoop: Sendable {
  private struct State {
    var snapshot = ClusterSnapshot()
    /// Pods that fit nowhere when last tried.
    var unschedulable: Set<ObjectKey> = []
    /// Where the next decision begins to look.
    var sample: Decision.Sample? = Decision.Sample(start: 0)
  }

  private let client: APIClient
  private let log: Logger
  private let events: EventRecorder
  private let pods: Informer
  private let nodes: Informer
  private let namespaces: Informer
  private let budgets: Informer
  private let state = Mutex(State())
  /// Pods that have been decided and whose binding is to be written.
  private let bindings = WorkQueue<ObjectKey>()
  private let queue = WorkQueue<ObjectKey>(firstRetry: .milliseconds(100), lastRetry: .seconds(10))

  /// How often pods that fit nowhere are tried again without a cause.
  private static let retryInterval = Duration.seconds(30)

  enum Limits {
    /// Bindings written at a time, each on a connection of its own.
    static let concurrentBindings = 16
  }

  init(client: APIClient, log: Logger) {
    self.client = client
    self.log = log
    events = EventRecorder(client: client, component: PodScheduler.name, log: log)
    pods = Informer(.pods, client: client, log: log)
    nodes = Informer(.nodes, client: client, log: log)
    namespaces = Informer(.namespaces, client: client, log: log)
    budgets = Informer(.disruptionBudgets, client: client, log: log)
    nodes.addHandler { [weak self] in self?.nodeChanged($0) }
    namespaces.addHandler { [weak self] change in
      let namespace = AnyObjectView(change.object)
      self?.state.withLock { $0.snapshot.namespaceLabels[namespace.name] = namespace.labels }
    }
    pods.addHandler { [weak self] in self?.podChanged($0) }
  }

  func run() async {
    let reconciler = Reconciler(name: "scheduler", queue: queue, workers: 1, log: log) {
      [self] in try await schedule($0)
    }
    let binder = Reconciler(
      name: "binder", queue: bindings, workers: Limits.concurrentBindings, log: log
    ) { [self] in await bind($0) }
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await self.pods.run() }
      group.addTask { await self.nodes.run() }
      group.addTask { await self.namespaces.run() }
      group.addTask { await self.budgets.run() }
      await pods.waitUntilSynced()
      await nodes.waitUntilSynced()
      await namespaces.waitUntilSynced()
      await budgets.waitUntilSynced()
      group.addTask { await reconciler.run() }
      group.addTask { await binder.run() }
      group.addTask {
        while !Task.isCancelled {
          try? await Task.sleep(for: Self.retryInterval)
          self.retryUnschedulable()
        }
      }
    }
  }

  // MARK: Following the cluster

  private func nodeChanged(_ change: Informer.Change) {
    let node = NodeView(change.object)
    let mayHelp = state.withLock { state in
      if case .deleted = change {
        state.snapshot.remove(node: node.name)
        return false
      }
      let before = state.snapshot.nodes[node.name]?.object
      state.snapshot.set(node: node)
      // Heartbeats change nothing that a pod waits for.
      guard let before else { return true }
      return before.isReady != node.isReady || before.taints != node.taints
        || before.isUnschedulable != node.isUnschedulable || before.labels != node.labels
        || before.allocatable != node.allocatable
    }
    if mayHelp { retryUnschedulable() }
  }

  private func podChanged(_ change: Informer.Change) {
    let pod = PodView(change.object)
    let isGone = if case .deleted = change { true } else { pod.isFinished }
    if isGone {
      let freed = state.withLock { state in
        state.unschedulable.remove(ObjectKey(pod.object))
        defer { state.snapshot.remove(pod: pod.uid) }
        return state.snapshot.place(of: pod.uid) != nil
      }
      if freed { retryUnschedulable() }
    } else if !pod.nodeName.isEmpty {
      state.withLock { $0.snapshot.place(pod, on: pod.nodeName) }
    } else if pod.schedulerName == PodScheduler.name, !pod.isBeingDeleted {
      queue.add(ObjectKey(pod.object))
    }
  }

  private func retryUnschedulable() {
    let keys = state.withLock { state in
      defer { state.unschedulable = [] }
      return state.unschedulable
    }
    // What matters most goes first.
    let waiting = keys.map { (key: $0, priority: pods.get($0).map { PodView($0).priority } ?? 0) }
    for item in waiting.sorted(by: { ($1.priority, $0.key) < ($0.priority, $1.key) }) {
      queue.add(item.key)
    }
  }

  // MARK: Deciding

  private func schedule(_ key: ObjectKey) async throws {
    guard let object = pods.get(key) else { return }
    let pod = PodView(object)
    guard pod.nodeName.isEmpty, !pod.isBeingDeleted, !pod.isFinished else { return }
    let decision = state.withLock { state -> Decision? in
      // Decided already; the binding is on its way.
      if state.snapshot.place(of: pod.uid) != nil { return nil }
      let decision = Decision.decide(pod, state.snapshot, sample: &state.sample)
      if case .bind(let node) = decision.outcome { state.snapshot.place(pod, on: node) }
      return decision
    }
    guard let decision else { return }
    switch decision.outcome {
    case .bind:
      bindings.add(key)
    case .unschedulable(let message):
      let preemption = preempt(for: pod)
      state.withLock { _ = $0.unschedulable.insert(key) }
      let count = decision.verdicts.count
      let text =
        preemption != nil || count == 0
        ? message
        : "\(message) preemption: 0/\(count) nodes are available: \(count) No preemption victims found "
          + "for incoming pod."
      events.record(object, .warning, reason: "FailedScheduling", message: text)
      try await markUnschedulable(pod, text, nominated: preemption?.node)
      if let preemption { try await evict(preemption, for: pod) }
    }
  }

  private func bind(_ key: ObjectKey) async {
    guard let pod = pods.get(key).map(PodView.init), pod.nodeName.isEmpty,
      let node = state.withLock({ $0.snapshot.place(of: pod.uid) })
    else { return }
    let binding: Value = [
      "apiVersion": "v1", "kind": "Binding",
      "metadata": [
        "name": Value(pod.name), "namespace": Value(pod.namespace), "uid": Value(pod.uid),
      ],
      "target": ["apiVersion": "v1", "kind": "Node", "name": Value(node)],
    ]
    do {
      try await client.create(
        .pods, namespace: pod.namespace, binding, name: pod.name, subresource: "binding")
      events.record(
        pod.object, .normal, reason: "Scheduled",
        message: "Successfully assigned \(pod.namespace)/\(pod.name) to \(node)")
    } catch {
      // The binding may have been written all the same; then the cache knows, or will tell.
      state.withLock { state in
        let isBound = pods.get(key).map { PodView($0) }.map {
          $0.uid == pod.uid && !$0.nodeName.isEmpty
        }
        if isBound != true { state.snapshot.remove(pod: pod.uid) }
      }
      if (error as? StatusError)?.code != 404 {
        log.warning("binding failed", metadata: ["pod": "\(pod.key)", "error": "\(error)"])
        queue.retry(key)
      }
    }
  }

  // MARK: Preemption

  /// Finds room for a pod that fits nowhere, and keeps it for it. One that waits for its victims to go is left
  /// to wait.
  private func preempt(for pod: PodView) -> Preemption? {
    let budgets = budgets.list()
    return state.withLock { state in
      let nominee = pod.object["status"]["nominatedNodeName"].string ?? ""
      if let node = state.snapshot.nodes[nominee],
        node.pods.values.contains(where: { $0.isBeingDeleted && $0.priority < pod.priority })
      {
        return nil
      }
      let found = Preemption.decide(pod, state.snapshot, budgets: budgets)
      if let found { state.snapshot.nominate(pod, for: found.node) }
      return found
    }
  }

  /// Ends the victims. The pod is tried again as each of them goes.
  private func evict(_ preemption: Preemption, for pod: PodView) async throws {
    for victim in preemption.victims {
      do {
        try await client.patch(
          .pods, namespace: victim.namespace, name: victim.name, .strategicMerge,
          [
            "metadata": ["uid": Value(victim.uid)],
            "status": [
              "conditions": [
                [
                  "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                  "message": "default-scheduler: preempting to accommodate a higher priority pod",
                  "lastTransitionTime": Value(Timestamp.now),
                ]
              ]
            ],
          ], subresource: "status")
        try await client.delete(
          .pods, namespace: victim.namespace, name: victim.name, uid: victim.uid)
        events.record(
          victim.object, .normal, reason: "Preempted",
          message: "Preempted by pod \(pod.uid) on node \(preemption.node)")
      } catch let error as StatusError where error.code == 404 || error.code == 409 {}
    }
  }

  private func markUnschedulable(
    _ pod: PodView, _ message: String, nominated: String?
  ) async throws {
    let known = pod.condition("PodScheduled")
    guard
      known?["status"] != "False" || known?["message"].string != message || nominated != nil
    else { return }
    try await client.patch(
      .pods, namespace: pod.namespace, name: pod.name, .strategicMerge,
      [
        "metadata": ["uid": Value(pod.uid)],
        "status": [
          "nominatedNodeName": nominated.map { Value($0) }
            ?? pod.object["status"]["nominatedNodeName"],
          "conditions": [
            [
              "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
              "message": Value(message), "lastTransitionTime": Value(Timestamp.now),
            ]
          ],
        ],
      ], subresource: "status")
  }
}
