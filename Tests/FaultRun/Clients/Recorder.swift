import Dispatch
import Synchronization
import Verification

/// What all clients of a run asked and were told, on one clock.
final class Recorder: Sendable {
  /// A lease as its holder knows it.
  struct Lease: Sendable {
    var id: Int64
    /// Up to this instant the holder may rely on it: what the store granted, counted from before the
    /// request left.
    var validUntil: UInt64
    /// When its holder first asked to revoke it; the end of time if it never did.
    var revokedFrom = UInt64.max
    /// When a holder who may still rely on it was told that there is no such lease.
    var deniedEarlyAt: UInt64?
  }

  private struct State {
    var history = History()
    var streams: [WatchHistory] = []
    var leases: [Int64: Lease] = [:]
    var newestRevision: Int64 = 1
    var compactedRevision: Int64 = 0
    var answered = 0
    var unknown = 0
    var refused = 0
    var reasons: [String: Int] = [:]
  }

  struct Counts: Sendable {
    var answered: Int
    var unknown: Int
    var refused: Int
  }

  private let state = Mutex(State())
  private let stopping = Atomic<Bool>(false)

  /// Nanoseconds of the machine's monotonic clock.
  static func now() -> UInt64 { DispatchTime.now().uptimeNanoseconds }

  /// Whether clients should come to their end.
  var isStopping: Bool { stopping.load(ordering: .acquiring) }
  func stop() { stopping.store(true, ordering: .releasing) }

  // MARK: Calls

  func begin(_ request: ModelRequest, client: Int) -> Int {
    let now = Self.now()
    return state.withLock { $0.history.begin(request, client: client, at: now) }
  }

  func finish(_ call: Int, _ outcome: ModelOutcome) {
    let now = Self.now()
    state.withLock { state in
      state.history.finish(call, outcome, at: now)
      switch outcome {
      case .answered(_, let revision):
        state.answered += 1
        state.newestRevision = max(state.newestRevision, revision)
      case .refused: state.refused += 1
      case .unknown: state.unknown += 1
      }
    }
  }

  /// Counts why calls failed.
  func note(_ reason: String) { state.withLock { $0.reasons[reason, default: 0] += 1 } }

  var counts: Counts {
    state.withLock { Counts(answered: $0.answered, unknown: $0.unknown, refused: $0.refused) }
  }
  var reasons: [String: Int] { state.withLock { $0.reasons } }
  var newestRevision: Int64 { state.withLock { $0.newestRevision } }
  var compactedRevision: Int64 { state.withLock { $0.compactedRevision } }
  var history: History { state.withLock { $0.history } }

  /// Someone is about to ask for a compaction up to here.
  func mayCompact(_ revision: Int64) {
    state.withLock { $0.compactedRevision = max($0.compactedRevision, revision) }
  }

  // MARK: Leases

  /// A lease was granted to a request that left at `start`. Its end, whenever that is, may take a revision.
  func granted(_ id: Int64, seconds: Int64, start: UInt64) {
    state.withLock {
      $0.leases[id] = Lease(id: id, validUntil: start + UInt64(seconds) * 1_000_000_000)
      _ = $0.history.begin(.endLease(id), client: -1, at: start)
    }
  }

  func renewed(_ id: Int64, seconds: Int64, start: UInt64) {
    let until = start + UInt64(max(seconds, 0)) * 1_000_000_000
    state.withLock { state in
      guard let lease = state.leases[id] else { return }
      state.leases[id]?.validUntil = max(lease.validUntil, until)
    }
  }

  /// The holder was told that there is no such lease.
  func denied(_ id: Int64) {
    let now = Self.now()
    state.withLock { state in
      guard let lease = state.leases[id], now < lease.validUntil, now < lease.revokedFrom else { return }
      state.leases[id]?.deniedEarlyAt = now
    }
  }

  func mayRevoke(_ id: Int64) {
    let now = Self.now()
    state.withLock { state in
      guard let lease = state.leases[id] else { return }
      state.leases[id]?.revokedFrom = min(lease.revokedFrom, now)
    }
  }

  var leases: [Lease] { state.withLock { $0.leases.values.sorted { $0.id < $1.id } } }

  // MARK: Watches

  func add(_ stream: WatchHistory) { state.withLock { $0.streams.append(stream) } }
  var streams: [WatchHistory] { state.withLock { $0.streams } }
}
