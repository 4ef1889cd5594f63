import Primitives

/// A token bucket: what a peer may cost us without giving anything in return.
struct FloodBudget {
  private let shape: HTTP2Limits.Budget
  /// Nanoseconds' worth of regained fractions are kept by only moving `last` when a token came back.
  private var tokens: Int
  private var last = Instant.origin

  init(_ shape: HTTP2Limits.Budget) {
    self.shape = shape
    tokens = shape.burst
  }

  /// Takes one token; false when none is left.
  mutating func spend(now: Instant) -> Bool {
    if tokens <= shape.burst / 2 { refill(now) }
    if tokens == 0 { return false }
    tokens -= 1
    return true
  }

  /// Gives back what good behaviour earned.
  @inline(__always)
  mutating func earn(_ count: Int) {
    tokens = min(shape.burst, tokens &+ count)
  }

  private mutating func refill(_ now: Instant) {
    // The clock's origin means nothing here: time counts from the first look at it.
    if last == .origin { last = now }
    let elapsed = now.nanoseconds(since: last)
    let perSecond = UInt64(max(shape.perSecond, 1))
    if elapsed / 1_000_000_000 >= UInt64(shape.burst) / perSecond + 1 {
      tokens = shape.burst
      last = now
      return
    }
    // At most burst / perSecond + 1 seconds, so the product stays far below 64 bits.
    let regained = elapsed * perSecond / 1_000_000_000
    if regained == 0 { return }
    tokens = min(shape.burst, tokens + Int(regained))
    last = now
  }
}
