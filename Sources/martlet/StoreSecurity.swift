import EtcdServer
import TransportSecurity

/// `StoreSecurityFlags`, checked and made definite.
struct StoreSecurity: Sendable {
  var authTokens: AuthTokenSettings
  /// How long a simple token lives after its last use.
  var tokenLifetime: Duration
  var bcryptCost: Int
  var clients: TLSOptions
  var peers: TLSOptions
  /// `--client-cert-auth`: a client's certificate names its user.
  var namesUsersByCertificate: Bool
  var selfSignedYears: Int

  init(_ flags: StoreSecurityFlags) throws {
    do { authTokens = try AuthTokenSettings(flag: flags.authToken) } catch {
      throw UsageFailure("\(error)")
    }
    guard (1...1_000_000_000).contains(flags.authTokenTtl) else {
      throw UsageFailure("--auth-token-ttl must be 1 to 1000000000 (seconds)")
    }
    tokenLifetime = .seconds(Int64(flags.authTokenTtl))
    guard (4...31).contains(flags.bcryptCost) else {
      throw UsageFailure("--bcrypt-cost must be 4 to 31")
    }
    bcryptCost = flags.bcryptCost
    namesUsersByCertificate = flags.clientCertAuth
    guard (1...100).contains(flags.selfSignedCertValidity) else {
      throw UsageFailure("--self-signed-cert-validity must be 1 to 100 (years)")
    }
    selfSignedYears = flags.selfSignedCertValidity

    let shared = try Self.sharedOptions(flags)
    clients = shared
    try clients.setFiles(flags.certFile, flags.keyFile, "--cert-file", "--key-file")
    clients.trustedCAFile = flags.trustedCaFile.nilIfEmpty
    clients.requiresClientCertificate = flags.clientCertAuth
    clients.revocationFile = flags.clientCrlFile.nilIfEmpty
    clients.allowedHostnames = flags.clientCertAllowedHostname.commaSeparated
    clients.isSelfSigned = flags.autoTls && !clients.hasCertificate

    peers = shared
    try peers.setFiles(
      flags.peerCertFile, flags.peerKeyFile, "--peer-cert-file", "--peer-key-file")
    guard flags.peerClientCertFile.isEmpty == flags.peerClientKeyFile.isEmpty else {
      throw UsageFailure("--peer-client-cert-file and --peer-client-key-file go together")
    }
    peers.clientCertificateFile = flags.peerClientCertFile.nilIfEmpty
    peers.clientKeyFile = flags.peerClientKeyFile.nilIfEmpty
    peers.trustedCAFile = flags.peerTrustedCaFile.nilIfEmpty
    peers.requiresClientCertificate = flags.peerClientCertAuth
    peers.revocationFile = flags.peerCrlFile.nilIfEmpty
    peers.allowedCommonNames = flags.peerCertAllowedCn.commaSeparated
    peers.allowedHostnames = flags.peerCertAllowedHostname.commaSeparated
    guard peers.allowedCommonNames.isEmpty || peers.allowedHostnames.isEmpty else {
      throw UsageFailure(
        "--peer-cert-allowed-cn and --peer-cert-allowed-hostname are mutually exclusive")
    }
    peers.isSelfSigned = flags.peerAutoTls && !peers.hasCertificate
    for (options, names) in [
      (clients, ["--client-crl-file", "--client-cert-allowed-hostname"]),
      (peers, ["--peer-crl-file", "--peer-cert-allowed-cn", "--peer-cert-allowed-hostname"]),
    ]
    where !options.verifiesClients
      && (options.revocationFile != nil || !options.allowedCommonNames.isEmpty
        || !options.allowedHostnames.isEmpty)
    {
      throw UsageFailure(
        "\(names.joined(separator: ", ")) look at certificates, which nobody is asked for: give a "
          + "trusted CA file too")
    }
  }

  /// Checks that URLs that ask for TLS can have it.
  func check(clientURLs: [Endpoint], peerURLs: [Endpoint]) throws {
    for (urls, options, flags) in [
      (clientURLs, clients, "--cert-file and --key-file, or --auto-tls"),
      (peerURLs, peers, "--peer-cert-file and --peer-key-file, or --peer-auto-tls"),
    ] {
      if let url = urls.first(where: \.isTLS), !options.hasCertificate, !options.isSelfSigned {
        throw UsageFailure("https:// URLs need a certificate (\(url.url)): give \(flags)")
      }
    }
  }

  private static func sharedOptions(_ flags: StoreSecurityFlags) throws -> TLSOptions {
    var options = TLSOptions()
    func version(_ flag: String, _ value: String) throws -> TLSOptions.Version? {
      if value.isEmpty { return nil }
      guard let version = TLSOptions.Version(rawValue: value) else {
        throw UsageFailure("\(flag) must be TLS1.2 or TLS1.3, not '\(value)'")
      }
      return version
    }
    options.minimumVersion = try version("--tls-min-version", flags.tlsMinVersion) ?? .tls12
    options.maximumVersion = try version("--tls-max-version", flags.tlsMaxVersion)
    guard options.minimumVersion == .tls12 || options.maximumVersion != .tls12 else {
      throw UsageFailure("--tls-min-version must not be above --tls-max-version")
    }
    options.cipherSuites = flags.cipherSuites.commaSeparated
    guard options.cipherSuites.isEmpty || options.minimumVersion == .tls12 else {
      throw UsageFailure(
        "--cipher-suites cannot be chosen with --tls-min-version TLS1.3, whose suites are fixed")
    }
    do { try options.checkCipherSuites() } catch { throw UsageFailure("--cipher-suites: \(error)") }
    return options
  }
}

extension TLSOptions {
  fileprivate mutating func setFiles(
    _ certificate: String, _ key: String, _ certificateFlag: String, _ keyFlag: String
  ) throws {
    guard certificate.isEmpty == key.isEmpty else {
      throw UsageFailure("\(certificateFlag) and \(keyFlag) go together: one is missing")
    }
    certificateFile = certificate.nilIfEmpty
    keyFile = key.nilIfEmpty
  }
}

extension String {
  fileprivate var nilIfEmpty: String? { isEmpty ? nil : self }
  fileprivate var commaSeparated: [String] { split(separator: ",").map(String.init) }
}
