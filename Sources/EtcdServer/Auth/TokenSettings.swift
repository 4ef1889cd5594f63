import Foundation

/// `--auth-token`: which tokens logins are answered with.
public enum AuthTokenSettings: Sendable {
  /// Random words that every member remembers for a while: etcd's `simple`.
  case simple
  /// Signed statements, good until they expire.
  case jwt(JSONWebTokens)

  /// Reads `simple`, or `jwt` with its options, separated by commas: `sign-method`, `priv-key`, `pub-key`,
  /// `ttl`. Reads the key files.
  ///
  /// - Throws: ``AuthTokenError`` with what is wrong.
  public init(flag: String) throws {
    let parts = flag.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    switch parts[0] {
    case "", "simple": self = .simple
    case "jwt":
      var options: [String: String] = [:]
      for part in parts.dropFirst() {
        guard let equals = part.firstIndex(of: "="), equals != part.startIndex else {
          throw AuthTokenError("--auth-token: '\(part)' is not of the form OPTION=VALUE")
        }
        let name = String(part[..<equals])
        guard ["sign-method", "priv-key", "pub-key", "ttl"].contains(name) else {
          throw AuthTokenError("--auth-token jwt has no option '\(name)'")
        }
        guard options.updateValue(String(part[part.index(after: equals)...]), forKey: name) == nil
        else { throw AuthTokenError("--auth-token: '\(name)' is there twice") }
      }
      self = .jwt(try JSONWebTokens(options: options))
    default:
      throw AuthTokenError("--auth-token must be 'simple' or 'jwt,...', not '\(parts[0])'")
    }
  }
}

/// Why tokens can't be made as asked for.
public struct AuthTokenError: Error, Sendable, CustomStringConvertible {
  public var description: String
  public init(_ description: String) { self.description = description }
}
