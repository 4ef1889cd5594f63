import EtcdServer
import Logging
import NIOCore
import PeerTransport
import TransportSecurity

/// The TLS of a member's ports: what the flags and the URLs' schemes ask for.
struct StoreTLS: Sendable {
  private let clients: TransportSecurityContext?
  private let peers: TransportSecurityContext?
  private let namesUsers: Bool
  /// Peer addresses that were given as `https://`, as `host:port`.
  private let securedPeers: Set<String>
  /// What counts for peers that the flags don't name.
  private let securesUnknownPeers: Bool

  init(_ configuration: StoreConfiguration, log: Logger) throws {
    let security = configuration.security
    namesUsers = security.namesUsersByCertificate
    clients = try Self.context(
      security.clients,
      configuration.listenClients + configuration.operation.listenMetrics
        + configuration.operation.listenHTTP, configuration, folder: "client", log)
    let peerEndpoints =
      configuration.listenPeers + configuration.initialCluster.flatMap(\.urls)
    peers = try Self.context(
      security.peers, peerEndpoints, configuration, folder: "peer", log)
    securedPeers = Set(peerEndpoints.filter(\.isTLS).map { "\($0.host):\($0.port)" })
    securesUnknownPeers = configuration.listenPeers.contains(where: \.isTLS)
    for endpoint in configuration.listenClients where !endpoint.isTLS {
      if security.clients.hasCertificate || security.clients.isSelfSigned {
        log.warning(
          "a client URL is http:// and stays unsecured", metadata: ["url": "\(endpoint.url)"])
      }
    }
  }

  /// Nil where no URL asks for TLS.
  private static func context(
    _ options: TLSOptions, _ endpoints: [Endpoint], _ configuration: StoreConfiguration,
    folder: String, _ log: Logger
  ) throws -> TransportSecurityContext? {
    guard endpoints.contains(where: \.isTLS) else { return nil }
    var options = options
    do {
      if options.isSelfSigned {
        let hosts = Set(endpoints.map(\.host)).union(["localhost", "127.0.0.1", "::1"])
        (options.certificateFile, options.keyFile) = try SelfSignedCertificate.files(
          in: "\(configuration.dataDirectory)/fixtures/\(folder)", hosts: hosts.sorted(),
          years: configuration.security.selfSignedYears)
      }
      return try TransportSecurityContext(options, log: log)
    } catch {
      throw StartFailure("\(error)")
    }
  }

  /// What a connection accepted on a client URL gets first.
  func configure(_ endpoint: Endpoint) -> (@Sendable (any Channel) throws -> Void)? {
    guard endpoint.isTLS, let clients else { return nil }
    let namesUsers = namesUsers
    return { channel in
      let identity = ConnectionIdentity()
      try clients.secureAccepted(channel) { _, name in
        if namesUsers { identity.commonName = name }
      }
      try channel.pipeline.syncOperations.addHandler(identity)
    }
  }

  /// How connections between members are secured; nil if none is.
  var peerSecurity: PeerNetwork.Security? {
    guard let peers else { return nil }
    let secured = securedPeers
    let securesUnknown = securesUnknownPeers
    return PeerNetwork.Security(
      accepted: { channel, host, port in
        guard secured.contains("\(host):\(port)") else { return false }
        try peers.secureAccepted(channel)
        return true
      },
      dialled: { channel, host, port in
        guard secured.contains("\(host):\(port)") || securesUnknown else { return false }
        try peers.secureDialled(channel, host: host)
        return true
      })
  }
}
