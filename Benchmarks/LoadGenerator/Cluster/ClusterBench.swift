import ArgumentParser
import Foundation
import Glibc
import KubeAPI
import KubeClient
import Logging

/// `martlet-bench cluster`: loads a control plane with simulated nodes and a Deployment, and measures.
///
/// # What it does
///
/// It registers nodes, keeps their leases renewed, makes a Deployment and counts its pods as the API shows
/// them: created, bound to a node, running. Everything goes through the API server, as with real nodes: each
/// node has a watch of its own for its pods and patches their status. Nothing runs in the pods.
///
/// # What it is careful about
///
/// - A figure belongs to its phase: processor time and memory of the watched processes are read at the
///   instant at which the last pod was created, was bound, ran.
/// - The simulated nodes need processor time too, which the control plane then lacks on a small machine. It is
///   told apart; with `--passive` the nodes only register and renew, and pods stay as the scheduler left them.
/// - It ends with an error where a pod is missing, rather than with a fast figure.
struct Cluster: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Loads a Kubernetes control plane with simulated nodes and a Deployment.")

  @Option(name: .long, help: "How to reach the API server as an administrator.")
  var kubeconfig: String

  @Option(name: .long, help: "Simulated nodes.")
  var nodes = 100

  @Option(name: .long, help: "Replicas of the Deployment.")
  var replicas = 2_000

  @Flag(name: .long, help: "Nodes register and renew their leases, but run no pods.")
  var passive = false

  @Option(name: .long, help: "Seconds between two renewals of a node's lease.")
  var renewInterval = 10.0

  @Option(name: .long, help: "Seconds that each phase may take.")
  var timeout = 300.0

  @Option(name: .long, help: "Seconds to measure the cluster at rest, with its nodes and pods.")
  var rest = 0.0

  @Option(
    name: .long, parsing: .upToNextOption,
    help: "Processes whose processor time and memory are reported, as NAME=PID.")
  var watch: [WatchedProcess] = []

  @Option(name: .long, help: "Also write the result as JSON to this file.")
  var json: String?

  func validate() throws {
    guard (1...20_000).contains(nodes) else { throw ValidationError("--nodes is 1 to 20,000") }
    guard (1...200_000).contains(replicas), replicas <= nodes * SimulatedNode.mostPods else {
      throw ValidationError(
        "--replicas is 1 to 200,000, and at most \(SimulatedNode.mostPods) a node")
    }
    guard renewInterval > 0, timeout > 0, rest >= 0 else {
      throw ValidationError("times are positive")
    }
  }

  func run() async throws {
    Self.raiseOpenFiles()
    var log = Logger(label: "bench")
    log.logLevel = .error
    let client = try APIClient(Kubeconfig(path: kubeconfig), userAgent: "martlet-bench")
    let run = ClusterRun(options: self, client: client, log: log)
    let report = try await run.execute()
    print(report.table)
    if let json {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
      try encoder.encode(report).write(to: URL(fileURLWithPath: json))
    }
  }

  /// Each node holds a connection.
  private static func raiseOpenFiles() {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }
}

/// A process to be watched, with the name that it has in the report.
struct WatchedProcess: ExpressibleByArgument, Sendable {
  var name: String
  var pid: Int32

  init?(argument: String) {
    let halves = argument.split(separator: "=")
    guard halves.count == 2, let pid = Int32(halves[1]) else { return nil }
    name = String(halves[0])
    self.pid = pid
  }
}
