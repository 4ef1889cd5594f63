import NIOSSL

/// How a listener encrypts: its own certificate, and whose client certificates it accepts.
public struct TLSSettings: Sendable {
  public enum ClientCertificates: Sendable, Equatable {
    /// None is asked for.
    case ignored
    /// One that doesn't lead to `clientRoots` ends the handshake; showing none is allowed, and the
    /// request then has to identify itself in another way, or is anonymous.
    case optional
    /// The handshake fails without one that leads to `clientRoots`.
    case required
  }

  /// The server's certificate and, after it, those that lead to its root; PEM text.
  public var certificateChain: String
  /// The server's private key; PEM text.
  public var privateKey: String
  /// The certificates that clients' certificates must lead to; PEM text.
  public var clientRoots: String
  public var clientCertificates: ClientCertificates

  public init(
    certificateChain: String, privateKey: String, clientRoots: String,
    clientCertificates: ClientCertificates
  ) {
    self.certificateChain = certificateChain
    self.privateKey = privateKey
    self.clientRoots = clientRoots
    self.clientCertificates = clientCertificates
  }

  /// TLS 1.2 and newer, offering `protocols` by ALPN in this order of preference.
  func makeContext(protocols: [String]) throws(HTTPServerError) -> NIOSSLContext {
    do {
      let chain = try NIOSSLCertificate.fromPEMBytes(Array(certificateChain.utf8))
      let key = try NIOSSLPrivateKey(bytes: Array(privateKey.utf8), format: .pem)
      var configuration = TLSConfiguration.makeServerConfiguration(
        certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
      configuration.minimumTLSVersion = .tlsv12
      configuration.applicationProtocols = protocols
      switch clientCertificates {
      case .ignored:
        configuration.certificateVerification = .none
      case .optional, .required:
        configuration.certificateVerification =
          clientCertificates == .required ? .noHostnameVerification : .optionalVerification
        configuration.trustRoots = .certificates(
          try NIOSSLCertificate.fromPEMBytes(Array(clientRoots.utf8)))
        configuration.sendCANameList = true
      }
      return try NIOSSLContext(configuration: configuration)
    } catch {
      throw HTTPServerError(
        .invalidTLSSettings, "the server's certificate or key can't be used: \(error)")
    }
  }
}
