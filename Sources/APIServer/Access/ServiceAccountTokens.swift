import Crypto
import Foundation
import KubeAPI
import Synchronization

/// Makes and checks the tokens by which pods and scripts are service accounts.
///
/// A token is a signed JSON web token that says for which account, audiences and time it is good, and to
/// which object (a pod) its life is bound. Its signature alone proves nothing: with each request the account,
/// and the pod, must still be the ones that it names.
/// Source: Kubernetes, "Managing Service Accounts"; RFC 7519, RFC 7518 (ES256).
final class ServiceAccountTokens: Sendable {
  enum Limits {
    /// Tokens whose signature is remembered as good.
    static let remembered = 4_096
    /// No token is longer: claims are names and times.
    static let bytes = 16_384
  }

  static let issuer = "https://kubernetes.default.svc.cluster.local"

  /// What a token says.
  struct Claims: Sendable, Equatable {
    var namespace: String
    var account: String
    var accountUID: String
    var audiences: [String]
    var issued: Int64
    var expires: Int64
    /// Kind in lower case, name and uid of the object that the token lives as long as.
    var bound: (kind: String, name: String, uid: String)?
    /// The node that the bound pod is on.
    var node: (name: String, uid: String)?
    var identifier: String

    static func == (left: Claims, right: Claims) -> Bool { left.identifier == right.identifier }
  }

  private let key: P256.Signing.PrivateKey
  private let verified = Mutex<[Data: Claims]>([:])

  /// - Parameter pem: the signing key; servers of one cluster share it.
  init(pem: String) throws {
    do {
      key = try P256.Signing.PrivateKey(pemRepresentation: pem)
    } catch {
      throw PKIError("the service account key is no P-256 private key in PEM: \(error)")
    }
  }

  static func newKey() -> String { P256.Signing.PrivateKey().pemRepresentation }

  // MARK: Making

  func sign(_ claims: Claims) throws -> String {
    var own: Value = [
      "namespace": Value(claims.namespace),
      "serviceaccount": ["name": Value(claims.account), "uid": Value(claims.accountUID)],
    ]
    if let bound = claims.bound {
      own[bound.kind] = ["name": Value(bound.name), "uid": Value(bound.uid)]
    }
    if let node = claims.node { own["node"] = ["name": Value(node.name), "uid": Value(node.uid)] }
    let body: Value = [
      "aud": Value(claims.audiences), "exp": Value(claims.expires), "iat": Value(claims.issued),
      "iss": Value(Self.issuer), "jti": Value(claims.identifier), "kubernetes.io": own,
      "nbf": Value(claims.issued),
      "sub": Value("system:serviceaccount:\(claims.namespace):\(claims.account)"),
    ]
    let head: Value = ["alg": "ES256", "typ": "JWT"]
    let signed = Self.encode(Data(head.json)) + "." + Self.encode(Data(body.json))
    let signature = try key.signature(for: Data(signed.utf8))
    return signed + "." + Self.encode(signature.rawRepresentation)
  }

  // MARK: Checking

  /// What a token says, if it was signed here, is of now and for this API; whether its account lives is for
  /// the caller to find out.
  func verify(_ token: String, now: Timestamp) -> Claims? {
    guard token.utf8.count <= Limits.bytes else { return nil }
    let digest = Data(SHA256.hash(data: Data(token.utf8)))
    let known = verified.withLock { $0[digest] }
    guard let claims = known ?? check(token) else { return nil }
    if known == nil {
      verified.withLock { verified in
        if verified.count >= Limits.remembered { verified.removeAll() }
        verified[digest] = claims
      }
    }
    // Clocks of servers may differ a little.
    let time = now.secondsSinceEpoch
    guard time < claims.expires, time >= claims.issued - 60,
      claims.audiences.contains(Self.issuer)
    else { return nil }
    return claims
  }

  private func check(_ token: String) -> Claims? {
    let parts = token.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 3, let head = Self.decode(parts[0]), let body = Self.decode(parts[1]),
      let raw = Self.decode(parts[2]),
      let signature = try? P256.Signing.ECDSASignature(rawRepresentation: raw),
      (try? Value(json: Array(head)))?["alg"] == "ES256",
      key.publicKey.isValidSignature(
        signature, for: Data((parts[0] + "." + parts[1]).utf8)),
      let value = try? Value(json: Array(body)), value["iss"].string == Self.issuer
    else { return nil }
    let own = value["kubernetes.io"]
    guard let namespace = own["namespace"].string,
      let account = own["serviceaccount"]["name"].string,
      let uid = own["serviceaccount"]["uid"].string, let expires = value["exp"].integer
    else { return nil }
    var claims = Claims(
      namespace: namespace, account: account, accountUID: uid, audiences: value["aud"].strings,
      issued: value["nbf"].integer ?? 0, expires: expires,
      identifier: value["jti"].string ?? "")
    if let name = own["node"]["name"].string {
      claims.node = (name, own["node"]["uid"].string ?? "")
    }
    for kind in ["pod", "secret"] {
      if let name = own[kind]["name"].string {
        claims.bound = (kind, name, own[kind]["uid"].string ?? "")
      }
    }
    return claims
  }

  // MARK: Base64url (RFC 4648, section 5), without padding

  private static func encode(_ data: Data) -> String {
    data.base64EncodedString().replacingOccurrences(of: "+", with: "-")
      .replacingOccurrences(of: "/", with: "_").replacingOccurrences(of: "=", with: "")
  }

  private static func decode(_ text: String) -> Data? {
    var text = text.replacingOccurrences(of: "-", with: "+")
      .replacingOccurrences(of: "_", with: "/")
    text += String(repeating: "=", count: (4 - text.count % 4) % 4)
    return Data(base64Encoded: text)
  }
}

extension UserInfo {
  /// The user that a service account is.
  init(_ claims: ServiceAccountTokens.Claims) {
    var extra: [String: [String]] = [:]
    func note(_ name: String, _ value: String) {
      if !value.isEmpty { extra["authentication.kubernetes.io/\(name)"] = [value] }
    }
    if !claims.identifier.isEmpty { note("credential-id", "JTI=\(claims.identifier)") }
    if let bound = claims.bound, bound.kind == "pod" {
      note("pod-name", bound.name)
      note("pod-uid", bound.uid)
    }
    if let node = claims.node {
      note("node-name", node.name)
      note("node-uid", node.uid)
    }
    self.init(
      name: "system:serviceaccount:\(claims.namespace):\(claims.account)", uid: claims.accountUID,
      groups: ["system:serviceaccounts", "system:serviceaccounts:\(claims.namespace)"],
      extra: extra)
  }
}
