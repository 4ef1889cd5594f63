import Foundation
import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// SIGINT and SIGTERM, for commands that hold something until one comes, and may wait more than once.
///
/// A handler writes into a pipe, and is forgotten when another program is started: what a command runs has the
/// signals as it expects them.
enum CtlSignals {
  private struct State {
    var hasCome = false
    var waiting: [UInt64: AsyncStream<Void>.Continuation] = [:]
    var nextID: UInt64 = 0
  }
  private static let state = Mutex(State())

  /// Catches the signals from now on. Happens once.
  private static let catches: Bool = {
    var ends: [CInt] = [0, 0]
    guard pipe(&ends) == 0 else { return false }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    signalPipe.store(ends[1], ordering: .releasing)
    let readEnd = ends[0]
    Thread.detachNewThread {
      var byte: UInt8 = 0
      while read(readEnd, &byte, 1) != 1 {}
      let waiting = state.withLock { state in
        state.hasCome = true
        defer { state.waiting = [:] }
        return state.waiting.values
      }
      for continuation in waiting { continuation.finish() }
    }
    for number in [SIGINT, SIGTERM] {
      signal(number) { _ in
        var byte: UInt8 = 1
        _ = write(signalPipe.load(ordering: .acquiring), &byte, 1)
      }
    }
    return true
  }()

  /// Returns when a signal has come, or when the task is cancelled.
  static func wait() async {
    _ = catches
    let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
    let isDone = state.withLock { state in
      if state.hasCome { return true }
      state.waiting[state.nextID] = continuation
      state.nextID += 1
      return false
    }
    if isDone { return }
    for await _ in stream {}
  }
}

/// Where the handler writes: a handler may touch nothing but what is at hand without a lock.
private let signalPipe = Atomic<CInt>(-1)

/// Runs `body` until SIGINT or SIGTERM asks to stop.
///
/// - Returns: nil if a signal came first.
func untilSignal<Answer: Sendable>(
  _ body: @escaping @Sendable () async throws -> Answer
) async throws -> Answer? {
  try await withThrowingTaskGroup(of: Answer?.self) { group in
    group.addTask { try await body() }
    group.addTask {
      await CtlSignals.wait()
      return nil
    }
    defer { group.cancelAll() }
    return try await group.next() ?? nil
  }
}
