import Primitives
import Synchronization

extension StoreClient {
  /// Watches keys until the surrounding task is cancelled or the watch can't go on.
  ///
  /// Updates are delivered one at a time; the next is read when `deliver` returns. Broken streams are
  /// opened again where they ended, on another endpoint if need be.
  ///
  /// - Parameter revision: the first revision wanted.
  /// - Throws: `.compacted` where changes wanted were compacted away, and whatever `deliver` throws.
  public func watch(
    _ range: StoreRange, from revision: Revision,
    deliver: (StoreUpdate) async throws -> Void
  ) async throws {
    var next = revision
    var failures = 0
    while true {
      try Task.checkCancellation()
      do {
        try await watchOnce(range, next: &next, failures: &failures, deliver)
      } catch let error as StoreError {
        switch error.code {
        case .compacted, .cancelled: throw error
        default: break
        }
      }
      failures += 1
      // The first attempt follows at once; then a pause that grows to a second.
      if failures > 1 {
        try await Task.sleep(for: min(.seconds(1), limits.retryPause * (failures - 1)))
      }
    }
  }

  /// Opens one stream and delivers from it until it ends.
  private func watchOnce(
    _ range: StoreRange, next: inout Revision, failures: inout Int,
    _ deliver: (StoreUpdate) async throws -> Void
  ) async throws {
    let transport = try await connection()
    let stream: any CallStream
    do throws(StoreError) {
      stream = try await transport.open("/etcdserverpb.Watch/Watch", timeout: limits.attemptTimeout)
      try await stream.send(StoreMessages.watch(range, from: next))
    } catch {
      discard(transport)
      throw error
    }
    defer { stream.cancel() }
    let watchdog = SilenceWatchdog(stream: stream, limit: limits.watchSilence)
    defer { watchdog.stop() }
    do {
      while let bytes = try await stream.next() {
        watchdog.heard()
        let message = try StoreMessages.watchMessage(bytes)
        if message.isCancelled {
          if message.compactRevision > .zero {
            throw StoreError(
              .compacted, "the watch's start \(next) was compacted",
              compactRevision: message.compactRevision)
          }
          throw StoreError(.unavailable, "the watch was cancelled: \(message.cancelReason)")
        }
        failures = 0
        if message.isCreated || message.isRequestedProgress { continue }
        if message.changes.isEmpty {
          // The notifications that a server sends by itself: everything up to here was delivered.
          if message.revision.next > next { next = message.revision.next }
          try await deliver(.progress(message.revision))
        } else {
          if let last = message.changes.last { next = last.record.modRevision.next }
          try await deliver(.changes(message.changes))
        }
      }
    } catch let error as StoreError {
      if error.code == .unavailable || error.code == .unknownOutcome { discard(transport) }
      throw error
    }
  }
}

/// Asks a silent stream for progress and cuts it where it stays silent, so that a frozen member can't
/// hold a watch for ever.
private final class SilenceWatchdog: Sendable {
  private let heardAnything = Atomic<Bool>(true)
  private let task: Mutex<Task<Void, Never>?> = Mutex(nil)

  init(stream: any CallStream, limit: Duration) {
    task.withLock {
      $0 = Task { [weak self] in
        var asked = false
        while (try? await Task.sleep(for: limit / 2)) != nil {
          guard let self else { return }
          if self.heardAnything.exchange(false, ordering: .relaxed) {
            asked = false
          } else if asked {
            stream.cancel()
            return
          } else {
            asked = true
            do throws(StoreError) { try await stream.send([0x1A, 0x00]) } catch { return }
          }
        }
      }
    }
  }

  func heard() { heardAnything.store(true, ordering: .relaxed) }
  func stop() { task.withLock { $0?.cancel() } }
}
