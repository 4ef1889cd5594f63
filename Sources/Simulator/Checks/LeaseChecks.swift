import MVCC
import Primitives

/// What may be relied on about leases: none ends before its time, and none stays after it.
///
/// A lease's time runs from when the leader granted or renewed it. The client knows only when it asked, which was
/// earlier, so counting from there errs on the safe side. A leader may be deposed and not know it yet when it
/// renews; such a renewal doesn't count here (etcd's documentation warns of it, too).
struct LeaseChecks {
  private struct Known {
    var seconds: Int64
    /// Not before this instant may it end by itself.
    var holdsUntil: Instant
    /// Views from this index on must show it.
    var from: LogIndex
    /// It was, or is being, revoked.
    var mayEnd = false
  }

  /// How much of a lease's time clocks that run fast may take, in parts per million of it.
  let drift: UInt64
  /// Off where clocks leap: a leader whose clock leaps ends leases early, and can't know.
  let isOn: Bool
  private var leases: [LeaseID: Known] = [:]
  private(set) var longest: Int64 = 0

  init(drift: UInt64, isOn: Bool) {
    self.drift = drift
    self.isOn = isOn
  }

  mutating func granted(_ id: LeaseID, seconds: Int64, start: Instant, appliedIndex: LogIndex) {
    longest = max(longest, seconds)
    leases[id] = Known(seconds: seconds, holdsUntil: end(seconds, start), from: appliedIndex)
  }

  mutating func renewed(_ id: LeaseID, start: Instant) {
    guard let known = leases[id] else { return }
    let holdsUntil = max(known.holdsUntil, end(known.seconds, start))
    leases[id]?.holdsUntil = holdsUntil
  }

  mutating func mayEnd(_ id: LeaseID) { leases[id]?.mayEnd = true }

  mutating func revoked(_ id: LeaseID) { leases[id] = nil }

  /// A renewal was answered with "no such lease".
  mutating func denied(_ id: LeaseID, at now: Instant) throws {
    guard let known = leases[id], isOn, !known.mayEnd, now < known.holdsUntil else { return }
    throw Violation("lease \(id) couldn't be renewed, though it has time left", now)
  }

  /// Every view shows every lease that has time left.
  mutating func check(_ view: StoreView, of member: NodeID, at now: Instant) throws {
    guard isOn else { return }
    for (id, known) in leases {
      if known.mayEnd || now >= known.holdsUntil {
        if !known.mayEnd, now.nanoseconds(since: known.holdsUntil) > 60_000_000_000 {
          leases[id] = nil
        }
        continue
      }
      if view.appliedIndex >= known.from, view.lease(id) == nil {
        let left = Double(known.holdsUntil.nanoseconds(since: now)) / 1_000_000_000
        throw Violation(
          "lease \(id) of \(known.seconds) s has ended on member \(member), \(left) s before its time",
          now)
      }
    }
  }

  private func end(_ seconds: Int64, _ start: Instant) -> Instant {
    let whole = UInt64(seconds) * 1_000_000_000
    return start.advanced(byNanoseconds: whole - whole / 1_000_000 * drift)
  }
}
