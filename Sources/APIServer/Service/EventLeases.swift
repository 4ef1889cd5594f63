import EtcdClient
import Primitives
import Synchronization

/// Leases that make Events go away after an hour, shared by those written in the same minute.
final class EventLeases: Sendable {
  enum Limits {
    static let eventSeconds: Int64 = 3_600
    /// How long a lease is given to new events; they live that much longer at most.
    static let sharedFor: Duration = .seconds(60)
    /// Keys per lease: a lease's end deletes them all at once.
    static let keysPerLease = 1_000
  }

  private struct Shared {
    var lease: LeaseID
    var until: ContinuousClock.Instant
    var keys: Int
  }
  private let shared = Mutex<Shared?>(nil)
  private let store: any ObjectStore

  init(store: any ObjectStore) { self.store = store }

  func lease() async throws(StoreError) -> LeaseID {
    let now = ContinuousClock.now
    let current: LeaseID? = shared.withLock { shared in
      guard var lease = shared, lease.until > now, lease.keys < Limits.keysPerLease else {
        return nil
      }
      lease.keys += 1
      shared = lease
      return lease.lease
    }
    if let current { return current }
    let seconds = Limits.eventSeconds + Limits.sharedFor.components.seconds
    let lease = try await store.grantLease(seconds: seconds)
    shared.withLock { $0 = Shared(lease: lease, until: now + Limits.sharedFor, keys: 1) }
    return lease
  }

  /// Forgets the lease in use: the store doesn't know it any more.
  func reset() { shared.withLock { $0 = nil } }
}
