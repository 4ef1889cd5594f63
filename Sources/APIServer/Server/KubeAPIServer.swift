import EtcdClient
import Foundation
import HTTPServer
import KubeAPI
import Logging
import NIOPosix
import Primitives

/// The Kubernetes-style API server: everything that kubectl, the scheduler, the controllers and the nodes
/// do goes through it, and everything it knows is in an etcd-compatible store.
///
/// ```
/// HTTPListener ─▶ RequestRouter ─▶ ResourceService ─▶ StoreClient ─▶ store
///                  who, may they?    │  list, watch ◀── WatchCache ◀── one watch
///                                    └─ log ─▶ NodeConnector ─▶ node
/// ```
///
/// It keeps no state of its own but certificates and kubeconfig files (`ClusterPKI`), so several may run
/// on one store, and one may be replaced at any time.
public final class KubeAPIServer: Sendable {
  public struct Configuration: Sendable {
    /// Certificates and kubeconfig files.
    public var dataDirectory: String
    public var storeEndpoints: [StoreClient.Endpoint]
    /// For `https` endpoints of the store.
    public var storeTLS = HTTP2Transport.TLS()
    public var bindAddress = "127.0.0.1"
    /// 0 takes any free port.
    public var port = 6443
    /// What clients reach the server by; nil: the address that it binds, or this machine's loopback.
    public var advertiseAddress: String?
    /// Names and addresses to be added to the certificate.
    public var extraHosts: [String] = []
    /// The cluster addresses of services; its first one names the API itself.
    public var serviceRange = "10.96.0.0/12"
    /// The ports of nodes that services may take.
    public var servicePorts: ClosedRange<Int64> = 30_000...32_767
    /// A file of bearer tokens.
    public var tokenFile: String?
    /// Nodes to write credentials for.
    public var nodes: [Node] = []
    public var limits = HTTPLimits()
    /// How long new pods stay on a node that says it isn't ready, and on one that doesn't answer.
    public var notReadyTolerationSeconds: Int64 = 300
    public var unreachableTolerationSeconds: Int64 = 300
    /// Whether the server writes its address into the endpoints of the Service `kubernetes`.
    public var publishesAddress = true

    /// A node that is to join: its name and what the API server reaches it by.
    public struct Node: Sendable, Equatable {
      public var name: String
      public var addresses: [String]
      public init(name: String, addresses: [String]) {
        self.name = name
        self.addresses = addresses
      }
    }

    public init(dataDirectory: String, storeEndpoints: [StoreClient.Endpoint]) {
      self.dataDirectory = dataDirectory
      self.storeEndpoints = storeEndpoints
    }
  }

  private let configuration: Configuration
  private let listener: HTTPListener
  private let cache: WatchCache
  private let service: ResourceService
  private let health: HealthChecks
  private let pki: ClusterPKI
  private let logger: Logger

  /// Reads or makes the certificates and sets everything up; nothing runs yet.
  ///
  /// - Parameter store: for tests; nil connects to `configuration.storeEndpoints`.
  public init(
    _ configuration: Configuration, store: (any ObjectStore)? = nil,
    environment: Environment = Environment(), group: MultiThreadedEventLoopGroup = .singleton,
    logger: Logger = Logger(label: "martlet.apiserver")
  ) throws {
    self.configuration = configuration
    self.logger = logger
    pki = try ClusterPKI(directory: configuration.dataDirectory)
    guard let serviceRange = AddressRange(configuration.serviceRange) else {
      throw PKIError("the service range \(configuration.serviceRange) is no block of addresses")
    }
    let server = try pki.ensureServer(hosts: Self.hosts(configuration))
    let nodeClient = try pki.ensureNodeClient()
    var tokens = [
      try pki.ensureAdminToken(): UserInfo(name: "kubernetes-admin", groups: ["system:masters"])
    ]
    if let path = configuration.tokenFile {
      guard let data = FileManager.default.contents(atPath: path),
        let text = String(data: data, encoding: .utf8)
      else { throw PKIError("can't read the token file \(path)") }
      tokens.merge(try Authenticator.readTokenFile(text, path: path)) { _, new in new }
    }

    let store =
      store
      ?? StoreClient(
        endpoints: configuration.storeEndpoints,
        first: Int.random(in: 0..<configuration.storeEndpoints.count),
        connect: HTTP2Transport.connector(group: group, tls: configuration.storeTLS))
    let scheme: @Sendable () -> Scheme = { .builtIn }
    cache = WatchCache(
      store: store,
      layout: { scheme().storage },
      fieldIndex: { prefix, value in scheme().storage.fields(of: value, prefix: prefix) },
      logger: logger)
    service = ResourceService(
      scheme: scheme, store: store, cache: cache,
      allocation: ServiceAllocation(
        addresses: serviceRange, ports: configuration.servicePorts),
      tokens: try ServiceAccountTokens(pem: try pki.ensureTokenKey()),
      environment: environment.service,
      tolerations: Admission.Tolerations(
        notReadySeconds: configuration.notReadyTolerationSeconds,
        unreachableSeconds: configuration.unreachableTolerationSeconds),
      logger: logger)
    health = HealthChecks(cache: cache)
    let router = RequestRouter(
      service: service,
      authenticator: Authenticator(tokens: tokens) { [service] in await service.user(of: $0) },
      authorizer: ComponentAuthorizer(),
      documents: APIDocuments(
        scheme: scheme,
        serverAddress: "\(Self.advertised(configuration)):\(configuration.port)"),
      health: health,
      nodes: try NodeConnector(
        credential: nodeClient, authority: pki.authorityPEM, group: group),
      logger: logger)
    listener = HTTPListener(
      address: configuration.bindAddress, port: configuration.port,
      tls: TLSSettings(
        certificateChain: server.certificatePEM, privateKey: server.keyPEM,
        clientRoots: pki.authorityPEM, clientCertificates: .optional),
      limits: configuration.limits, group: group, logger: logger,
      onDrain: { [health, cache] in
        health.noteStopping()
        cache.stopWatching()
      }
    ) { request in await router.handle(request) }
  }

