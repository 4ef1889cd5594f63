import ArgumentParser

/// The flags of `martlet store` that say who may do what, and how connections are secured.
struct StoreSecurityFlags: ParsableArguments {
  @Option(
    help: """
      Tokens that logins are answered with: 'simple', or 'jwt,sign-method=RS256,priv-key=FILE,pub-key=FILE,ttl=5m'.
      """)
  var authToken = "simple"

  @Option(help: "Seconds after its last use at which a member forgets a simple token.")
  var authTokenTtl: UInt64 = 300

  @Option(help: "How slow password hashes are: the logarithm of bcrypt's rounds, 4 to 31.")
  var bcryptCost = 10

  // MARK: The client port

  @Option(help: "Certificate (PEM) for https:// client URLs.")
  var certFile = ""

  @Option(help: "Key (PEM) of --cert-file.")
  var keyFile = ""

  @Option(help: "Certificates that clients' must lead to; asks clients for one.")
  var trustedCaFile = ""

  @Option(help: "Require clients' certificates; their common names are users.")
  var clientCertAuth = false

  @Option(help: "Revoked client certificates (PEM or DER).")
  var clientCrlFile = ""

  @Option(help: "Names for one of which a client's certificate must be good, separated by commas.")
  var clientCertAllowedHostname = ""

  @Option(help: "Make a certificate that signs itself for https:// client URLs.")
  var autoTls = false

  // MARK: The peer port

  @Option(help: "Certificate (PEM) for https:// peer URLs.")
  var peerCertFile = ""

  @Option(help: "Key (PEM) of --peer-cert-file.")
  var peerKeyFile = ""

  @Option(help: "Certificate for connections to other members (default: --peer-cert-file).")
  var peerClientCertFile = ""

  @Option(help: "Key of --peer-client-cert-file.")
  var peerClientKeyFile = ""

  @Option(help: "Certificates that other members' must lead to.")
  var peerTrustedCaFile = ""

  @Option(help: "Require other members' certificates.")
  var peerClientCertAuth = false

  @Option(help: "Revoked certificates of members (PEM or DER).")
  var peerCrlFile = ""

  @Option(help: "Common names that other members' certificates may have, separated by commas.")
  var peerCertAllowedCn = ""

  @Option(help: "Names for one of which other members' certificates must be good.")
  var peerCertAllowedHostname = ""

  @Option(help: "Make a certificate that signs itself for https:// peer URLs.")
  var peerAutoTls = false

  // MARK: Both

  @Option(help: "Years that certificates made by --auto-tls and --peer-auto-tls are valid.")
  var selfSignedCertValidity = 1

  @Option(help: "TLS 1.2 cipher suites, separated by commas (default: the usual ones).")
  var cipherSuites = ""

  @Option(help: "Oldest version of TLS: TLS1.2 or TLS1.3.")
  var tlsMinVersion = "TLS1.2"

  @Option(help: "Newest version of TLS: TLS1.2 or TLS1.3 (default: the newest there is).")
  var tlsMaxVersion = ""
}
