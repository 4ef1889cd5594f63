import Primitives
import Replica
import Synchronization

/// Who may call, shared by all connections of a member.
final class PeerDirectory: Sendable {
  private let current: Mutex<ClusterRoster>

  init(_ roster: ClusterRoster) { current = Mutex(roster) }

  var roster: ClusterRoster { current.withLock { $0 } }

  func update(_ roster: ClusterRoster) { current.withLock { $0 = roster } }

  func isMember(_ id: NodeID) -> Bool {
    current.withLock { $0.members.contains { $0.id == id } }
  }

  func isRemoved(_ id: NodeID) -> Bool { current.withLock { $0.removed.contains(id) } }
}

/// Where a member listens, from one of its peer URLs.
struct PeerAddress: Equatable, CustomStringConvertible {
  var host: String
  var port: Int

  var description: String { "\(host):\(port)" }

  init(host: String, port: Int) {
    self.host = host
    self.port = port
  }

  /// Reads `scheme://host:port`; nil where it is something else.
  init?(_ url: String) {
    guard let separator = url.firstRange(of: "://") else { return nil }
    let rest = url[separator.upperBound...]
    guard let colon = rest.lastIndex(of: ":"), let port = Int(rest[rest.index(after: colon)...]),
      (1...65_535).contains(port)
    else { return nil }
    var host = rest[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    guard !host.isEmpty else { return nil }
    self.init(host: String(host), port: port)
  }
}
