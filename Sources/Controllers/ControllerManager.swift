import Certification
import KubeAPI
import KubeClient
import Logging

/// All controllers, in one process. Of several such processes one works: the holder of the lease.
public struct ControllerManager: Sendable {
  private let client: APIClient
  private let rootCertificates: String?
  private let monitoring: NodeMonitoring
  private let authority: CertificateAuthority?
  private let election: LeaderElection
  private let log: Logger

  /// The lease by which one of several is chosen.
  public static let election = LeaderElection.Settings(name: "kube-controller-manager")

  /// - Parameters:
  ///   - identity: this process, unlike any other.
  ///   - rootCertificates: what pods are to trust when they call the API server, in PEM.
  public init(
    client: APIClient, identity: String, election: LeaderElection.Settings = Self.election,
    rootCertificates: String? = nil, monitoring: NodeMonitoring = NodeMonitoring(),
    authority: CertificateAuthority? = nil, log: Logger
  ) {
    self.client = client
    self.rootCertificates = rootCertificates
    self.monitoring = monitoring
    self.authority = authority
    self.log = log
    self.election = LeaderElection(election, identity: identity, client: client, log: log)
  }

  /// Runs until the task is cancelled.
  public func run() async {
    while !Task.isCancelled {
      let (client, certificates, log) = (client, rootCertificates, log)
      await election.run { [monitoring, authority] in
        await Self.work(
          ControllerContext(
            client: client, rootCertificates: certificates, monitoring: monitoring,
            authority: authority, log: log))
      }
    }
  }

  private static func work(_ context: ControllerContext) async {
    // What each does is told where it is declared; all start once the caches are filled.
    let garbage = GarbageCollector(context)
    let controllers: [@Sendable () async -> Void] = [
      DeploymentController(context).run, ReplicaSetController(context).run,
      DaemonSetController(context).run, StatefulSetController(context).run,
      JobController(context).run, JobTTLController(context).run, CronJobController(context).run,
      EndpointsController(context).run, EndpointSliceController(context).run,
      EndpointSliceMirroringController(context).run, DisruptionController(context).run,
      NamespaceController(context).run, RootCertificateController(context).run,
      CertificateController(context).run, NodeLifecycleController(context).run,
      TaintEvictionController(context).run, PodGarbageController(context).run, garbage.run,
    ]
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await context.runInformers() }
      group.addTask { await garbage.runInformers() }
      await context.waitUntilSynced()
      for run in controllers { group.addTask { await run() } }
    }
  }
}
