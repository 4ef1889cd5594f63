import Histogram
import NIOCore

/// What a run observed: latencies, and errors by kind. One for each event loop, added up at the end.
///
/// Its histograms have their whole range from the start: growing takes milliseconds, during which the
/// generator would look like a slow server.
struct Recorder: Sendable {
  /// How many of each kind of error are told apart; beyond, they are counted as "other".
  static let maximumErrorKinds = 32

  /// The longest latency that is told from longer ones, in nanoseconds.
  static let longestLatency: UInt64 = 100_000_000_000

  /// Latencies in nanoseconds, to three significant digits.
  private(set) var latencies = Recorder.emptyHistogram
  /// The same since the last progress line.
  private var recent = Recorder.emptyHistogram
  private(set) var errors: [String: UInt64] = [:]
  /// Transactions whose comparison failed; they took the other branch.
  private(set) var conflicts: UInt64 = 0
  /// Gets that found nothing.
  private(set) var misses: UInt64 = 0

  var completed: UInt64 { latencies.totalCount }
  var failed: UInt64 { errors.values.reduce(0, +) }

  /// A histogram that never grows.
  static var emptyHistogram: Histogram<UInt64> {
    Histogram(
      lowestDiscernibleValue: 1_000, highestTrackableValue: longestLatency,
      numberOfSignificantValueDigits: .three)
  }

  mutating func record(nanoseconds: UInt64) {
    let latency = min(nanoseconds, Recorder.longestLatency)
    latencies.record(latency)
    recent.record(latency)
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

/// The recorder of one event loop, which all its connections share.
final class LoopRecorder: @unchecked Sendable {
  // Touched on the event loop only.
  let eventLoop: any EventLoop
  var recorder = Recorder()

  init(eventLoop: any EventLoop) { self.eventLoop = eventLoop }

  /// Forgets everything, for a new phase.
  func reset() -> EventLoopFuture<Void> { eventLoop.submit { self.recorder = Recorder() } }

  /// Observations since the last call, for the progress line.
  func takeRecent() -> EventLoopFuture<Histogram<UInt64>> {
    eventLoop.submit { self.recorder.takeRecent() }
  }

  /// Everything observed since `reset`.
  func observed() -> EventLoopFuture<Recorder> { eventLoop.submit { self.recorder } }
}
