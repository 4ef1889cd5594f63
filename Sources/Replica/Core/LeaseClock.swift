import MVCC
import Primitives

/// The deadlines of all leases, kept by the leader alone.
///
/// Leases are replicated without their deadlines: clocks differ between members, so only the leader's
/// counts. A new leader starts every lease at its remaining time plus one election time-out, once it has
/// applied an entry of its own term: before that it might not know a renewal's lease, and the extra time
/// makes up for keep-alives that clients couldn't place while there was no leader. Nothing of this is in
/// the state hash or in snapshots.
///
/// The heap holds one element per (re)scheduling; an element whose deadline isn't the lease's current one
/// is stale and dropped when it surfaces, so a keep-alive is O(log n) and a revocation O(1).
struct LeaseClock {
  private struct Scheduled {
    let deadline: Instant
    let lease: LeaseID
  }

  private struct State {
    var granted: Int64
    var deadline: Instant
    /// Where the newest heap element for the lease stands; renewals only move `deadline` forward.
    var scheduled: Instant
    /// Its expiry has been proposed at this moment.
    var expiring: Instant?
  }

  private var states: [LeaseID: State] = [:]
  private var heap: [Scheduled] = []
  /// False on followers, and on a leader that has not applied an entry of its term.
  private(set) var isRunning = false

  var count: Int { states.count }

  mutating func stop() {
    states = [:]
    heap = []
    isRunning = false
  }

  /// Starts all deadlines anew, `grace` later than their remaining time says.
  mutating func start(
    _ leases: [(id: LeaseID, granted: Int64, remaining: Int64)], now: Instant, grace: Duration
  ) {
    stop()
    isRunning = true
    for lease in leases {
      #if PLANTED_BUGS
        if PlantedBug.forgottenLeases.isPlanted { continue }
        if PlantedBug.leasesWithoutGrace.isPlanted {
          schedule(lease.id, granted: lease.granted, deadline: now)
          continue
        }
      #endif
      schedule(
        lease.id, granted: lease.granted,
        deadline: LeaseClock.deadline(after: lease.remaining, from: now.advanced(by: grace)))
    }
  }

  mutating func granted(_ lease: LeaseID, seconds: Int64, now: Instant) {
    guard isRunning else { return }
    schedule(lease, granted: seconds, deadline: LeaseClock.deadline(after: seconds, from: now))
  }

  mutating func revoked(_ lease: LeaseID) { states[lease] = nil }

  /// Gives the lease its whole time again, unless it is unknown or its expiry is under way.
  mutating func renew(_ lease: LeaseID, now: Instant) -> LeaseTime? {
    guard let state = states[lease], state.expiring == nil, state.deadline > now else { return nil }
    #if PLANTED_BUGS
      if PlantedBug.idleRenewal.isPlanted {
        return LeaseTime(granted: state.granted, remaining: state.granted)
      }
    #endif
    states[lease]!.deadline = LeaseClock.deadline(after: state.granted, from: now)
    return LeaseTime(granted: state.granted, remaining: state.granted)
  }

  func time(of lease: LeaseID, now: Instant) -> LeaseTime? {
    guard let state = states[lease] else { return nil }
    let left = state.deadline.nanoseconds(since: now) / 1_000_000_000
    return LeaseTime(granted: state.granted, remaining: Int64(clamping: left))
  }

  /// Leases whose time is over, at most `limit`, marked as expiring.
  ///
  /// One whose expiry was proposed is offered again after `retry`, because the proposal may be lost.
  mutating func takeExpired(now: Instant, limit: Int, retry: Duration) -> [LeaseID] {
    var expired: [LeaseID] = []
    while expired.count < limit, let first = heap.first, first.deadline <= now {
      removeFirst()
      guard var state = states[first.lease], state.scheduled == first.deadline else { continue }
      if state.expiring == nil && state.deadline > now {
        // Renewed since it was scheduled: only now does the renewal cost a heap operation.
        push(first.lease, at: state.deadline)
        continue
      }
      expired.append(first.lease)
      state.expiring = now
      states[first.lease] = state
      push(first.lease, at: now.advanced(by: retry))
    }
    return expired
  }

  /// What is left of each lease that lives longer than `seconds`, for a checkpoint. O(n log n).
  func remaining(longerThan seconds: Int64, now: Instant) -> [(id: LeaseID, remaining: Int64)] {
    states.compactMap { id, state -> (id: LeaseID, remaining: Int64)? in
      guard state.granted > seconds, state.expiring == nil else { return nil }
      let left = Int64(clamping: state.deadline.nanoseconds(since: now) / 1_000_000_000)
      return left > 0 && left < state.granted ? (id, left) : nil
    }.sorted { $0.id < $1.id }
  }

  private static func deadline(after seconds: Int64, from now: Instant) -> Instant {
    let (nanoseconds, overflow) = UInt64(clamping: seconds)
      .multipliedReportingOverflow(by: 1_000_000_000)
    return now.advanced(byNanoseconds: overflow ? .max : nanoseconds)
  }

  private mutating func schedule(_ lease: LeaseID, granted: Int64, deadline: Instant) {
    states[lease] = State(granted: granted, deadline: deadline, scheduled: deadline, expiring: nil)
    push(lease, at: deadline)
  }

  // MARK: The heap

  private mutating func push(_ lease: LeaseID, at deadline: Instant) {
    states[lease]?.scheduled = deadline
    heap.append(Scheduled(deadline: deadline, lease: lease))
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard heap[child].deadline < heap[parent].deadline else { break }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  private mutating func removeFirst() {
    heap.swapAt(0, heap.count - 1)
    heap.removeLast()
    var parent = 0
    while true {
      var smallest = parent
      for child in [2 * parent + 1, 2 * parent + 2]
      where child < heap.count && heap[child].deadline < heap[smallest].deadline {
        smallest = child
      }
      if smallest == parent { break }
      heap.swapAt(parent, smallest)
      parent = smallest
    }
  }
}
