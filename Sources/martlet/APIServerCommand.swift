import APIServer
import ArgumentParser
import EtcdClient
import Foundation
import KubeAPI
import Logging

/// `martlet apiserver`: the Kubernetes-style API over a store.
struct APIServerCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "apiserver",
    abstract: "Run the Kubernetes API server over a store (Martlet's or etcd).",
    discussion: """
      Over a store on this machine:

        martlet apiserver --etcd-servers http://127.0.0.1:2379 --data-dir ./apiserver
        kubectl --kubeconfig ./apiserver/kubeconfig get namespaces

      On its first start it makes a certificate authority in DATA-DIR/pki, certificates for itself, the
      administrator, the scheduler and the controllers, and a kubeconfig file for each of them in
      DATA-DIR. Certificates that are near their end are renewed at start. Clients identify themselves by
      certificate or by bearer token (DATA-DIR/pki/admin.token is the administrator's).
      """)

  @Option(help: "URLs of the store's members, separated by commas.")
  var etcdServers = "http://127.0.0.1:2379"

  @Option(help: "PEM file of the authorities that the store's certificates lead to (https).")
  var etcdCafile: String?

  @Option(help: "PEM file of the client certificate for the store (https).")
  var etcdCertfile: String?

  @Option(help: "PEM file of that certificate's key.")
  var etcdKeyfile: String?

  @Option(help: "Directory of certificates and kubeconfig files.")
  var dataDir = "martlet-apiserver"

  @Option(help: "Address to listen on; 0.0.0.0 or :: for all.")
  var bindAddress = "127.0.0.1"

  @Option(help: "Port to listen on.")
  var securePort = 6443

  @Option(help: "Address that clients reach this server by (default: the one listened on).")
  var advertiseAddress: String?

  @Option(help: "Further name or address for the certificate; may be repeated.")
  var certificateHost: [String] = []

  @Option(help: "Range of the services' cluster addresses; its first one names the API itself.")
  var serviceClusterIpRange = "10.96.0.0/12"

  @Option(help: "Range of the nodes' ports that services may take.")
  var serviceNodePortRange = "30000-32767"

  @Option(
    help:
      "How the server's address gets into the endpoints of the Service kubernetes: lease or none.")
  var endpointReconcilerType = "lease"

  @Option(help: "How long new pods stay on a node that isn't ready, in seconds.")
  var defaultNotReadyTolerationSeconds: Int64 = 300

  @Option(help: "How long new pods stay on a node that doesn't answer, in seconds.")
  var defaultUnreachableTolerationSeconds: Int64 = 300

  @Option(help: "File of bearer tokens: lines of token,user,uid,\"group1,group2\".")
  var tokenAuthFile: String?

  @Option(
    help: ArgumentHelp(
      "Node to write certificate and kubeconfig for; may be repeated.",
      valueName: "name[=address,...]"))
  var node: [String] = []

  @Option(help: "trace, debug, info, notice, warning, error or critical.")
  var logLevel = "info"

  func run() async throws {
    guard let level = Logger.Level(rawValue: logLevel) else {
      throw UsageFailure("--log-level '\(logLevel)' is none of trace, debug, info, warning, error")
    }
    OpenFiles.raiseLimit()
    var logger = Logger(label: "martlet.apiserver")
    logger.logLevel = level
    let server: KubeAPIServer
    do {
      server = try KubeAPIServer(try makeConfiguration(), logger: logger)
      try await server.bind()
    } catch let failure as UsageFailure {
      throw failure
    } catch {
      throw StartFailure("\(error)")
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.runBound() }
      group.addTask { await TerminationSignal.wait() }
      try await group.next()
      group.cancelAll()
    }
  }

  private func makeConfiguration() throws -> KubeAPIServer.Configuration {
    let endpoints = try etcdServers.split(separator: ",").map { text in
      guard let endpoint = StoreClient.Endpoint(String(text)) else {
        throw UsageFailure("--etcd-servers: '\(text)' is no URL such as http://127.0.0.1:2379")
      }
      return endpoint
    }
    guard !endpoints.isEmpty else { throw UsageFailure("--etcd-servers names no member") }
    guard (0...65_535).contains(securePort) else {
      throw UsageFailure("--secure-port \(securePort) is no port")
    }
    guard (etcdCertfile == nil) == (etcdKeyfile == nil) else {
      throw UsageFailure("--etcd-certfile and --etcd-keyfile go together")
    }
    var configuration = KubeAPIServer.Configuration(
      dataDirectory: dataDir, storeEndpoints: endpoints)
    configuration.storeTLS = HTTP2Transport.TLS(
      roots: try etcdCafile.map { try read($0, "--etcd-cafile") } ?? "",
      certificate: try etcdCertfile.map { try read($0, "--etcd-certfile") },
      key: try etcdKeyfile.map { try read($0, "--etcd-keyfile") })
    configuration.bindAddress = bindAddress
    configuration.port = securePort
    configuration.advertiseAddress = advertiseAddress
    configuration.extraHosts = certificateHost
    guard AddressRange(serviceClusterIpRange) != nil else {
      throw UsageFailure(
        "--service-cluster-ip-range '\(serviceClusterIpRange)' is no range such as 10.96.0.0/12")
    }
    configuration.serviceRange = serviceClusterIpRange
    let ports = serviceNodePortRange.split(separator: "-").compactMap { Int64($0) }
    guard ports.count == 2, ports[0] >= 1, ports[0] <= ports[1], ports[1] <= 65_535 else {
      throw UsageFailure(
        "--service-node-port-range '\(serviceNodePortRange)' is no range such as 30000-32767")
    }
    configuration.servicePorts = ports[0]...ports[1]
    guard ["lease", "none"].contains(endpointReconcilerType) else {
      throw UsageFailure("--endpoint-reconciler-type must be lease or none")
    }
    configuration.publishesAddress = endpointReconcilerType == "lease"
    configuration.tokenFile = tokenAuthFile
    guard defaultNotReadyTolerationSeconds >= 0, defaultUnreachableTolerationSeconds >= 0 else {
      throw UsageFailure("the default toleration times must not be negative")
    }
    configuration.notReadyTolerationSeconds = defaultNotReadyTolerationSeconds
    configuration.unreachableTolerationSeconds = defaultUnreachableTolerationSeconds
    configuration.nodes = try node.map { text in
      let halves = text.split(separator: "=", maxSplits: 1)
      guard let name = halves.first, !name.contains("/") else {
        throw UsageFailure("--node: '\(text)' is no node's name")
      }
      return KubeAPIServer.Configuration.Node(
        name: String(name),
        addresses: halves.count > 1 ? halves[1].split(separator: ",").map(String.init) : [])
    }
    return configuration
  }

  private func read(_ path: String, _ flag: String) throws -> String {
    guard let data = FileManager.default.contents(atPath: path),
      let text = String(data: data, encoding: .utf8)
    else { throw StartFailure("\(flag): can't read \(path)") }
    return text
  }
}
