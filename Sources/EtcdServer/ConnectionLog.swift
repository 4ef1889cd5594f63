import HTTP2
import Logging
import NIOCore
import Primitives
import Synchronization

/// Says in the log which clients' connections the server ended, and why: who floods, who never reads, who never
/// finishes a greeting.
///
/// Whoever misbehaves does so by the thousand, so lines are rationed: what was left out is counted and told with
/// the next line that may be written.
final class ConnectionLog: Sendable {
  /// Lines a second, and lines at once after a quiet time.
  private static let budget = HTTP2Limits.Budget(burst: 20, perSecond: 2)

  private struct State {
    var tokens = ConnectionLog.budget.burst
    var last = NIODeadline.now()
    var leftOut = 0
  }

  private let logger: Logger
  private let state = Mutex(State())

  init(_ logger: Logger) { self.logger = logger }

  /// The server ended a connection.
  func ended(_ peer: SocketAddress?, _ reason: String) {
    let leftOut = state.withLock { state -> Int? in
      let now = NIODeadline.now()
      let regained =
        Double((now - state.last).nanoseconds) / 1e9 * Double(Self.budget.perSecond)
      if regained >= 1 {
        state.tokens = min(Self.budget.burst, state.tokens + Int(min(regained, 1_000)))
        state.last = now
      }
      guard state.tokens > 0 else {
        state.leftOut += 1
        return nil
      }
      state.tokens -= 1
      defer { state.leftOut = 0 }
      return state.leftOut
    }
    guard let leftOut else { return }
    var metadata: Logger.Metadata = [
      "client": "\(peer.map { "\($0)" } ?? "unknown")", "reason": "\(reason)",
    ]
    if leftOut > 0 { metadata["connections-not-logged"] = "\(leftOut)" }
    logger.warning("ended a client's connection", metadata: metadata)
  }
}
