import MVCC
import Primitives
import Synchronization

/// The tokens of logins that this member knows, for all event loops.
///
/// Tokens come out of the log (`AuthEffect`), so every member knows them all; when one was used last is
/// each member's own affair, as in etcd. They are not in snapshots: a client whose token a member doesn't know
/// logs in again.
public final class LoginTokens: Sendable {
  private struct Entry {
    var user: [UInt8]
    var lastUse: Instant
  }
  private struct State {
    var entries: [[UInt8]: Entry] = [:]
    var nextSweep = Instant.origin
  }
  private let state = Mutex(State())
  /// How long a token lives after its last use here.
  public let lifetime: Duration

  public init(lifetime: Duration = .seconds(300)) { self.lifetime = lifetime }

  /// Whose token it is; nil for one that is unknown or has run out. Using it gives it its whole life
  /// again. O(token).
  public func user(of token: [UInt8], now: Instant) -> [UInt8]? {
    state.withLock { state in
      guard let entry = state.entries[token] else { return nil }
      guard entry.lastUse.advanced(by: lifetime) > now else {
        state.entries[token] = nil
        return nil
      }
      state.entries[token]?.lastUse = now
      return entry.user
    }
  }

  /// Takes up what was applied, in order. On the writer's thread, before it is published.
  public func apply(_ effects: [AuthEffect], now: Instant) {
    if effects.isEmpty { return }
    state.withLock { state in
      for effect in effects {
        switch effect {
        case .tokenAssigned(let token, let user):
          if state.entries.count >= ReplicaLimits.loginTokens || now >= state.nextSweep {
            sweep(&state, now)
          }
          state.entries[token] = Entry(user: user, lastUse: now)
        case .userInvalidated(let user):
          state.entries = state.entries.filter { $0.value.user != user }
        case .allInvalidated: state.entries = [:]
        }
      }
    }
  }

  /// Drops what has run out; and, should that not be enough, those that were not used for longest.
  private func sweep(_ state: inout State, _ now: Instant) {
    state.nextSweep = now.advanced(by: lifetime / 4)
    state.entries = state.entries.filter { $0.value.lastUse.advanced(by: lifetime) > now }
    let excess = state.entries.count - ReplicaLimits.loginTokens * 3 / 4
    guard excess > 0 else { return }
    for (token, _) in state.entries.sorted(by: { $0.value.lastUse < $1.value.lastUse })
      .prefix(excess)
    {
      state.entries[token] = nil
    }
  }
}
