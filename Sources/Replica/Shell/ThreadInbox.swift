import Glibc
import Primitives

/// A queue that one thread drains whole.
///
/// Many threads append; the owner takes everything at once, so the hand-over costs one lock and at most
/// one wake-up a batch, however many items it holds. Waking costs some 40 µs of CPU on the machines we
/// measured, hence a sleeping flag: an owner that is busy is never signalled.
final class ThreadInbox<Item: Sendable>: @unchecked Sendable {
  // All state is guarded by `mutex`; both primitives live as long as the inbox and never move.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var items: [Item] = []
  private var isSleeping = false
  private var isClosed = false

  init() {
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(condition, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  /// Adds an item and wakes the owner if it sleeps. False once the inbox is closed.
  @discardableResult
  func append(_ item: Item) -> Bool {
    pthread_mutex_lock(mutex)
    guard !isClosed else {
      pthread_mutex_unlock(mutex)
      return false
    }
    items.append(item)
    let wake = isSleeping
    isSleeping = false
    pthread_mutex_unlock(mutex)
    if wake { pthread_cond_signal(condition) }
    return true
  }

  /// Takes all items, waiting for the first until `deadline`. Returns what was there at the deadline,
  /// perhaps nothing; nil once the inbox is closed and drained.
  func take(until deadline: Instant?) -> [Item]? {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while items.isEmpty && !isClosed {
      isSleeping = true
      if let deadline {
        var time = timespec(
          tv_sec: Int(clamping: deadline.nanoseconds / 1_000_000_000),
          tv_nsec: Int(deadline.nanoseconds % 1_000_000_000))
        if pthread_cond_timedwait(condition, mutex, &time) == ETIMEDOUT { break }
      } else {
        pthread_cond_wait(condition, mutex)
      }
    }
    isSleeping = false
    if items.isEmpty && isClosed { return nil }
    var taken: [Item] = []
    swap(&taken, &items)
    return taken
  }

  /// Refuses further items; what is queued is still taken.
  func close() {
    pthread_mutex_lock(mutex)
    isClosed = true
    pthread_mutex_unlock(mutex)
    pthread_cond_broadcast(condition)
  }
}

/// The machine's monotonic clock.
enum MonotonicClock {
  static var now: Instant {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Instant(nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
  }
}

/// A thread of our own, for work that must not share a pool: the writer, the log, the background.
final class Thread: Sendable {
  private let handle: pthread_t

  /// Starts a thread that runs `body` once.
  init(named name: String, _ body: @escaping @Sendable () -> Void) {
    final class Start {
      let name: String
      let body: @Sendable () -> Void
      init(name: String, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
      }
    }
    let start = Unmanaged.passRetained(Start(name: name, body: body))
    var handle = pthread_t()
    let code = pthread_create(
      &handle, nil,
      { argument in
        let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
        Thread.setName(start.name)
        start.body()
        return nil
      }, start.toOpaque())
    invariant(code == 0, "a thread could not be started: error \(code)")
    self.handle = handle
  }

  /// Names the calling thread for `top` and `perf`. Linux keeps 15 bytes.
  private static func setName(_ name: String) {
    let file = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
    guard file >= 0 else { return }
    _ = name.withCString { write(file, $0, min(strlen($0), 15)) }
    close(file)
  }

  /// Waits until the thread has ended.
  func join() { pthread_join(handle, nil) }
}
