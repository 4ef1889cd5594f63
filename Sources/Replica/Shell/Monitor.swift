import Glibc
import Primitives

/// A lock, and a way to wait for somebody else to change what it guards, until an instant at most.
///
/// What the standard library's `Mutex` lacks is the waiting. Deadlines are on the monotonic clock.
final class Monitor: @unchecked Sendable {
  // Both primitives live as long as the monitor and never move.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

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

  func lock() { pthread_mutex_lock(mutex) }
  func unlock() { pthread_mutex_unlock(mutex) }

  /// Wakes one thread that waits.
  func signal() { pthread_cond_signal(condition) }
  /// Wakes every thread that waits.
  func broadcast() { pthread_cond_broadcast(condition) }

  /// Gives the lock up until woken, and takes it again. May return without cause.
  func wait() { pthread_cond_wait(condition, mutex) }

  /// The same, until `deadline` at most; false if it has passed.
  @discardableResult
  func wait(until deadline: Instant) -> Bool {
    var time = timespec(
      tv_sec: Int(clamping: deadline.nanoseconds / 1_000_000_000),
      tv_nsec: Int(deadline.nanoseconds % 1_000_000_000))
    return pthread_cond_timedwait(condition, mutex, &time) != ETIMEDOUT
  }
}
