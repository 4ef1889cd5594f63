import EtcdClient
import Primitives

/// What the API server needs of a store: the part of etcd's API that it uses, and no more.
///
/// `StoreClient` is the real one; tests that are not about the store use one in memory.
public protocol ObjectStore: Sendable {
  func read(_ query: StoreQuery) async throws(StoreError) -> StorePage
  /// The revision that a linearizable read finds.
  func currentRevision() async throws(StoreError) -> Revision
  func swap(_ swap: StoreSwap) async throws(StoreError) -> StoreSwapOutcome
  func grantLease(seconds: Int64) async throws(StoreError) -> LeaseID
  /// Delivers every change from `revision` on, once and in order, until cancelled.
  func watch(
    _ range: StoreRange, from revision: Revision, deliver: (StoreUpdate) async throws -> Void
  ) async throws
}

extension ObjectStore {
  func get(
    _ key: String
  ) async throws(StoreError) -> (record: StoreRecord?, revision: Revision) {
    let page = try await read(StoreQuery(.key(Array(key.utf8))))
    return (page.records.first, page.revision)
  }
}

extension StoreClient: ObjectStore {}
