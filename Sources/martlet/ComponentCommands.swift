import ArgumentParser
import Controllers
import EtcdServer
import KubeClient
import Logging
import Scheduler

#if canImport(Glibc)
  import Glibc
#endif

/// `martlet scheduler`: gives pods their nodes.
struct SchedulerCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scheduler",
    abstract: "Run the scheduler: gives each new pod a node.",
    discussion: """
      Several may run; the one that holds the Lease kube-system/kube-scheduler works.

        martlet scheduler --kubeconfig martlet-data/scheduler.kubeconfig
      """)

  @OptionGroup var component: ComponentOptions
  @OptionGroup var election: ElectionOptions

  func run() async throws {
    let election = try election.settings(PodScheduler.election)
    let (client, log) = try component.connect(as: "scheduler")
    await component.runUntilStopped {
      await PodScheduler(
        client: client, identity: ComponentOptions.identity, election: election, log: log
      ).run()
    }
  }
}

/// `martlet controllers`: makes the cluster what its objects say.
struct ControllersCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "controllers",
    abstract:
      "Run the controllers: workloads, services' endpoints, nodes, namespaces, garbage collection.",
    discussion: """
      Deployment, ReplicaSet, DaemonSet, StatefulSet, Job (and removal after they finish), CronJob,
      Endpoints, EndpointSlice (and mirroring), disruption budgets, namespaces, default service accounts,
      root certificates, node lifecycle, taint eviction, pod and object garbage collection.

      Several may run; the one that holds the Lease kube-system/kube-controller-manager works.

        martlet controllers --kubeconfig martlet-data/controller-manager.kubeconfig
      """)

  @OptionGroup var component: ComponentOptions
  @OptionGroup var election: ElectionOptions
  @OptionGroup var monitoring: NodeMonitoringFlags
  @OptionGroup var signing: SigningFlags

  func run() async throws {
    let election = try election.settings(ControllerManager.election)
    let monitoring = try monitoring.settings()
    let authority = try signing.authority()
    let (client, log) = try component.connect(as: "controllers")
    // The authority by which this process trusts the API server is the one that pods get, too.
    let certificates = component.kubeconfig.flatMap { try? Kubeconfig(path: $0).authorityPEM }
    await component.runUntilStopped {
      await ControllerManager(
        client: client, identity: ComponentOptions.identity, election: election,
        rootCertificates: certificates.map { String(decoding: $0, as: UTF8.self) },
        monitoring: monitoring, authority: authority, log: log
      ).run()
    }
  }
}

/// How one of several replicas is chosen, by the flags of Kubernetes' components.
struct ElectionOptions: ParsableArguments {
  @Option(
    help: "Whether to work only while holding the lease; false for a component that runs once.")
  var leaderElect = true

  @Option(help: "How long the others wait after they last saw the leader renew.")
  var leaderElectLeaseDuration = "15s"

  @Option(help: "How long the leader tries to renew before it stops working.")
  var leaderElectRenewDeadline = "10s"

  @Option(help: "The time between two attempts to take or to renew the lease.")
  var leaderElectRetryPeriod = "2s"

  @Option(help: "Name of the lease (default: kube-scheduler, kube-controller-manager).")
  var leaderElectResourceName: String?

  @Option(help: "Namespace of the lease.")
  var leaderElectResourceNamespace = "kube-system"

  /// - Throws: `UsageFailure` for times that make no sense.
  func settings(
    _ standard: LeaderElection.Settings
  ) throws -> LeaderElection.Settings {
    func duration(_ text: String, _ flag: String) throws -> Duration {
      guard let duration = GoDuration.parse(text) else {
        throw UsageFailure("--\(flag) '\(text)' is no duration such as 15s")
      }
      return duration
    }
    var settings = standard
    settings.isEnabled = leaderElect
    settings.leaseDuration = try duration(leaderElectLeaseDuration, "leader-elect-lease-duration")
    settings.renewDeadline = try duration(leaderElectRenewDeadline, "leader-elect-renew-deadline")
    settings.retryPeriod = try duration(leaderElectRetryPeriod, "leader-elect-retry-period")
    settings.name = leaderElectResourceName ?? standard.name
    settings.namespace = leaderElectResourceNamespace
    if leaderElect, let problem = settings.problem {
      throw UsageFailure("the flags --leader-elect-*: \(problem)")
    }
    return settings
  }

  /// Kubernetes' boolean flags stand alone or with a value behind `=`; the parser wants a value.
  static func normalise(_ arguments: [String]) -> [String] {
    guard ["scheduler", "controllers"].contains(arguments.first) else { return arguments }
    return arguments.map { $0 == "--leader-elect" ? "--leader-elect=true" : $0 }
  }
}

/// What every client of the API server takes.
struct ComponentOptions: ParsableArguments {
  @Option(help: "Kubeconfig file that says where the API server is and who this component is.")
  var kubeconfig: String?

  @Option(help: "debug, info, warning, error or critical.")
  var logLevel = "info"

  /// The log of this process; asked for once.
  func logger(for name: String) throws -> Logger {
    guard let level = Logger.Level(rawValue: logLevel) else {
      throw UsageFailure(
        "--log-level must be debug, info, warning, error or critical, not '\(logLevel)'")
    }
    var log = Logger(label: name) { StreamLogHandler.standardError(label: $0) }
    log.logLevel = level
    return log
  }

  /// - Parameter own: the kubeconfig where it isn't given by the flag.
  func connect(as name: String, kubeconfig own: String? = nil) throws -> (APIClient, Logger) {
    guard let path = own ?? kubeconfig else { throw UsageFailure("--kubeconfig is needed") }
    let log = try logger(for: name)
    do {
      let configuration = try Kubeconfig(path: path)
      return (try APIClient(configuration, userAgent: "martlet-\(name)"), log)
    } catch {
      throw StartFailure("\(error)")
    }
  }

  /// Runs `work`; cancels it when the process is asked to stop, and waits for its end.
  func runUntilStopped(_ work: @escaping @Sendable () async -> Void) async {
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await work() }
      group.addTask { await TerminationSignal.wait() }
      await group.next()
      group.cancelAll()
    }
  }

  /// This process among all that compete for a lease: host, process and moment.
  static var identity: String {
    var buffer = [CChar](repeating: 0, count: 256)
    gethostname(&buffer, buffer.count - 1)
    let host = String(
      decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    return "\(host)_\(getpid())_\(time(nil))"
  }
}
