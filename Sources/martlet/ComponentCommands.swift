import ArgumentParser
import Controllers
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

  func run() async throws {
    let (client, log) = try component.connect(as: "scheduler")
    await component.runUntilStopped {
      await PodScheduler(client: client, identity: ComponentOptions.identity, log: log).run()
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

  func run() async throws {
    let (client, log) = try component.connect(as: "controllers")
    // The authority by which this process trusts the API server is the one that pods get, too.
    let certificates = try? Kubeconfig(path: component.kubeconfig).authorityPEM
    await component.runUntilStopped {
      await ControllerManager(
        client: client, identity: ComponentOptions.identity,
        rootCertificates: certificates.map { String(decoding: $0, as: UTF8.self) }, log: log
      ).run()
    }
  }
}

/// What every client of the API server takes.
struct ComponentOptions: ParsableArguments {
  @Option(help: "Kubeconfig file that says where the API server is and who this component is.")
  var kubeconfig: String

  @Option(help: "debug, info, warning, error or critical.")
  var logLevel = "info"

  func connect(as name: String) throws -> (APIClient, Logger) {
    guard let level = Logger.Level(rawValue: logLevel) else {
      throw UsageFailure(
        "--log-level must be debug, info, warning, error or critical, not '\(logLevel)'")
    }
    LoggingSystem.bootstrap(StreamLogHandler.standardError)
    var log = Logger(label: name)
    log.logLevel = level
    do {
      let configuration = try Kubeconfig(path: kubeconfig)
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
