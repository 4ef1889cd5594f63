import EtcdClient
import Primitives
import Synchronization

/// Reads the store's current revision for many callers at once.
///
/// A consistent list needs a revision that was read after the list was asked for. Callers that come
/// while a read is under way can't use its answer, which may be older than they are; they share the
/// next one. So however many lists arrive, at most one read is under way and one waits.
final class RevisionReader: Sendable {
  private struct State {
    var running: Task<Result<Revision, StoreError>, Never>?
    var next: Task<Result<Revision, StoreError>, Never>?
  }
  private let state = Mutex(State())
  private let store: any ObjectStore

  init(store: any ObjectStore) { self.store = store }

  /// A revision that the store had reached after this was called.
  func read() async throws(StoreError) -> Revision {
    let task = state.withLock { state in
      if let next = state.next { return next }
      let previous = state.running
      let task = Task { [self] in
        _ = await previous?.value
        begin()
        let result = await Self.result(store)
        end()
        return result
      }
      if previous == nil { state.running = task } else { state.next = task }
      return task
    }
    return try await task.value.get()
  }

  /// The waiting read starts: who comes from now on is too late for it.
  private func begin() {
    state.withLock { state in
      guard let next = state.next else { return }
      state.running = next
      state.next = nil
    }
  }

  private func end() {
    state.withLock { state in if state.next == nil { state.running = nil } }
  }

  private static func result(_ store: any ObjectStore) async -> Result<Revision, StoreError> {
    do throws(StoreError) { return .success(try await store.currentRevision()) } catch {
      return .failure(error)
    }
  }
}
