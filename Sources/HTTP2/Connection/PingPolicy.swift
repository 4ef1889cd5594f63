import Primitives

/// Counts the PINGs that come too early.
struct PingPolicy {
  /// A frame was sent since the last PING: the peer answers it with a PING of its own to measure the path.
  var forgives = false
  private var last: Instant?
  private var strikes = 0

  /// Takes note of a PING; false if it is one too many.
  mutating func allows(now: Instant, interval: Duration) -> Bool {
    defer { last = now }
    if forgives {
      forgives = false
      strikes = 0
      return true
    }
    if let last, last.advanced(by: interval) > now { strikes += 1 }
    return strikes <= HTTP2Limits.maxPingStrikes
  }
}
