import ArgumentParser
import HTTPServer
import KubeClient
import Logging
import NIOPosix
import NodeAgent

#if canImport(Glibc)
  import Glibc
#endif

/// `martlet node`: the agent of one machine.
struct NodeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "node",
    abstract: "Run pods on this machine: register it, and start what the scheduler binds to it.",
    discussion: """
      Pods run as Linux containers through crun, and go on while the agent is restarted. Needs root and
      crun (apt-get install crun). Images come from the node's own store: see 'martlet image --help'.

        martlet node --kubeconfig node-a.kubeconfig --node-name a --data-dir /var/lib/martlet/node \\
          --tls-cert-file node-a.crt --tls-private-key-file node-a.key --client-ca-file ca.crt

      A machine joins a running cluster with what 'martlet token create --print-join-command' prints; it gets
      its certificates from the cluster and keeps them in DATA-DIR/pki:

        martlet node --join https://10.0.0.1:6443 --token abcdef.0123456789abcdef \\
          --ca-cert-hash sha256:... --pod-cidr 10.244.3.0/24
        martlet proxy --kubeconfig martlet-node/node.kubeconfig
      """)

  @OptionGroup var component: ComponentOptions

  @Option(help: "Name of the node (default: the host name).")
  var nodeName: String?

  @Option(help: "Directory for pods, their logs, and images.")
  var dataDir = "martlet-node"

  @Option(help: "Port for the API server's requests; 0 takes any free one.")
  var port = 10250

  @Option(help: "Address of the node (default: that of the default route, or 127.0.0.1).")
  var address: String?

  @Option(help: "PEM file of the port's certificate, and of those that lead to its authority.")
  var tlsCertFile: String?

  @Option(help: "PEM file of that certificate's key.")
  var tlsPrivateKeyFile: String?

  @Option(help: "PEM file of the authority that the API server's client certificate leads to.")
  var clientCaFile: String?

  @Option(help: "URL of the API server of a cluster to join, instead of a kubeconfig and certificates.")
  var join: String?

  @Option(help: "Bootstrap token for --join; not needed any more once the node has joined.")
  var token: String?

  @Option(help: "Hash of the cluster's authority for --join: sha256: and 64 hexadecimal digits.")
  var caCertHash: String?

  @Option(help: "Directory of the image store (default: DATA-DIR/images).")
  var imageDir: String?

  @Option(help: "Addresses for this node's pods.")
  var podCidr = "10.244.0.0/24"

  @Option(help: "Addresses of services, which 'martlet proxy' on this node serves.")
  var serviceCidr = "10.96.0.0/12"

  @Option(help: "Name of the bridge that connects the pods.")
  var bridge = "martlet0"

  @Option(help: "The cgroup below which the pods' cgroups lie.")
  var cgroupRoot = "/martlet"

  @Option(help: "How long the node's lease lasts, in seconds; it is renewed four times as often.")
  var nodeLeaseDurationSeconds = 40

  @Option(help: "How often the node is looked at for its status.")
  var nodeStatusUpdateFrequency = "10s"

  @Option(help: "How often what pods use is looked at, for kubectl top.")
  var housekeepingInterval = "10s"

  @Option(help: "A manifest of a static pod, or a directory of them.")
  var podManifestPath: String?

  @Option(help: "How often the manifests are read though nothing told of a change.")
  var fileCheckFrequency = "20s"

  @Flag(
    help: "End all pods when the agent ends. Without it they go on, and the next agent finds them.")
  var stopPodsOnExit = false

  func run() async throws {
    guard (0...65_535).contains(port) else { throw UsageFailure("--port \(port) is no port") }
    guard let block = IPv4Block(podCidr), block.prefixLength <= 29 else {
      throw UsageFailure(
        "--pod-cidr must be a network of at least 8 addresses such as 10.244.0.0/24, "
          + "not '\(podCidr)'")
    }
    guard let services = IPv4Block(serviceCidr) else {
      throw UsageFailure(
        "--service-cidr must be a network such as 10.96.0.0/12, not '\(serviceCidr)'")
    }
    guard (1...15).contains(bridge.utf8.count), !bridge.contains("/") else {
      throw UsageFailure("--bridge must have 1 to 15 characters, not '\(bridge)'")
    }
    guard cgroupRoot.hasPrefix("/"), cgroupRoot.count > 1, !cgroupRoot.contains("..") else {
      throw UsageFailure("--cgroup-root must be a path such as /martlet, not '\(cgroupRoot)'")
    }
    guard (1...3_600).contains(nodeLeaseDurationSeconds) else {
      throw UsageFailure("--node-lease-duration-seconds must be a number from 1 to 3600")
    }
    let statusInterval = try NodeMonitoringFlags.duration(
      nodeStatusUpdateFrequency, "--node-status-update-frequency")
    let directory = NodeFiles.absolute(dataDir)
    let name = (nodeName ?? Machine.hostname).lowercased()
    let credentials = try await credentials(name: name, directory: directory)
    let tls = TLSSettings(
      certificateChain: try read(credentials.certificate, "--tls-cert-file"),
      privateKey: try read(credentials.key, "--tls-private-key-file"),
      clientRoots: try read(credentials.authority, "--client-ca-file"),
      clientCertificates: .required)
    let (client, log) = try component.connect(as: "node", kubeconfig: credentials.kubeconfig)

    let images = ImageStore(root: imageDir.map(NodeFiles.absolute) ?? directory + "/images")
    var runtimeSettings = CrunRuntime.Settings(
      root: directory + "/runtime", images: images,
      shimCommand: [NodeFiles.ownExecutable, "shim"])
    runtimeSettings.podBlock = block
    runtimeSettings.serviceBlock = services
    runtimeSettings.bridge = bridge
    runtimeSettings.cgroupParent = cgroupRoot
    var settings = Agent.Settings(
      nodeName: name, directory: directory,
      address: address ?? Machine.address() ?? "127.0.0.1", port: port, tls: tls,
      version: "v\(Version.kubernetes).0")
    settings.stopsPodsOnExit = stopPodsOnExit
    settings.leaseSeconds = nodeLeaseDurationSeconds
    settings.statusInterval = statusInterval
    settings.manifestPath = podManifestPath.map(NodeFiles.absolute)
    settings.manifestInterval = try NodeMonitoringFlags.duration(
      fileCheckFrequency, "--file-check-frequency")
    settings.samplingInterval = try NodeMonitoringFlags.duration(
      housekeepingInterval, "--housekeeping-interval")
    let agent: Agent
    do {
      let runtime = try CrunRuntime(
        runtimeSettings, group: MultiThreadedEventLoopGroup.singleton, logger: log)
      agent = Agent(settings, client: client, runtime: runtime, logger: log)
    } catch {
      throw StartFailure("\(error)")
    }
    do {
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await agent.run() }
        group.addTask { await TerminationSignal.wait() }
        try await group.next()
        group.cancelAll()
        // The agent still ends its pods, if it is to.
        try await group.waitForAll()
      }
    } catch {
      throw StartFailure("\(error)")
    }
  }

  private struct Files {
    var kubeconfig: String?
    var certificate: String
    var key: String
    var authority: String
  }

  /// The files that were given, or those that joining gets.
  private func credentials(name: String, directory: String) async throws -> Files {
    guard let join else {
      guard let certificate = tlsCertFile, let key = tlsPrivateKeyFile, let authority = clientCaFile
      else {
        throw UsageFailure(
          "--tls-cert-file, --tls-private-key-file and --client-ca-file are needed, or --join")
      }
      return Files(certificate: certificate, key: key, authority: authority)
    }
    guard join.hasPrefix("https://"), !join.dropFirst("https://".count).contains("/") else {
      throw UsageFailure("--join must be a URL such as https://10.0.0.1:6443, not '\(join)'")
    }
    if let caCertHash {
      let digits = caCertHash.lowercased().dropFirst("sha256:".count)
      guard caCertHash.hasPrefix("sha256:"), digits.utf8.count == 64, digits.allSatisfy(\.isHexDigit)
      else { throw UsageFailure("--ca-cert-hash must be sha256: and 64 hexadecimal digits") }
    }
    do {
      let given = try await NodeJoin(
        server: join, token: token, authorityHash: caCertHash, nodeName: name, directory: directory,
        logger: try component.logger(for: "node")
      ).run()
      return Files(
        kubeconfig: given.kubeconfig, certificate: given.servingCertificate, key: given.servingKey,
        authority: given.authority)
    } catch let failure as UsageFailure {
      throw failure
    } catch {
      throw StartFailure("joining the cluster: \(error)")
    }
  }

  private func read(_ path: String, _ flag: String) throws -> String {
    guard let text = NodeFiles.text(path) else { throw StartFailure("\(flag): can't read \(path)") }
    return text
  }
}

/// `martlet shim`: what a pod's sandbox is. Started by the agent, never by hand.
struct ShimCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "shim", abstract: "Hold one pod's sandbox (started by the node agent).",
    shouldDisplay: false)

  @Flag(help: "Undo what a shim that died has left.")
  var cleanUp = false

  @Argument(help: "The sandbox's directory.")
  var directory: String

  func run() throws {
    let code = cleanUp ? Shim.cleanUp(directory: directory) : Shim.run(directory: directory)
    throw ExitCode(code)
  }
}
