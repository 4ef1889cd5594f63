import APIServer
import EtcdClient
import Primitives
import Synchronization

/// A store in memory with etcd's behaviour, as far as the API server uses it.
final class MemoryStore: ObjectStore {
  private struct State {
    var revision = Revision(1)
    var compacted = Revision.zero
    var records: [[UInt8]: StoreRecord] = [:]
    /// Every change since the beginning.
    var history: [StoreChange] = []
    var watchers: [UInt64: AsyncStream<StoreChange>.Continuation] = [:]
    var nextID: UInt64 = 1
    /// Failures to come: each request to change something takes the first one.
    var failures: [StoreError] = []

    mutating func publish(_ change: StoreChange) {
      history.append(change)
      for watcher in watchers.values { watcher.yield(change) }
    }

    /// Changes a swap's companion at the swap's revision.
    mutating func apply(_ companion: StoreSwap.Companion) {
      switch companion {
      case .claim(let key, let value):
        let record = StoreRecord(
          key: key, value: value, createRevision: revision, modRevision: revision)
        records[key] = record
        publish(StoreChange(kind: .put, record: record))
      case .release(let key):
        guard records.removeValue(forKey: key) != nil else { return }
        let tombstone = StoreRecord(
          key: key, value: [], createRevision: .zero, modRevision: revision)
        publish(StoreChange(kind: .delete, record: tombstone))
      }
    }
  }
  private let state = Mutex(State())

  /// The next changes fail with these errors, after having taken place.
  func failAfterwards(_ errors: [StoreError]) { state.withLock { $0.failures = errors } }

  /// Forgets the changes up to a revision.
  func compact(to revision: Revision) { state.withLock { $0.compacted = revision } }

  func read(_ query: StoreQuery) async throws(StoreError) -> StorePage {
    let result: Result<StorePage, StoreError> = state.withLock { state in
      if let revision = query.revision, revision < state.compacted {
        return .failure(
          StoreError(.compacted, "compacted", compactRevision: state.compacted))
      }
      if let revision = query.revision, revision > state.revision {
        return .failure(StoreError(.futureRevision, "future"))
      }
      var records = state.records
      if let revision = query.revision {
        records = [:]
        for change in state.history where change.record.modRevision <= revision {
          records[change.record.key] = change.kind == .put ? change.record : nil
        }
      }
      let found = records.values.filter { Self.contains(query.range, $0.key) }
        .sorted { $0.key.lexicographicallyPrecedes($1.key) }
      let limit = query.limit ?? Int.max
      return .success(
        StorePage(
          records: Array(found.prefix(limit)), hasMore: found.count > limit, count: found.count,
          revision: state.revision))
    }
    return try result.get()
  }

  func currentRevision() async throws(StoreError) -> Revision { state.withLock { $0.revision } }

  func swap(_ swap: StoreSwap) async throws(StoreError) -> StoreSwapOutcome {
    let result: Result<StoreSwapOutcome, StoreError> = state.withLock { state in
      let current = state.records[swap.key]
      guard (current?.modRevision ?? .zero) == swap.expected else {
        return .success(.conflict(current: current))
      }
      let taken = swap.claims.filter { state.records[$0] != nil }
      if !taken.isEmpty { return .success(.taken(keys: taken)) }
      state.revision = state.revision.next
      let revision = state.revision
      let change: StoreChange
      switch swap.change {
      case .put(let value, let lease):
        let record = StoreRecord(
          key: swap.key, value: value, createRevision: current?.createRevision ?? revision,
          modRevision: revision, version: (current?.version ?? 0) + 1, lease: lease)
        state.records[swap.key] = record
        change = StoreChange(kind: .put, record: record)
      case .delete:
        state.records[swap.key] = nil
        let tombstone = StoreRecord(
          key: swap.key, value: [], createRevision: .zero, modRevision: revision)
        change = StoreChange(kind: .delete, record: tombstone)
      }
      state.publish(change)
      for companion in swap.companions { state.apply(companion) }
      if !state.failures.isEmpty { return .failure(state.failures.removeFirst()) }
      return .success(.done(revision))
    }
    return try result.get()
  }

  /// Sets or deletes a key, whatever it is at.
  func set(_ key: String, _ value: String?) async throws {
    let bytes = Array(key.utf8)
    let current = state.withLock { $0.records[bytes]?.modRevision ?? .zero }
    _ = try await swap(
      StoreSwap(
        key: bytes, expected: current,
        change: value.map { .put(value: Array($0.utf8), lease: .none) } ?? .delete))
  }

  func grantLease(seconds: Int64) async throws(StoreError) -> LeaseID { LeaseID(seconds) }

  func watch(
    _ range: StoreRange, from revision: Revision, deliver: (StoreUpdate) async throws -> Void
  ) async throws {
    let (stream, continuation) = AsyncStream.makeStream(of: StoreChange.self)
    let (id, compacted) = state.withLock { state in
      for change in state.history where change.record.modRevision >= revision {
        continuation.yield(change)
      }
      let id = state.nextID
      state.nextID += 1
      state.watchers[id] = continuation
      return (id, state.compacted)
    }
    defer { state.withLock { $0.watchers[id] = nil } }
    if revision <= compacted {
      throw StoreError(.compacted, "compacted", compactRevision: compacted)
    }
    for await change in stream where Self.contains(range, change.record.key) {
      try await deliver(.changes([change]))
    }
    try Task.checkCancellation()
  }

  /// Cuts all watches, as a lost connection that can't be resumed does.
  func cutWatches() {
    for watcher in state.withLock({ Array($0.watchers.values) }) { watcher.finish() }
  }

  private static func contains(_ range: StoreRange, _ key: [UInt8]) -> Bool {
    if range.end.isEmpty { return key == range.first }
    if key.lexicographicallyPrecedes(range.first) { return false }
    return range.end == [0] || key.lexicographicallyPrecedes(range.end)
  }
}
