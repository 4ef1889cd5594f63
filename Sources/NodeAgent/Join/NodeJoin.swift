import Certification
import Glibc
import KubeAPI
import KubeClient
import Logging

/// How a machine that knows an API server's address, a bootstrap token and the hash of the cluster's authority
/// becomes a node.
///
/// ```
/// 1  GET cluster-info, unverified  ──▶ the authority's certificate; its public key must have the hash
/// 2  CSR by the token, verified    ──▶ a client certificate for system:node:NAME
/// 3  CSR by that certificate       ──▶ a certificate for the node's own port
/// ```
///
/// Everything after the first step is verified with the authority that the hash proves, so whoever sits in between
/// learns neither the token nor anything else. What came of it lies in the node's directory; the next start
/// needs no token. A certificate of which less than a third of its life is left is renewed at start.
/// Source: Kubernetes, "TLS bootstrapping"; kubeadm, "Token-based discovery with CA pinning".
public struct NodeJoin: Sendable {
  public struct Failure: Error, CustomStringConvertible {
    public var description: String
  }

  enum Limits {
    /// How long the certificate is waited for; where no controllers run somebody must approve and sign it.
    static let patience: Duration = .seconds(300)
    static let pause: Duration = .milliseconds(500)
    /// A certificate with less of its life left is renewed.
    static let renewal = 0.3
    /// Renewed certificates take effect with the next start, so a try that fails does no harm.
    static let renewalPatience: Duration = .seconds(30)
  }

  /// Where the node finds what it was given.
  public struct Credentials: Sendable {
    public var directory: String
    public var kubeconfig: String { directory + "/node.kubeconfig" }
    public var authority: String { directory + "/pki/ca.crt" }
    public var servingCertificate: String { directory + "/pki/node-serving.crt" }
    public var servingKey: String { directory + "/pki/node-serving.key" }
    var clientCertificate: String { directory + "/pki/node-client.crt" }
    var clientKey: String { directory + "/pki/node-client.key" }
  }

  private let server: String
  private let token: String?
  private let authorityHash: String?
  private let nodeName: String
  private let credentials: Credentials
  private let logger: Logger

  /// - Parameters:
  ///   - server: `https://HOST:PORT`.
  ///   - token: nil once the node has its certificates.
  ///   - authorityHash: `sha256:` and 64 hexadecimal digits.
  ///   - directory: the node's own.
  public init(
    server: String, token: String?, authorityHash: String?, nodeName: String, directory: String,
    logger: Logger
  ) {
    self.server = server
    self.token = token
    self.authorityHash = authorityHash
    self.nodeName = nodeName
    credentials = Credentials(directory: directory)
    self.logger = logger
  }

  /// - Throws: ``Failure`` with what to do about it.
  public func run() async throws -> Credentials {
    try Disk.makeDirectories(credentials.directory + "/pki", mode: 0o700)
    let authority = try await self.authority()
    let clientLife = life(credentials.clientCertificate, credentials.clientKey)
    if clientLife <= 0 {
      guard let token else {
        throw Failure(
          description: "\(nodeName) has no certificate yet: --token is needed "
            + "('martlet token create' makes one)")
      }
      try await obtain(
        .client, by: try client(authority, "token: \(token)"), for: Limits.patience)
      logger.info("joined as \(nodeName)")
    }
    let own = try client(
      authority,
      "client-certificate: \(credentials.clientCertificate)\n    client-key: \(credentials.clientKey)")
    if clientLife > 0, clientLife < Limits.renewal { await renew(.client, by: own) }
    let servingLife = life(credentials.servingCertificate, credentials.servingKey)
    if servingLife <= 0 {
      try await obtain(.serving, by: own, for: Limits.patience)
    } else if servingLife < Limits.renewal {
      await renew(.serving, by: own)
    }
    return credentials
  }

  // MARK: The authority

  /// The authority's certificate: as it was kept, or as the server tells, proven by its hash.
  private func authority() async throws -> String {
    if let kept = NodeFiles.text(credentials.authority) { return kept }
    guard let authorityHash else {
      throw Failure(
        description: "the cluster's authority isn't known yet: --ca-cert-hash is needed "
          + "('martlet token create --print-join-command' tells it)")
    }
    let text = kubeconfig(cluster: "insecure-skip-tls-verify: true", user: "{}")
    let stranger = try APIClient(
      try Kubeconfig(text: text, directory: ""), userAgent: "martlet-node")
    let map: Value
    do {
      map = try await stranger.get(.configMaps, namespace: "kube-public", name: "cluster-info")
    } catch {
      throw Failure(description: "\(server) doesn't tell its authority: \(error)")
    }
    let lines = (map["data"]["kubeconfig"].string ?? "").split(separator: "\n")
    guard
      let line = lines.first(where: { $0.contains("certificate-authority-data:") }),
      let bytes = line.split(separator: ":", maxSplits: 1).last.flatMap({
        Base64.decode($0.filter { $0 != " " })
      })
    else { throw Failure(description: "\(server) tells no authority in kube-public/cluster-info") }
    let pem = String(decoding: bytes, as: UTF8.self)
    let hash = try CertificateText.publicKeyHash(pem)
    guard hash == authorityHash.lowercased() else {
      throw Failure(
        description: "the authority of \(server) has the hash \(hash), not \(authorityHash): "
          + "this is another cluster, or somebody is in between")
    }
    try write(pem, to: credentials.authority, mode: 0o644)
    return pem
  }

