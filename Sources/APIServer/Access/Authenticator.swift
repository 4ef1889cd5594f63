import Crypto
import Foundation
import HTTPServer
import SwiftASN1
import Synchronization
import X509

/// Who makes a request.
public struct UserInfo: Sendable, Equatable {
  public var name: String
  public var uid: String
  public var groups: [String]
  /// What else is known of it: the pod that a token belongs to.
  public var extra: [String: [String]]

  public init(
    name: String, uid: String = "", groups: [String] = [], extra: [String: [String]] = [:]
  ) {
    self.name = name
    self.uid = uid
    self.groups = groups
    self.extra = extra
  }

  /// Who showed nothing.
  public static let anonymous = UserInfo(
    name: "system:anonymous", groups: ["system:unauthenticated"])

  public var isAnonymous: Bool { groups.contains("system:unauthenticated") }
}

/// Finds out who makes a request: by client certificate, else by bearer token.
///
/// The listener has verified the certificate's chain; here its subject is read: the common name is
/// the user, the organizations are the groups. Tokens are kept and looked up by their SHA-256, so that
/// neither memory dumps nor timing tell them.
final class Authenticator: Sendable {
  enum Limits {
    /// Certificates whose subject is remembered.
    static let rememberedCertificates = 4_096
  }

  /// Finds the user of a token that isn't in a list: a service account's.
  typealias Lookup = @Sendable (String) async -> UserInfo?

  private let tokens: [Data: UserInfo]
  private let lookUp: Lookup
  private let certificates = Mutex<[Data: UserInfo]>([:])

  init(tokens: [String: UserInfo], lookUp: @escaping Lookup = { _ in nil }) {
    self.lookUp = lookUp
    var digests: [Data: UserInfo] = [:]
    for (token, user) in tokens { digests[Self.digest(token)] = user }
    self.tokens = digests
  }

  private static func digest(_ token: String) -> Data { Data(SHA256.hash(data: Data(token.utf8))) }

  /// - Returns: nil where the request shows a token that is not known.
  func authenticate(_ request: HTTPRequest) async -> UserInfo? {
    if let certificate = request.connection.clientCertificate,
      let user = user(of: certificate)
    {
      return user
    }
    guard let header = request.fields["Authorization"] else { return .anonymous }
    let parts = header.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: true)
    guard parts.count == 2, parts[0].lowercased() == "bearer" else { return .anonymous }
    return await user(ofToken: parts[1].trimmingCharacters(in: .whitespaces))
  }

  /// The user of a bearer token; nil where nobody knows it.
  func user(ofToken token: String) async -> UserInfo? {
    var user = tokens[Self.digest(token)]
    if user == nil { user = await lookUp(token) }
    user?.groups.append("system:authenticated")
    return user
  }

  private func user(of certificate: [UInt8]) -> UserInfo? {
    let key = Data(certificate)
    if let user = certificates.withLock({ $0[key] }) { return user }
    guard var user = Self.subject(of: certificate) else { return nil }
    user.groups.append("system:authenticated")
    certificates.withLock { certificates in
      if certificates.count >= Limits.rememberedCertificates { certificates.removeAll() }
      certificates[key] = user
    }
    return user
  }

  /// The user and the groups that a certificate's subject names; nil where it names no user.
  static func subject(of certificate: [UInt8]) -> UserInfo? {
    guard let parsed = try? Certificate(derEncoded: certificate) else { return nil }
    var user = UserInfo(name: "")
    for attribute in parsed.subject.flatMap({ $0 }) {
      guard let text = String(attribute.value) else { continue }
      if attribute.type == .RDNAttributeType.commonName { user.name = text }
      if attribute.type == .RDNAttributeType.organizationName { user.groups.append(text) }
    }
    return user.name.isEmpty ? nil : user
  }

  /// Reads lines of `token,user,uid,"group1,group2"`; empty lines and lines that begin with `#` count
  /// for nothing. Source: Kubernetes, "Static token file".
  static func readTokenFile(_ text: String, path: String) throws -> [String: UserInfo] {
    var tokens: [String: UserInfo] = [:]
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
    {
      let line = line.trimmingCharacters(in: .whitespaces)
      if line.isEmpty || line.hasPrefix("#") { continue }
      let columns = csvColumns(line)
      guard columns.count >= 3, !columns[0].isEmpty, !columns[1].isEmpty else {
        throw PKIError(
          "\(path), line \(index + 1): a token line is token,user,uid and perhaps \"group1,group2\""
        )
      }
      let groups = columns.count > 3 ? columns[3].split(separator: ",").map(String.init) : []
      tokens[columns[0]] = UserInfo(name: columns[1], uid: columns[2], groups: groups)
    }
    return tokens
  }

  private static func csvColumns(_ line: String) -> [String] {
    var columns: [String] = [""]
    var isQuoted = false
    for character in line {
      switch character {
      case "\"": isQuoted.toggle()
      case "," where !isQuoted: columns.append("")
      default: columns[columns.count - 1].append(character)
      }
    }
    return columns.map { $0.trimmingCharacters(in: .whitespaces) }
  }
}
