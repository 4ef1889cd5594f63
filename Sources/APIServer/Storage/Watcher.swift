import Primitives
import Synchronization

/// The queue between the cache and one client's watch.
final class Watcher: Sendable {
  /// What a client is told.
  enum Notice: Sendable {
    case object(WatchCache.EventKind, StoredObject)
    /// Every change up to this revision was told.
    case bookmark(Revision, endsInitialEvents: Bool)
  }

  let bucket: WatchCache.Bucket
  private let matches: @Sendable (StoredObject) -> Bool

  private struct State {
    var queue: [Notice] = []
    var hasEnded = false
    var consumer: CheckedContinuation<[Notice]?, Never>?
  }
  private let state = Mutex(State())

  init(bucket: WatchCache.Bucket, matches: @escaping @Sendable (StoredObject) -> Bool) {
    self.bucket = bucket
    self.matches = matches
  }

  // MARK: The cache's side

  /// Queues an event if it concerns this watcher.
  ///
  /// - Returns: false where the queue is full: the watcher must be ended.
  func offer(_ event: WatchCache.Event) -> Bool {
    func concerns(_ object: StoredObject) -> Bool { bucket.contains(object) && matches(object) }
    let wasSeen = event.previous.map(concerns) ?? false
    let isSeen = !event.isDeletion && concerns(event.object)
    switch (wasSeen, isSeen) {
    case (false, false): return true
    case (false, true): return enqueue(.object(.added, event.object))
    case (true, true): return enqueue(.object(.modified, event.object))
    case (true, false):
      // The last state that the client knew of, at the revision of the change that took it away.
      if event.isDeletion { return enqueue(.object(.deleted, event.object)) }
      guard let previous = event.previous else { return true }
      return enqueue(.object(.deleted, StoredObject(previous, revision: event.revision)))
    }
  }

  /// Queues an object that was there when the watch began; unbounded, as a list's answer is.
  func enqueueInitial(_ object: StoredObject) {
    state.withLock { $0.queue.append(.object(.added, object)) }
  }

  func endInitial(at revision: Revision) {
    state.withLock { $0.queue.append(.bookmark(revision, endsInitialEvents: true)) }
  }

  func enqueueBookmark(at revision: Revision) {
    _ = enqueue(.bookmark(revision, endsInitialEvents: false))
  }

  private func enqueue(_ notice: Notice) -> Bool {
    let (accepted, consumer) = state.withLock {
      state -> (Bool, CheckedContinuation<[Notice]?, Never>?) in
      if state.hasEnded { return (false, nil) }
      if let consumer = state.consumer {
        state.consumer = nil
        return (true, consumer)
      }
      guard state.queue.count < WatchCache.Limits.eventsPerWatcher || isInitial(state.queue) else {
        return (false, nil)
      }
      state.queue.append(notice)
      return (true, nil)
    }
    consumer?.resume(returning: [notice])
    return accepted
  }

  /// The initial objects don't count against the bound.
  private func isInitial(_ queue: [Notice]) -> Bool {
    let extra = queue.count - WatchCache.Limits.eventsPerWatcher
    guard extra >= 0, queue.indices.contains(extra) else { return true }
    for notice in queue[extra...] {
      if case .bookmark(_, true) = notice { return true }
    }
    return false
  }

  /// Ends the watch: what is queued is still told.
  func end() {
    let consumer = state.withLock { state in
      state.hasEnded = true
      defer { state.consumer = nil }
      return state.consumer
    }
    consumer?.resume(returning: nil)
  }

  // MARK: The client's side

  /// Everything that is queued, or what comes next; nil at the end.
  func next() async -> [Notice]? {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let ready: [Notice]?? = state.withLock { state in
          if !state.queue.isEmpty {
            defer { state.queue = [] }
            return .some(state.queue)
          }
          if state.hasEnded { return .some(nil) }
          state.consumer = continuation
          return .none
        }
        if case .some(let notices) = ready { continuation.resume(returning: notices) }
      }
    } onCancel: {
      end()
    }
  }
}
