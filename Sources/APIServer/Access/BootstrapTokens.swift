import Crypto
import Foundation
import KubeAPI

/// Tokens by which a machine that knows nothing yet may ask for a node's certificate, and no more.
///
/// A token `abcdef.0123456789abcdef` is the Secret `kube-system/bootstrap-token-abcdef`.
/// Source: Kubernetes, "Authenticating with Bootstrap Tokens".
enum BootstrapTokens {
  static let namespace = "kube-system"
  static let prefix = "bootstrap-token-"
  static let secretType = "bootstrap.kubernetes.io/token"
  static let group = "system:bootstrappers"

  /// The two halves of a token; nil for other texts.
  static func parse(_ token: String) -> (id: String, secret: String)? {
    let parts = token.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 2, parts[0].utf8.count == 6, parts[1].utf8.count == 16,
      token.utf8.allSatisfy({ (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2E })
    else { return nil }
    return (String(parts[0]), String(parts[1]))
  }

  /// The user of a token by its secret; nil where it is not good, or not good any more.
  static func user(_ token: (id: String, secret: String), _ secret: Value, now: Timestamp) -> UserInfo? {
    func text(_ key: String) -> String? {
      secret["data"][key].string.flatMap { Base64.decode($0) }.map { String(decoding: $0, as: UTF8.self) }
    }
    guard secret["type"].string == secretType, secret["metadata"]["deletionTimestamp"].isNull,
      text("token-id") == token.id, let known = text("token-secret"),
      // Digests are compared, so that the time it takes tells nothing.
      SHA256.hash(data: Data(known.utf8)) == SHA256.hash(data: Data(token.secret.utf8)),
      text("usage-bootstrap-authentication") == "true"
    else { return nil }
    if let expiration = text("expiration") {
      guard let end = try? Timestamp(expiration), now < end else { return nil }
    }
    let more = (text("auth-extra-groups") ?? "").split(separator: ",").map(String.init)
    // Only groups of this kind: a secret must not make anybody an administrator.
    return UserInfo(
      name: "system:bootstrap:\(token.id)",
      groups: [group] + more.filter { $0.hasPrefix(group + ":") })
  }
}
