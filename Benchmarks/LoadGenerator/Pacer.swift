/// When the requests of one connection are due.
///
/// A closed loop sends the next request when an answer arrives, so a slow server is asked less often,
/// and the waits that its slowness would have caused are never seen (coordinated omission). With a rate
/// given, requests are due at fixed instants whatever the server does: one that finds no free place
/// waits, and its latency counts from the instant it was due.
struct Pacer {
  /// Nanoseconds between requests; nil for a closed loop.
  private let interval: Double?
  private let origin: UInt64
  private var issued: UInt64 = 0

  /// - Parameters:
  ///   - rate: requests per second of this connection; nil for a closed loop.
  ///   - origin: when the first request is due, in nanoseconds.
  init(rate: Double?, origin: UInt64) {
    interval = rate.map { 1e9 / $0 }
    self.origin = origin
  }

  /// When the next request is due; nil if at any time.
  var nextDue: UInt64? {
    interval.map { origin + UInt64(Double(issued) * $0) }
  }

  /// Takes a request's turn, if one is due.
  ///
  /// - Returns: the instant from which its latency counts; nil if none is due yet.
  mutating func take(now: UInt64) -> UInt64? {
    guard let due = nextDue else { return now }
    guard due <= now else { return nil }
    issued += 1
    return due
  }

  /// How many requests are due before `end` and have not had their turn.
  func dueBefore(_ end: UInt64) -> UInt64 {
    guard let interval, end > origin else { return 0 }
    let all = UInt64(Double(end - origin) / interval)
    return all > issued ? all - issued : 0
  }
}
