import KubeAPI
import KubeClient
import Logging

/// All controllers, in one process. Of several such processes one works: the holder of the lease.
public struct ControllerManager: Sendable {
  private let client: APIClient
  private let election: LeaderElection
  private let log: Logger

  /// - Parameter identity: this process, unlike any other.
  public init(client: APIClient, identity: String, log: Logger) {
    self.client = client
    self.log = log
    election = LeaderElection(
      name: "kube-controller-manager", identity: identity, client: client, log: log)
  }

  /// Runs until the task is cancelled.
  public func run() async {
    while !Task.isCancelled {
      let (client, log) = (client, log)
      await election.run { await Self.work(ControllerContext(client: client, log: log)) }
    }
  }

  private static func work(_ context: ControllerContext) async {
    let deployments = DeploymentController(context)
    let replicaSets = ReplicaSetController(context)
    let namespaces = NamespaceController(context)
    let nodes = NodeLifecycleController(context)
    let garbage = GarbageCollector(context)
    let endpoints = EndpointsController(context)
    let slices = EndpointSliceController(context)
    let mirrors = EndpointSliceMirroringController(context)
    let jobs = JobController(context)
    let jobCleanup = JobTTLController(context)
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await context.runInformers() }
      group.addTask { await garbage.runInformers() }
      await context.waitUntilSynced()
      group.addTask { await deployments.run() }
      group.addTask { await replicaSets.run() }
      group.addTask { await namespaces.run() }
      group.addTask { await nodes.run() }
      group.addTask { await garbage.run() }
      group.addTask { await endpoints.run() }
      group.addTask { await slices.run() }
      group.addTask { await mirrors.run() }
      group.addTask { await jobs.run() }
      group.addTask { await jobCleanup.run() }
    }
  }
}
