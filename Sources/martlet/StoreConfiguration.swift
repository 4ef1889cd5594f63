import Logging
import Primitives
import Replica

/// The flags of `martlet store`, checked and made definite.
struct StoreConfiguration: Sendable {
  struct PeerAddress: Sendable, Equatable {
    var name: String
    var urls: [Endpoint]
  }

  var name: String
  var dataDirectory: String
  var listenClients: [Endpoint]
  var advertisedClients: [String]
  var listenPeers: [Endpoint]
  /// Every member of the new cluster, this one included.
  var initialCluster: [PeerAddress]
  var clusterToken: String
  var replica: ReplicaSettings
  var logLevel: Logger.Level
  /// Whether the member joins a cluster that runs already.
  var joinsExisting: Bool
  var maxRequestBytes: Int
  var maxTransactionOperations: Int
  var security: StoreSecurity
  var operation: StoreOperation

  init(_ flags: StoreCommand) throws {
    func list(_ flag: String, _ value: String) throws -> [Endpoint] {
      let urls = value.split(separator: ",", omittingEmptySubsequences: false)
      return try urls.map { try Endpoint(String($0), flag: flag) }
    }
    name = flags.name
    guard !name.isEmpty else { throw UsageFailure("--name must not be empty") }
    dataDirectory = flags.dataDir ?? "\(flags.name).martlet"
    listenClients = try list("--listen-client-urls", flags.listenClientUrls)
    advertisedClients = try list(
      "--advertise-client-urls", flags.advertiseClientUrls ?? flags.listenClientUrls
    ).map(\.url)
    listenPeers = try list("--listen-peer-urls", flags.listenPeerUrls)
    let ownPeerURLs = try list("--initial-advertise-peer-urls", flags.initialAdvertisePeerUrls)
    clusterToken = flags.initialClusterToken
    initialCluster = try StoreConfiguration.parseCluster(
      flags.initialCluster ?? "\(flags.name)=\(flags.initialAdvertisePeerUrls)")
    guard let own = initialCluster.first(where: { $0.name == flags.name }) else {
      throw UsageFailure(
        "--initial-cluster does not name this member: there is no '\(flags.name)=' in it "
          + "(--name says who this member is)")
    }
    guard Set(own.urls.map(\.url)) == Set(ownPeerURLs.map(\.url)) else {
      throw UsageFailure(
        "--initial-cluster has \(own.urls.map(\.url).joined(separator: ",")) for \(flags.name), but "
          + "--initial-advertise-peer-urls is \(flags.initialAdvertisePeerUrls); they must agree")
    }
    guard ["new", "existing"].contains(flags.initialClusterState) else {
      throw UsageFailure(
        "--initial-cluster-state must be 'new' or 'existing', not '\(flags.initialClusterState)'")
    }
    joinsExisting = flags.initialClusterState == "existing"
    let heartbeat = flags.heartbeatInterval
    let election = flags.electionTimeout
    guard heartbeat >= 1, heartbeat <= 60_000 else {
      throw UsageFailure("--heartbeat-interval must be 1 to 60000 (milliseconds)")
    }
    guard election <= 50_000 else {
      throw UsageFailure("--election-timeout must be at most 50000 (milliseconds)")
    }
    guard election >= 5 * heartbeat else {
      throw UsageFailure(
        "--election-timeout must be at least five times --heartbeat-interval, "
          + "or a lost heartbeat would start an election")
    }
    replica = ReplicaSettings()
    replica.name = flags.name
    replica.clientURLs = advertisedClients
    replica.heartbeatInterval = .milliseconds(Int64(heartbeat))
    replica.electionTimeout = .milliseconds(Int64(election))
    // Zero means the default, as in etcd.
    replica.snapshotCount = flags.snapshotCount == 0 ? nil : flags.snapshotCount
    guard let level = StoreConfiguration.logLevels[flags.logLevel] else {
      throw UsageFailure(
        "--log-level must be debug, info, warn, error, panic or fatal, not '\(flags.logLevel)'")
    }
    logLevel = level
    // As in etcd: zero is the default, less than zero none at all.
    replica.quotaBytes =
      flags.quotaBackendBytes == 0 ? 2 << 30 : UInt64(exactly: flags.quotaBackendBytes)
    guard flags.maxRequestBytes > 0, flags.maxRequestBytes <= 128 << 20 else {
      throw UsageFailure("--max-request-bytes must be 1 to 134217728")
    }
    maxRequestBytes = flags.maxRequestBytes
    guard flags.maxTxnOps > 0, flags.maxTxnOps <= 1 << 20 else {
      throw UsageFailure("--max-txn-ops must be 1 to 1048576")
    }
    maxTransactionOperations = flags.maxTxnOps
    operation = try StoreOperation(flags.operation)
    replica.autoCompaction = operation.compaction
    replica.checksReconfiguration = operation.checksReconfiguration
    replica.maximumLearners = operation.maximumLearners
    replica.levels = try StoreConfiguration.featureLevels()
    replica.stateCheckInterval = operation.stateCheckInterval
    security = try StoreSecurity(flags.security)
    let peerURLs = listenPeers + initialCluster.flatMap(\.urls)
    try security.check(
      clientURLs: listenClients + operation.listenMetrics + operation.listenHTTP, peerURLs: peerURLs)
    if let url = peerURLs.first(where: { $0.socketPath != nil }) {
      throw UsageFailure("\(url.url): members talk over TCP; unix sockets are for clients")
    }
  }

  /// The feature levels that this member is to know. For tests of members of different releases the environment
  /// may say so: `MARTLET_TEST_FEATURE_LEVELS=1-1` makes this release pass for one that knows no more.
  private static func featureLevels() throws -> ClosedRange<FeatureLevel> {
    guard let text = StoreFlags.environmentVariable("MARTLET_TEST_FEATURE_LEVELS") else {
      return FeatureLevel.known
    }
    let numbers = text.split(separator: "-").compactMap { UInt16($0) }
    guard numbers.count == 2, numbers[0] <= numbers[1] else {
      throw UsageFailure("MARTLET_TEST_FEATURE_LEVELS must be of the form LOWEST-HIGHEST, not '\(text)'")
    }
    return FeatureLevel(numbers[0])...FeatureLevel(numbers[1])
  }

  /// This member's peer URLs, as the cluster knows them.
  var ownPeerURLs: [String] { initialCluster.first { $0.name == name }!.urls.map(\.url) }

  private static let logLevels: [String: Logger.Level] = [
    "debug": .debug, "info": .info, "warn": .warning, "error": .error, "panic": .critical,
    "fatal": .critical,
  ]

  /// Reads `NAME=URL,NAME=URL...`; a name that comes again adds a URL.
  static func parseCluster(_ text: String) throws -> [PeerAddress] {
    var members: [PeerAddress] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      guard let equals = part.firstIndex(of: "="), equals != part.startIndex else {
        throw UsageFailure("--initial-cluster: '\(part)' is not of the form NAME=URL")
      }
      let name = String(part[..<equals])
      let endpoint = try Endpoint(
        String(part[part.index(after: equals)...]), flag: "--initial-cluster")
      if let position = members.firstIndex(where: { $0.name == name }) {
        members[position].urls.append(endpoint)
      } else {
        members.append(PeerAddress(name: name, urls: [endpoint]))
      }
    }
    return members
  }
}
