import KubeAPI
import Logging

/// Works through a queue of keys with a function that brings one object's world in line.
///
/// `reconcile` is called for one key at a time by each of a few workers; what it throws is logged and
/// the key tried again later. A conflict is no error worth a line: somebody else was faster, and the cache
/// will tell.
public struct Reconciler<Key: Hashable & Sendable>: Sendable {
  public let name: String
  public let queue: WorkQueue<Key>
  private let workers: Int
  private let log: Logger
  private let reconcile: @Sendable (Key) async throws -> Void

  public init(
    name: String, queue: WorkQueue<Key> = WorkQueue(), workers: Int = 2, log: Logger,
    reconcile: @escaping @Sendable (Key) async throws -> Void
  ) {
    self.name = name
    self.queue = queue
    self.workers = workers
    self.log = log
    self.reconcile = reconcile
  }

  /// Works until the task is cancelled.
  public func run() async {
    await withTaskCancellationHandler {
      await withTaskGroup(of: Void.self) { group in
        for _ in 0..<workers { group.addTask { await work() } }
      }
    } onCancel: {
      queue.close()
    }
  }

  private func work() async {
    while let key = await queue.next() {
      do {
        try await reconcile(key)
        queue.succeeded(key)
      } catch {
        if !(error is CancellationError) {
          let isConflict = (error as? StatusError)?.code == 409
          log.log(
            level: isConflict ? .debug : .warning, "reconciling failed; will be tried again",
            metadata: ["controller": "\(name)", "key": "\(key)", "error": "\(error)"])
          queue.retry(key)
        }
      }
      queue.done(key)
    }
  }
}
