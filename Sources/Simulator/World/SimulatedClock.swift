import Primitives

/// A member's monotonic clock: near the world's, but neither as fast nor as steady.
struct SimulatedClock: Sendable {
  /// Where the world's clock and this one stood when the rate last changed.
  private var world: Instant
  private var local: Instant
  /// How much faster than the world's it runs, in parts per million.
  private let drift: Int64

  init(at world: Instant, reading local: Instant, drift: Int64) {
    self.world = world
    self.local = local
    self.drift = drift
  }

  /// What it shows at an instant of the world.
  func reading(at instant: Instant) -> Instant {
    let elapsed = Int64(clamping: instant.nanoseconds(since: world))
    return local.advanced(byNanoseconds: UInt64(clamping: elapsed + elapsed / 1_000_000 * drift))
  }

  /// When, in the world's time, it will show `reading`; never before.
  func instant(of reading: Instant) -> Instant {
    let elapsed = Int64(clamping: reading.nanoseconds(since: local))
    let needed = elapsed - elapsed / 1_000_000 * drift * 1_000_000 / (1_000_000 + drift)
    // A little later rather than a little earlier, so that a wake-up finds its deadline come.
    return world.advanced(byNanoseconds: UInt64(clamping: needed + 1_000))
  }

  mutating func leap(by nanoseconds: UInt64, at instant: Instant) {
    local = reading(at: instant).advanced(byNanoseconds: nanoseconds)
    world = instant
  }
}