  private func client(_ authority: String, _ user: String) throws -> APIClient {
    let text = kubeconfig(
      cluster: "certificate-authority-data: \(Base64.encode(authority.utf8))",
      user: "\n    \(user)")
    return try APIClient(try Kubeconfig(text: text, directory: ""), userAgent: "martlet-node")
  }

  private func kubeconfig(cluster: String, user: String) -> String {
    """
    apiVersion: v1
    kind: Config
    clusters:
    - name: cluster
      cluster:
        server: \(server)
        \(cluster)
    users:
    - name: node
      user: \(user)
    contexts:
    - name: cluster
      context: {cluster: cluster, user: node}
    current-context: cluster

    """
  }

  // MARK: Certificates

  private enum Purpose {
    case client, serving

    var signer: String {
      self == .client
        ? "kubernetes.io/kube-apiserver-client-kubelet" : "martlet.io/node-serving"
    }
    var usages: Value {
      ["digital signature", self == .client ? "client auth" : "server auth"]
    }
    var prefix: String { self == .client ? "node-csr-" : "node-serving-" }
  }

  private func life(_ certificate: String, _ key: String) -> Double {
    guard let certificate = NodeFiles.text(certificate), let key = NodeFiles.text(key) else { return 0 }
    return CertificateText.life(
      certificatePEM: certificate, keyPEM: key, secondsSinceEpoch: Timestamp.wallClock().secondsSinceEpoch)
  }

  private func renew(_ purpose: Purpose, by client: APIClient) async {
    do {
      try await obtain(purpose, by: client, for: Limits.renewalPatience)
      logger.info("renewed the certificate", metadata: ["signer": "\(purpose.signer)"])
    } catch {
      logger.warning("the certificate could not be renewed and will end: \(error)")
    }
  }

  private func obtain(
    _ purpose: Purpose, by client: APIClient, for patience: Duration
  ) async throws {
    let (request, key) = try SigningRequest.make(
      commonName: "system:node:\(nodeName)", organizations: ["system:nodes"])
    let made: Value
    do {
      made = try await client.create(
        .certificateSigningRequests,
        [
          "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
          "metadata": ["generateName": Value(purpose.prefix)],
          "spec": [
            "request": Value(Base64.encode(request.utf8)), "signerName": Value(purpose.signer),
            "usages": purpose.usages,
          ],
        ])
    } catch let error as StatusError where error.code == 401 {
      throw Failure(description: "\(server) doesn't know the token, or it has ended")
    }
    let name = made["metadata"]["name"].string ?? ""
    let certificate = try await wait(for: name, by: client, patience)
    let (certificatePath, keyPath) =
      purpose == .client
      ? (credentials.clientCertificate, credentials.clientKey)
      : (credentials.servingCertificate, credentials.servingKey)
    // Both are new: half of them would only mean that they are asked for once more.
    try write(key, to: keyPath, mode: 0o600)
    try write(certificate, to: certificatePath, mode: 0o644)
    guard purpose == .client, let authority = NodeFiles.text(credentials.authority) else { return }
    try write(
      kubeconfig(
        cluster: "certificate-authority-data: \(Base64.encode(authority.utf8))",
        user:
          "\n    client-certificate: \(certificatePath)\n    client-key: \(keyPath)"),
      to: credentials.kubeconfig, mode: 0o600)
  }

  private func wait(
    for name: String, by client: APIClient, _ patience: Duration
  ) async throws -> String {
    let deadline = ContinuousClock.now + patience
    var hasTold = false
    while ContinuousClock.now < deadline {
      let request = try await client.get(.certificateSigningRequests, name: name)
      if let text = request["status"]["certificate"].string, let bytes = Base64.decode(text),
        !bytes.isEmpty
      {
        return String(decoding: bytes, as: UTF8.self)
      }
      for condition in request["status"]["conditions"].elements
      where ["Denied", "Failed"].contains(condition["type"].string) {
        throw Failure(
          description: "the certificate request \(name) was refused: "
            + (condition["message"].string ?? "no reason was given"))
      }
      if !hasTold {
        hasTold = true
        logger.info("waiting for the certificate request \(name) to be approved and signed")
      }
      try await Task.sleep(for: Limits.pause)
    }
    throw Failure(
      description: "the certificate request \(name) was not signed in time: look at "
        + "'kubectl get csr \(name)', approve it with 'kubectl certificate approve \(name)'")
  }

  private func write(_ text: String, to path: String, mode: mode_t) throws {
    try Disk.write(Array(text.utf8), to: path, mode: mode, isDurable: true)
  }
}
