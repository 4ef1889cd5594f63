import Certification
import Crypto
import Foundation
import SwiftASN1
import X509

/// The certificates, keys and kubeconfig files of one cluster, in one directory.
///
/// # The problem
///
/// Every component proves who it is with a client certificate, and the API server and the nodes prove
/// themselves to their clients. Nobody should have to make, copy or renew these files by hand.
///
/// # The design
///
/// `ensure...` makes what is missing and renews what is about to end, and is called at every start, so
/// that a cluster that is restarted once in seven years never meets an expired certificate. Files are
/// written to a temporary name, synced and renamed, mode 0600; a half-written file can't be seen.
///
/// ```
/// DIR/kubeconfig                      the administrator's, for kubectl
/// DIR/scheduler.kubeconfig            system:kube-scheduler
/// DIR/controller-manager.kubeconfig   system:kube-controller-manager
/// DIR/node-NAME.kubeconfig            system:node:NAME, group system:nodes
/// DIR/pki/ca.crt            ca.key            the authority, valid 10 years, never renewed
/// DIR/pki/apiserver.crt     apiserver.key     the API server's port
/// DIR/pki/apiserver-kubelet-client.crt .key   how the API server calls the nodes
/// DIR/pki/admin.crt .key    scheduler.crt .key    controller-manager.crt .key
/// DIR/pki/node-NAME.crt .key                  a node, both as client and for its own port
/// DIR/pki/admin.token                         a bearer token equal to the administrator's certificate
/// ```
///
/// # What is left out
///
/// Renewal while running (a start at least every seven years is assumed), revocation, and renewal of
/// the authority itself, which would need every client's file to change.
public struct ClusterPKI: Sendable {
  /// How long new certificates are valid: ten years.
  public static let validity: TimeInterval = 10 * 365 * 86_400
  /// A leaf certificate is renewed at start when less than this part of its validity remains.
  public static let renewalFraction = 0.3

  /// Files that clients open: a certificate and its key.
  public struct Credential: Sendable {
    public var certificatePath: String
    public var keyPath: String
    public var certificatePEM: String
    public var keyPEM: String
  }

  public let directory: String
  private let authority: CertificateAuthority
  private let now: Date
  /// The authority's certificate as PEM text: what clients and nodes trust.
  public let authorityPEM: String

  public var authorityPath: String { directory + "/pki/ca.crt" }

  /// Opens the authority in `directory`, or makes it there.
  ///
  /// - Parameter now: the time by which certificates are made and judged.
  /// - Throws: `PKIError` that names the file.
  public init(directory: String, now: Date = Date()) throws {
    self.directory = directory
    self.now = now
    let files = SecretFiles(directory: directory + "/pki")
    try SecretFiles(directory: directory).prepare()
    try files.prepare()
    let certificateText = try files.read("ca.crt")
    let keyText = try files.read("ca.key")
    if let certificateText, let keyText {
      do {
        authority = CertificateAuthority(
          certificate: try Certificate(pemEncoded: certificateText),
          key: try P256.Signing.PrivateKey(pemRepresentation: keyText))
      } catch {
        throw PKIError("\(directory)/pki/ca.crt or ca.key can't be read: \(error)")
      }
      guard authority.certificate.publicKey == Certificate.PublicKey(authority.key.publicKey) else {
        throw PKIError("\(directory)/pki/ca.key is not the key of ca.crt")
      }
      guard authority.certificate.notValidAfter > now else {
        throw PKIError(
          "\(directory)/pki/ca.crt ended on \(authority.certificate.notValidAfter): "
            + "move \(directory)/pki away to make a new authority")
      }
      authorityPEM = certificateText
    } else if certificateText != nil || keyText != nil {
      let missing = certificateText == nil ? "ca.crt" : "ca.key"
      throw PKIError("\(directory)/pki/\(missing) is missing while its counterpart is there")
    } else {
      authority = try CertificateAuthority(
        commonName: "martlet-ca", now: now, validity: Self.validity)
      authorityPEM = try authority.certificate.serializeAsPEM().pemString + "\n"
      try files.write("ca.key", authority.key.pemRepresentation + "\n")
      try files.write("ca.crt", authorityPEM)
    }
  }

  /// The API server's own certificate; made anew where it lacks one of `hosts`.
  public func ensureServer(hosts: [String]) throws -> Credential {
    try ensure(
      "apiserver",
      CertificateAuthority.Request(commonName: "kube-apiserver", hosts: hosts, isServer: true))
  }

  /// What the API server shows to the nodes' ports.
  public func ensureNodeClient() throws -> Credential {
    try ensure(
      "apiserver-kubelet-client",
      CertificateAuthority.Request(commonName: Self.nodeClientName, isClient: true))
  }

  /// The common name that a node's port accepts.
  public static let nodeClientName = "kube-apiserver-kubelet-client"

  public func ensureAdmin() throws -> Credential {
    try ensure(
      "admin",
      CertificateAuthority.Request(
        commonName: "kubernetes-admin", organizations: ["system:masters"], isClient: true))
  }

  public func ensureScheduler() throws -> Credential {
    try ensure(
      "scheduler",
      CertificateAuthority.Request(commonName: "system:kube-scheduler", isClient: true))
  }

