import Foundation
import KubeAPI
import NIOSSL
import Yams

/// Where an API server is and how to prove oneself to it, as a kubeconfig file says.
///
/// Understood are the current context's cluster and user: server, certificate authority, client
/// certificate and token, each inline or as a file. Source: Kubernetes, "Organizing cluster access".
public struct Kubeconfig: Sendable {
  public var host: String
  public var port: Int
  public var authorityPEM: [UInt8]?
  public var certificatePEM: [UInt8]?
  public var keyPEM: [UInt8]?
  public var token: String?
  public var skipsVerification = false

  /// Why a kubeconfig can't be used.
  public struct Failure: Error, Sendable, CustomStringConvertible {
    public var description: String
  }

  public init(path: String) throws {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
      throw Failure(description: "cannot read the kubeconfig \(path)")
    }
    do {
      try self.init(text: text, directory: (path as NSString).deletingLastPathComponent)
    } catch let failure as Failure {
      throw Failure(description: "\(path): \(failure.description)")
    }
  }

  /// - Parameter directory: what relative file names in the text are relative to.
  public init(text: String, directory: String) throws {
    let document: Any?
    do { document = try Yams.load(yaml: text) } catch {
      throw Failure(description: "not YAML: \(error)")
    }
    guard let root = document as? [String: Any] else {
      throw Failure(description: "not a kubeconfig: no mapping at the top")
    }
    func named(_ list: String, _ name: String, _ part: String) throws -> [String: Any] {
      let entries = root[list] as? [[String: Any]] ?? []
      guard let entry = entries.first(where: { $0["name"] as? String == name }),
        let value = entry[part] as? [String: Any]
      else { throw Failure(description: "no \(part) named '\(name)'") }
      return value
    }
    guard let contextName = root["current-context"] as? String else {
      throw Failure(description: "no current-context")
    }
    let context = try named("contexts", contextName, "context")
    let cluster = try named("clusters", context["cluster"] as? String ?? "", "cluster")
    let user = try named("users", context["user"] as? String ?? "", "user")
    func bytes(_ mapping: [String: Any], _ field: String) throws -> [UInt8]? {
      if let text = mapping["\(field)-data"] as? String {
        guard let data = Data(base64Encoded: text) else {
          throw Failure(description: "\(field)-data is not valid base64")
        }
        return Array(data)
      }
      guard let path = mapping[field] as? String else { return nil }
      let full = path.hasPrefix("/") || directory.isEmpty ? path : directory + "/" + path
      guard let data = FileManager.default.contents(atPath: full) else {
        throw Failure(description: "cannot read \(field) \(full)")
      }
      return Array(data)
    }
    guard let server = cluster["server"] as? String, let url = URL(string: server),
      url.scheme == "https", let host = url.host, ["", "/"].contains(url.path)
    else { throw Failure(description: "the cluster's server must be an https URL without a path") }
    // An IPv6 address stands in brackets there.
    self.host = host.trimmingCharacters(in: ["[", "]"])
    port = url.port ?? 443
    authorityPEM = try bytes(cluster, "certificate-authority")
    skipsVerification = cluster["insecure-skip-tls-verify"] as? Bool ?? false
    certificatePEM = try bytes(user, "client-certificate")
    keyPEM = try bytes(user, "client-key")
    guard (certificatePEM == nil) == (keyPEM == nil) else {
      throw Failure(description: "client-certificate and client-key need each other")
    }
    for method in ["exec", "auth-provider", "username"] where user[method] != nil {
      throw Failure(description: "the user's \(method) is not supported")
    }
    token = user["token"] as? String
    if token == nil, let file = try bytes(user, "tokenFile") {
      token = String(decoding: file, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }
  }

  /// The TLS side of it.
  func tlsConfiguration() throws -> TLSConfiguration {
    var tls = TLSConfiguration.makeClientConfiguration()
    if let authorityPEM {
      tls.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(authorityPEM))
    }
    if skipsVerification { tls.certificateVerification = .none }
    if let certificatePEM, let keyPEM {
      tls.certificateChain = try NIOSSLCertificate.fromPEMBytes(certificatePEM).map {
        .certificate($0)
      }
      tls.privateKey = .privateKey(try NIOSSLPrivateKey(bytes: keyPEM, format: .pem))
    }
    tls.applicationProtocols = ["http/1.1"]
    return tls
  }
}
