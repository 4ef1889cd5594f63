import Primitives
import Replica
import Synchronization

/// Who may call, shared by all connections of a member.
///
/// A member that was away while all others were replaced doesn't know those who call it now, and would never catch up
/// if it refused them. So a caller of its own cluster that it knows nothing bad of is let in, and said goodbye to
/// when the log tells better. (etcd takes the sender's URLs from a header, for the same reason.)
final class PeerDirectory: Sendable {
  private struct State {
    var roster: ClusterRoster
    /// Callers that the roster doesn't have.
    var introduced: [ClusterMember] = []
  }
  private let current: Mutex<State>

  init(_ roster: ClusterRoster) { current = Mutex(State(roster: roster)) }

  var roster: ClusterRoster { current.withLock { $0.roster } }

  /// The members, and those who introduced themselves.
  var reachable: ClusterRoster {
    current.withLock {
      ClusterRoster(members: $0.roster.members + $0.introduced, removed: $0.roster.removed)
    }
  }

  func update(_ roster: ClusterRoster) {
    current.withLock { state in
      state.roster = roster
      state.introduced.removeAll { one in
        roster.removed.contains(one.id) || roster.members.contains { $0.id == one.id }
      }
    }
  }

  func isMember(_ id: NodeID) -> Bool {
    current.withLock { $0.roster.members.contains { $0.id == id } }
  }

  func isRemoved(_ id: NodeID) -> Bool { current.withLock { $0.roster.removed.contains(id) } }

  /// Notes where a caller listens that isn't a member as far as this one knows. False if it can't be answered.
  func introduce(_ id: NodeID, urls: [String]) -> Bool {
    guard urls.contains(where: { PeerAddress($0) != nil }) else { return false }
    return current.withLock { state in
      state.introduced.removeAll { $0.id == id }
      guard state.introduced.count < Limits.introducedMembers else { return false }
      state.introduced.append(ClusterMember(id: id, name: "", peerURLs: urls, clientURLs: []))
      return true
    }
  }

  func urls(of id: NodeID) -> [String] {
    current.withLock { state in state.roster.members.first { $0.id == id }?.peerURLs ?? [] }
  }
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