  /// Time and randomness.
  public struct Environment: Sendable {
    var service: ResourceService.Environment

    /// The machine's clock and its random numbers.
    public init() {
      service = ResourceService.Environment(
        now: {
          let time = Date().timeIntervalSince1970
          let seconds = time.rounded(.down)
          return Timestamp(
            secondsSinceEpoch: Int64(seconds),
            nanoseconds: Int64((time - seconds) * 1_000_000_000))
        },
        uid: { UUID().uuidString.lowercased() },
        random: { RandomSource(seed: UInt64.random(in: .min ... .max)) })
    }
  }

  private static func advertised(_ configuration: Configuration) -> String {
    if let address = configuration.advertiseAddress { return address }
    let any = ["0.0.0.0", "::", ""]
    return any.contains(configuration.bindAddress) ? "127.0.0.1" : configuration.bindAddress
  }

  private static func hosts(_ configuration: Configuration) -> [String] {
    var hosts = [
      "localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default",
      "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
    ]
    if let range = AddressRange(configuration.serviceRange) { hosts.append(range.address(0)) }
    hosts.append(ProcessInfo.processInfo.hostName)
    hosts.append(advertised(configuration))
    hosts += configuration.extraHosts
    var seen: Set<String> = []
    return hosts.filter { !$0.isEmpty && seen.insert($0).inserted }
  }

  // MARK: Running

  /// Opens the port and writes the kubeconfig files, which name it.
  ///
  /// - Returns: the port.
  @discardableResult
  public func bind() async throws -> Int {
    let port = try await listener.bind()
    let address = Self.advertised(configuration)
    let host = address.contains(":") ? "[\(address)]" : address
    let server = "https://\(host):\(port)"
    try pki.writeKubeconfig(
      "kubeconfig", user: "kubernetes-admin", credential: try pki.ensureAdmin(), server: server)
    try pki.writeKubeconfig(
      "scheduler.kubeconfig", user: "system:kube-scheduler",
      credential: try pki.ensureScheduler(), server: server)
    try pki.writeKubeconfig(
      "controller-manager.kubeconfig", user: "system:kube-controller-manager",
      credential: try pki.ensureControllerManager(), server: server)
    for node in configuration.nodes {
      try pki.writeKubeconfig(
        "node-\(node.name).kubeconfig", user: "system:node:\(node.name)",
        credential: try pki.ensureNode(name: node.name, addresses: node.addresses),
        server: server)
    }
    logger.info("serving", metadata: ["address": "\(server)"])
    return port
  }

  /// Serves until the surrounding task is cancelled; then drains and returns.
  public func run() async throws {
    try await bind()
    try await runBound()
  }

  /// As `run`, after `bind`.
  public func runBound() async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { [listener] in try await listener.run() }
      group.addTask { [cache] in await cache.run() }
      group.addTask { [self] in await watchStore() }
      group.addTask { [self] in
        await Bootstrap(
          service: service, health: health, address: Self.advertised(configuration),
          port: listener.boundPort ?? configuration.port,
          publishesAddress: configuration.publishesAddress, authorityPEM: pki.authorityPEM,
          logger: logger
        ).run()
      }
      // The listener's end is the server's.
      try await group.next()
      group.cancelAll()
    }
  }

  /// Asks the store for its revision from time to time, for the health checks.
  private func watchStore() async {
    while !Task.isCancelled {
      do throws(StoreError) {
        _ = try await service.revisions.read()
        health.noteStoreAnswered()
      } catch {
        health.noteStore(trouble: error.message)
      }
      try? await Task.sleep(for: .seconds(2))
    }
  }
}
