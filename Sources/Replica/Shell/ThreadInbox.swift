import Glibc
import Primitives

/// A queue that one thread drains whole.
///
/// Many threads append; the owner takes everything at once, so the hand-over costs one lock and at most
/// one wake-up a batch, however many items it holds. Waking costs some 40 µs of CPU on the machines we
/// measured, hence a sleeping flag: an owner that is busy is never signalled.
final class ThreadInbox<Item: Sendable>: @unchecked Sendable {
  // Guards all that follows; the owner waits on it.
  private let monitor = Monitor()
  private var items: [Item] = []
  private var isSleeping = false
  private var isClosed = false

  /// Adds an item and wakes the owner if it sleeps. False once the inbox is closed.
  @discardableResult
  func append(_ item: Item) -> Bool {
    monitor.lock()
    guard !isClosed else {
      monitor.unlock()
      return false
    }
    items.append(item)
    let wake = isSleeping
    isSleeping = false
    monitor.unlock()
    if wake { monitor.signal() }
    return true
  }

  /// Takes all items, waiting for the first; nil once the inbox is closed and drained.
  func take() -> [Item]? {
    monitor.lock()
    defer { monitor.unlock() }
    while items.isEmpty && !isClosed {
      isSleeping = true
      monitor.wait()
    }
    isSleeping = false
    if items.isEmpty && isClosed { return nil }
    var taken: [Item] = []
    swap(&taken, &items)
    return taken
  }

  /// Refuses further items; what is queued is still taken.
  func close() {
    monitor.lock()
    isClosed = true
    monitor.unlock()
    monitor.broadcast()
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
