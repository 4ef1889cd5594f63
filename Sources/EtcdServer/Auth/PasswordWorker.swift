import NIOCore
import NIOPosix
import Primitives
import Synchronization

/// Hashes and checks passwords on threads of its own, for all event loops.
final class PasswordWorker: Sendable {
  private let pool: NIOThreadPool
  private let waiting = Atomic<Int>(0)

  init() { pool = NIOThreadPool(numberOfThreads: max(1, System.coreCount / 2)) }

  /// Starts the threads.
  func start() { pool.start() }

  func stop() { pool.shutdownGracefully { _ in } }

  /// Runs `work` off the loop and hands its result to `done` on `loop`.
  ///
  /// - Returns: false, and nothing happens, if too many wait already.
  func run<Result: Sendable>(
    on loop: any EventLoop, _ work: @escaping @Sendable () -> Result,
    done: @escaping @Sendable (Result) -> Void
  ) -> Bool {
    guard waiting.add(1, ordering: .relaxed).newValue <= EtcdServerLimits.waitingPasswords else {
      waiting.subtract(1, ordering: .relaxed)
      return false
    }
    pool.submit { _ in
      let result = work()
      self.waiting.subtract(1, ordering: .relaxed)
      loop.execute { done(result) }
    }
    return true
  }
}
