/// How one port encrypts, as etcd's flags say it: its own certificate, and whose it takes.
public struct TLSOptions: Sendable {
  public enum Version: String, Sendable, CaseIterable {
    case tls12 = "TLS1.2"
    case tls13 = "TLS1.3"
  }

  /// Files in PEM form; both or none are given.
  public var certificateFile: String?
  public var keyFile: String?
  /// For connections that this member opens: another certificate than for those it accepts.
  public var clientCertificateFile: String?
  public var clientKeyFile: String?
  /// Certificates that the other side's must lead to. Giving it asks the other side for one.
  public var trustedCAFile: String?
  /// Whether the other side must show a certificate, be it one that the system trusts.
  public var requiresClientCertificate = false
  /// Revoked certificates, PEM or DER.
  public var revocationFile: String?
  /// If not empty, one of these must be the common name of the other side's certificate.
  public var allowedCommonNames: [String] = []
  /// If not empty, the other side's certificate must be good for one of these names or addresses.
  public var allowedHostnames: [String] = []
  public var minimumVersion = Version.tls12
  public var maximumVersion: Version?
  /// Names of TLS 1.2 cipher suites; empty for the usual ones.
  public var cipherSuites: [String] = []
  /// The certificate signs itself, so nobody's can be checked (`--auto-tls`).
  public var isSelfSigned = false

  public init() {}

  /// - Throws: ``TransportSecurityError`` that names a cipher suite that nobody knows.
  public func checkCipherSuites() throws(TransportSecurityError) {
    _ = try CipherSuites.parse(cipherSuites)
  }

  /// Whether there is anything to encrypt with.
  public var hasCertificate: Bool { certificateFile != nil && keyFile != nil }

  /// Whether the other side has to show a certificate.
  public var verifiesClients: Bool {
    !isSelfSigned && (requiresClientCertificate || trustedCAFile != nil)
  }
}

/// Why a connection, or a port, can't be secured as asked for.
public struct TransportSecurityError: Error, Sendable, CustomStringConvertible {
  public var description: String
  public init(_ description: String) { self.description = description }
}

/// Every bound of this module, with its reason.
enum Limits {
  /// How long a handshake may take: a slow link needs some hundred milliseconds.
  static let handshakeSeconds: Int64 = 10
  /// How often files are looked at for changes, at most; a new certificate counts for the connections
  /// made after that.
  static let reloadSeconds: UInt64 = 1
}
