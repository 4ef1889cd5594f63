import KubeAPI
import Synchronization

/// A pod's tokens, kept until they are to be renewed.
final class TokenCache: Sendable {
  private struct Key: Hashable {
    var audience: String?
    var seconds: Int64
  }
  private let tokens = Mutex<[Key: (token: String, renewAt: Timestamp)]>([:])

  var nextRenewal: Timestamp? { tokens.withLock { $0.values.map(\.renewAt).min() } }

  func token(
    _ audience: String?, _ seconds: Int64,
    _ make: () async throws -> (token: String, renewAt: Timestamp)?
  ) async throws -> String? {
    let key = Key(audience: audience, seconds: seconds)
    if let known = tokens.withLock({ $0[key] }), Timestamp.wallClock() < known.renewAt {
      return known.token
    }
    guard let new = try await make() else { return nil }
    tokens.withLock { $0[key] = new }
    return new.token
  }
}
