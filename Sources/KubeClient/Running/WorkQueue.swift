import Synchronization

/// Keys that wait to be worked on: each at most once, and never by two workers at a time.
///
/// A key that is added while it is being worked on is worked on again afterwards. One whose work failed
/// comes back later and later. Keys are all that is queued: what is to be done is decided from the
/// state of the world when the key's turn has come.
public final class WorkQueue<Key: Hashable & Sendable>: Sendable {
  private struct State {
    /// Waiting, in order of arrival; `waiting` is the same as a set.
    var queue: [Key] = []
    var head = 0
    var waiting: Set<Key> = []
    var working: Set<Key> = []
    /// Added while being worked on.
    var again: Set<Key> = []
    var failures: [Key: Int] = [:]
    /// When keys will be added, the earliest wish of each: one timer a key, however often it is asked for.
    var timers: [Key: (due: ContinuousClock.Instant, task: Task<Void, Never>)] = [:]
    var idleWorkers: [CheckedContinuation<Key?, Never>] = []
    var isClosed = false
  }

  private let state = Mutex(State())
  private let firstRetry: Duration
  private let lastRetry: Duration

  public init(firstRetry: Duration = .milliseconds(5), lastRetry: Duration = .seconds(60)) {
    self.firstRetry = firstRetry
    self.lastRetry = lastRetry
  }

  /// Queues `key`, if it isn't waiting already.
  public func add(_ key: Key) {
    let worker: CheckedContinuation<Key?, Never>? = state.withLock { state in
      guard !state.isClosed, !state.waiting.contains(key) else { return nil }
      if state.working.contains(key) {
        state.again.insert(key)
        return nil
      }
      if let worker = state.idleWorkers.popLast() {
        state.working.insert(key)
        return worker
      }
      state.waiting.insert(key)
      state.queue.append(key)
      return nil
    }
    worker?.resume(returning: key)
  }

  /// Queues `key` when `delay` has passed, or earlier if that was asked for before.
  public func add(_ key: Key, after delay: Duration) {
    guard delay > .zero else { return add(key) }
    let due = ContinuousClock.now + delay
    state.withLock { state in
      guard !state.isClosed else { return }
      if let timer = state.timers[key] {
        guard due < timer.due else { return }
        timer.task.cancel()
      }
      let task = Task { [weak self] in
        guard (try? await Task.sleep(until: due, clock: .continuous)) != nil else { return }
        self?.fire(key, due)
      }
      state.timers[key] = (due, task)
    }
  }

  private func fire(_ key: Key, _ due: ContinuousClock.Instant) {
    let isCurrent = state.withLock { state in
      guard state.timers[key]?.due == due else { return false }
      state.timers[key] = nil
      return true
    }
    if isCurrent { add(key) }
  }

  /// Queues `key` later, the later the more often it has failed in a row.
  public func retry(_ key: Key) {
    let failures = state.withLock { state in
      state.failures[key, default: 0] += 1
      return state.failures[key]!
    }
    add(key, after: min(firstRetry * (1 << min(failures - 1, 30)), lastRetry))
  }

  /// Forgets the key's failures.
  public func succeeded(_ key: Key) { _ = state.withLock { $0.failures.removeValue(forKey: key) } }

  /// How often the key has failed in a row.
  public func failures(of key: Key) -> Int { state.withLock { $0.failures[key] ?? 0 } }

  /// The next key, which nobody else gets until `done`; nil once the queue is closed.
  public func next() async -> Key? {
    await withCheckedContinuation { continuation in
      let key: Key?? = state.withLock { state in
        if state.isClosed { return .some(nil) }
        guard state.head < state.queue.count else {
          state.idleWorkers.append(continuation)
          return .none
        }
        let key = state.queue[state.head]
        state.head += 1
        if state.head > 1024, state.head * 2 > state.queue.count {
          state.queue.removeFirst(state.head)
          state.head = 0
        }
        state.waiting.remove(key)
        state.working.insert(key)
        return .some(key)
      }
      if let key { continuation.resume(returning: key) }
    }
  }

  /// The work on `key` has ended.
  public func done(_ key: Key) {
    let isWantedAgain = state.withLock { state in
      state.working.remove(key)
      return state.again.remove(key) != nil
    }
    if isWantedAgain { add(key) }
  }

  /// Lets every worker's `next` return nil.
  public func close() {
    let workers = state.withLock { state in
      state.isClosed = true
      for timer in state.timers.values { timer.task.cancel() }
      state.timers = [:]
      defer { state.idleWorkers = [] }
      return state.idleWorkers
    }
    for worker in workers { worker.resume(returning: nil) }
  }
}