  public func ensureControllerManager() throws -> Credential {
    try ensure(
      "controller-manager",
      CertificateAuthority.Request(commonName: "system:kube-controller-manager", isClient: true))
  }

  /// A node's certificate, for its requests to the API server and for its own port.
  ///
  /// - Parameter addresses: what the API server reaches the node's port by.
  public func ensureNode(name: String, addresses: [String]) throws -> Credential {
    try ensure(
      "node-\(name)",
      CertificateAuthority.Request(
        commonName: "system:node:\(name)", organizations: ["system:nodes"],
        hosts: [name] + addresses.filter { $0 != name }, isServer: true, isClient: true))
  }

  /// The key by which service account tokens are signed, in PEM. Servers of one cluster share it.
  public func ensureTokenKey() throws -> String {
    let files = SecretFiles(directory: directory + "/pki")
    if let text = try files.read("sa.key") { return text }
    let text = ServiceAccountTokens.newKey()
    try files.write("sa.key", text + "\n")
    return text
  }

  /// A random token that stands for the administrator; made once.
  public func ensureAdminToken() throws -> String {
    let files = SecretFiles(directory: directory + "/pki")
    if let text = try files.read("admin.token") {
      let token = text.trimmingCharacters(in: .whitespacesAndNewlines)
      guard token.utf8.count >= 16 else {
        throw PKIError("\(directory)/pki/admin.token is shorter than 16 characters")
      }
      return token
    }
    var generator = SystemRandomNumberGenerator()
    let alphabet = Array("abcdefghijklmnopqrstuvwxyz0123456789")
    let token = String((0..<32).map { _ in alphabet.randomElement(using: &generator) ?? "a" })
    try files.write("admin.token", token + "\n")
    return token
  }

  private func ensure(_ name: String, _ request: CertificateAuthority.Request) throws -> Credential
  {
    let files = SecretFiles(directory: directory + "/pki")
    func credential(_ certificate: String, _ key: String) -> Credential {
      Credential(
        certificatePath: "\(directory)/pki/\(name).crt", keyPath: "\(directory)/pki/\(name).key",
        certificatePEM: certificate, keyPEM: key)
    }
    if let certificateText = try files.read("\(name).crt"),
      let keyText = try files.read("\(name).key"),
      isUsable(certificateText, keyText, for: request)
    {
      return credential(certificateText, keyText)
    }
    let (certificate, key) = try authority.issue(request, now: now, validity: Self.validity)
    let certificateText = try certificate.serializeAsPEM().pemString + "\n"
    let keyText = key.pemRepresentation + "\n"
    try files.write("\(name).key", keyText)
    try files.write("\(name).crt", certificateText)
    return credential(certificateText, keyText)
  }

  /// False for what can't be parsed, was signed by another authority, ends soon or lacks a host.
  private func isUsable(
    _ certificateText: String, _ keyText: String, for request: CertificateAuthority.Request
  ) -> Bool {
    guard let certificate = try? Certificate(pemEncoded: certificateText),
      let key = try? P256.Signing.PrivateKey(pemRepresentation: keyText),
      certificate.publicKey == Certificate.PublicKey(key.publicKey),
      authority.certificate.publicKey.isValidSignature(certificate.signature, for: certificate)
    else { return false }
    let whole = certificate.notValidAfter.timeIntervalSince(certificate.notValidBefore)
    let left = certificate.notValidAfter.timeIntervalSince(now)
    // A leaf that ends with its authority can't be renewed to anything longer.
    let endsWithAuthority = certificate.notValidAfter >= authority.certificate.notValidAfter
    guard left > (endsWithAuthority ? 0 : whole * Self.renewalFraction) else { return false }
    let names = (try? certificate.extensions.subjectAlternativeNames).flatMap { $0 }.map(Array.init)
    let present = Set(names ?? [])
    for host in request.hosts {
      let name =
        CertificateAuthority.addressBytes(host)
        .map { GeneralName.ipAddress(ASN1OctetString(contentBytes: $0[...])) } ?? .dnsName(host)
      if !present.contains(name) { return false }
    }
    return true
  }

  // MARK: Kubeconfig

  /// Writes a kubeconfig with everything embedded, mode 0600, and returns its path.
  ///
  /// - Parameters:
  ///   - name: the file's name in the directory; `kubeconfig` is the administrator's.
  ///   - server: the API server's URL.
  @discardableResult
  public func writeKubeconfig(
    _ name: String, user: String, credential: Credential, server: String
  ) throws -> String {
    func base64(_ text: String) -> String { Data(text.utf8).base64EncodedString() }
    try SecretFiles(directory: directory).write(
      name,
      """
      apiVersion: v1
      kind: Config
      clusters:
      - name: martlet
        cluster:
          server: \(server)
          certificate-authority-data: \(base64(authorityPEM))
      users:
      - name: \(user)
        user:
          client-certificate-data: \(base64(credential.certificatePEM))
          client-key-data: \(base64(credential.keyPEM))
      contexts:
      - name: martlet
        context:
          cluster: martlet
          user: \(user)
      current-context: martlet

      """)
    return directory + "/" + name
  }
}

/// Why the cluster's certificates can't be used; one line with the file's name.
public struct PKIError: Error, Sendable, CustomStringConvertible {
  public let description: String
  init(_ description: String) { self.description = description }
}
