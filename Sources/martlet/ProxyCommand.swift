import ArgumentParser
import KubeClient
import Netfilter
import NodeAgent
import ServiceProxy

#if canImport(Glibc)
  import Glibc
#endif

/// `martlet proxy`: leads packets that are sent to services to their pods.
struct ProxyCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "proxy",
    abstract: "Route services on this node: ClusterIPs and node ports, by nftables.",
    discussion: """
      Keeps the table 'ip martlet' what the cluster's services say; each change is one transaction, and no
      established connection meets it. Needs root and nft (apt-get install nftables).

        martlet proxy --kubeconfig node-a.kubeconfig --node-name a
      """)

  @OptionGroup var component: ComponentOptions

  @Option(help: "Name of the node (default: the host name).")
  var nodeName: String?

  @Option(help: "Addresses of all pods: what they send elsewhere gets the node's own address.")
  var clusterCidr: String?

  @Flag(help: "Take the rules away when the proxy ends. Without it services work on, as they were.")
  var removeRulesOnExit = false

  @Flag(help: "Take the rules away and end.")
  var cleanup = false

  func run() async throws {
    if let clusterCidr, IPv4Block(clusterCidr) == nil {
      throw UsageFailure(
        "--cluster-cidr must be a network such as 10.244.0.0/16, not '\(clusterCidr)'")
    }
    guard geteuid() == 0 else {
      throw StartFailure("routing services needs root: start this as root (or with sudo)")
    }
    guard NftCommand.path != nil else {
      throw StartFailure("nft is not installed: apt-get install nftables")
    }
    if cleanup {
      do { return try await NftCommand.run(NftScript.removal) } catch {
        throw StartFailure("\(error)")
      }
    }
    let (client, log) = try component.connect(as: "proxy")
    var settings = ServiceRouter.Settings(nodeName: (nodeName ?? Machine.hostname).lowercased())
    settings.network = NftScript.Network(pods: clusterCidr)
    settings.removesRulesOnExit = removeRulesOnExit
    let router = ServiceRouter(settings, client: client, log: log)
    await component.runUntilStopped { await router.run() }
  }
}

/// `martlet node-space`: the network namespace of one of several nodes on a machine. Started by `martlet up`.
struct NodeSpaceCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "node-space", abstract: "Hold a node's network namespace (started by up).",
    shouldDisplay: false)

  @Option(help: "The node's address and the length of its network's prefix.")
  var address: String

  @Option(help: "The default route.")
  var gateway: String

  func run() async throws {
    let parts = address.split(separator: "/")
    guard parts.count == 2, let own = IPv4Address(parts[0]), let length = Int(parts[1]),
      (1...32).contains(length), let router = IPv4Address(gateway)
    else { throw UsageFailure("--address and --gateway must be addresses") }
    do {
      try NodeSpace.configure(address: own, prefixLength: length, gateway: router)
    } catch {
      throw StartFailure("\(error)")
    }
    await TerminationSignal.wait()
  }
}
