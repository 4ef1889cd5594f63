import Histogram

/// What a run observed: latencies, and errors by kind. One for each event loop, added up at the end.
struct Recorder: Sendable {
  /// How many of each kind of error are told apart; beyond, they are counted as "other".
  static let maximumErrorKinds = 32

  /// Latencies in nanoseconds, to three significant digits.
  private(set) var latencies = Histogram<UInt64>(numberOfSignificantValueDigits: .three)
  /// The same since the last progress line.
  private var recent = Histogram<UInt64>(numberOfSignificantValueDigits: .three)
  private(set) var errors: [String: UInt64] = [:]
  /// Transactions whose comparison failed; they took the other branch.
  private(set) var conflicts: UInt64 = 0
  /// Gets that found nothing.
  private(set) var misses: UInt64 = 0

  var completed: UInt64 { latencies.totalCount }
  var failed: UInt64 { errors.values.reduce(0, +) }

  mutating func record(nanoseconds: UInt64) {
    latencies.record(nanoseconds)
    recent.record(nanoseconds)
  }

  mutating func recordConflict() { conflicts += 1 }
  mutating func recordMiss() { misses += 1 }

  mutating func record(error: String) {
    if errors[error] == nil && errors.count >= Self.maximumErrorKinds {
      errors["other", default: 0] += 1
    } else {
      errors[error, default: 0] += 1
    }
  }

  /// What was observed since the last call.
  mutating func takeRecent() -> Histogram<UInt64> {
    defer { recent.reset() }
    return recent
  }

  mutating func add(_ other: Recorder) {
    latencies.add(other.latencies)
    conflicts += other.conflicts
    misses += other.misses
    for (error, count) in other.errors { errors[error, default: 0] += count }
  }
}
