import ArgumentParser
import KubeAPI
import KubeClient

#if canImport(Glibc)
  import Glibc
#endif

/// `martlet up`: a whole cluster on this machine.
struct UpCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "up",
    abstract: "Run a whole cluster on this machine: store, control plane and nodes.",
    discussion: """
      Starts three store members, API server, scheduler, controllers, and for each node an agent and a
      service proxy, each a process of its own, waits until all are ready, says what to type next, and
      keeps them running: a part that dies is started again. Each node has a network namespace of its own;
      a bridge connects them with this machine. Ctrl-C stops everything; the data stays in --data-dir for
      the next start.
      """)

  @Option(help: "Directory of the cluster's data, logs, certificates and kubeconfig.")
  var dataDir = "./martlet-data"

  @Option(
    help: "Client ports of the store's members; each also takes the port after it for its peers.")
  var storePorts = "2379,22379,32379"

  @Option(help: "Port of the API server.")
  var apiPort = 6443

  @Option(help: "Port of each node's own server (logs, exec), at the node's own address.")
  var nodePort = 10250

  @Option(help: "How many nodes to run.")
  var nodes = 1

  @Option(
    help: "Name of the node (default: the machine's host name); several are called NAME-1, NAME-2, ...")
  var nodeName: String?

  @Flag(help: "Run no node: store and control plane only. Needs neither root nor crun.")
  var noNode = false

  @Option(help: "OCI image layout to import for the node before it starts. May be repeated.")
  var preloadImage: [String] = []

  @Option(
    help: ArgumentHelp(
      """
      A further flag for all processes of one part: store, apiserver, scheduler, controllers, node or proxy. \
      May be repeated.
      """, valueName: "part.flag=value"))
  var extraConfig: [String] = []

  func run() async throws {
    let shape = try ClusterShape(self)
    try Preflight.check(shape)
    let cluster = LocalCluster(shape)
    try await cluster.run()
  }
}

/// The flags of `martlet up`, checked and made definite.
struct ClusterShape {
  struct Member {
    var name: String
    var clientPort: Int
    var peerPort: Int { clientPort + 1 }
    var clientURL: String { "http://127.0.0.1:\(clientPort)" }
    var peerURL: String { "http://127.0.0.1:\(peerPort)" }
  }

  struct Node {
    var name: String
    /// The addresses of its pods.
    var podBlock: String
    /// Its data, below the cluster's.
    var folder: String
  }

  static let mostNodes = 64

  /// Absolute, so that it means the same to every part.
  let directory: String
  let members: [Member]
  let apiPort: Int
  let nodePort: Int
  let nodes: [Node]
  var hasNode: Bool { !nodes.isEmpty }
  let images: [String]
  /// More flags for the processes, by part.
  let extra: [String: [String]]

  static let parts = ["store", "apiserver", "scheduler", "controllers", "node", "proxy"]

  init(_ flags: UpCommand) throws {
    let ports = flags.storePorts.split(separator: ",", omittingEmptySubsequences: false).map(
      String.init)
    var members: [Member] = []
    for (position, text) in ports.enumerated() {
      guard let port = Int(text), (1...65_534).contains(port) else {
        throw UsageFailure("--store-ports: '\(text)' is not a port from 1 to 65534")
      }
      members.append(Member(name: "m\(position + 1)", clientPort: port))
    }
    let all = members.flatMap { [$0.clientPort, $0.peerPort] } + [flags.apiPort, flags.nodePort]
    guard Set(all).count == all.count else {
      throw UsageFailure("the ports overlap: each store port also takes the one after it")
    }
    for port in [flags.apiPort, flags.nodePort] where !(1...65_535).contains(port) {
      throw UsageFailure("\(port) is not a port from 1 to 65535")
    }
    self.members = members
    apiPort = flags.apiPort
    nodePort = flags.nodePort
    images = flags.preloadImage
    var extra: [String: [String]] = [:]
    for text in flags.extraConfig {
      let halves = text.split(separator: ".", maxSplits: 1).map(String.init)
      guard halves.count == 2, Self.parts.contains(halves[0]), halves[1].contains("="),
        !halves[1].hasPrefix("-")
      else {
        throw UsageFailure(
          "--extra-config must be a part, a flag and its value such as "
            + "controllers.node-monitor-period=1s, not '\(text)'; parts are "
            + Self.parts.joined(separator: ", "))
      }
      extra[halves[0], default: []].append("--" + halves[1])
    }
    self.extra = extra
    if flags.dataDir.hasPrefix("/") {
      directory = flags.dataDir
    } else {
      guard let working = getcwd(nil, 0) else {
        throw StartFailure("the working directory is gone")
      }
      defer { free(working) }
      directory = String(cString: working) + "/" + flags.dataDir.drop { $0 == "." || $0 == "/" }
    }
    let nodeName: String
    if let name = flags.nodeName {
      nodeName = name
    } else {
      var buffer = [CChar](repeating: 0, count: 256)
      gethostname(&buffer, buffer.count - 1)
      let host = String(
        decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
      nodeName = host.isEmpty ? "node" : host.lowercased()
    }
    guard (1...Self.mostNodes).contains(flags.nodes) else {
      throw UsageFailure("--nodes must be a number from 1 to \(Self.mostNodes), not \(flags.nodes)")
    }
    let count = flags.noNode ? 0 : flags.nodes
    nodes = (0..<count).map { index in
      Node(
        name: count == 1 ? nodeName : "\(nodeName)-\(index + 1)",
        podBlock: "10.244.\(index).0/24", folder: count == 1 ? "node" : "node-\(index + 1)")
    }
  }

  static let podRange = "10.244.0.0/16"
  static let serviceRange = "10.96.0.0/12"

  /// The bridge's name, different for each data directory.
  var bridgeName: String {
    var hash: UInt32 = 0x811C_9DC5
    for byte in directory.utf8 { hash = (hash ^ UInt32(byte)) &* 0x0100_0193 }
    return "mup" + String(hash, radix: 36)
  }
  /// With one node its images lie with it; several share theirs.
  var imageDirectory: String { directory + (nodes.count == 1 ? "/node/images" : "/images") }
  func nodeDirectory(_ node: Node) -> String { "\(directory)/\(node.folder)" }

  var kubeconfig: String { directory + "/kubeconfig" }
  func storeDirectory(_ member: Member) -> String { "\(directory)/store/\(member.name)" }
  func logPath(_ name: String) -> String { "\(directory)/logs/\(name).log" }
  var initialCluster: String {
    members.map { "\($0.name)=\($0.peerURL)" }.joined(separator: ",")
  }
  var endpoints: String { members.map(\.clientURL).joined(separator: ",") }
}
