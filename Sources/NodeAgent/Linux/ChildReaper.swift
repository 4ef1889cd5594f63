import CLinux
import Glibc
import Synchronization

/// Waits for the ends of child processes: one thread for any number of them.
///
/// A waiting thread for each would be wasted on processes that may last for days (a shell in a
/// container). The thread sleeps in `poll` on one pidfd a child; it begins with the first child and ends
/// when none is left.
final class ChildReaper: Sendable {
  private struct Child {
    var process: Int32
    var complete: @Sendable (Int32) -> Void
  }
  private struct State {
    var children: [pid_t: Child] = [:]
    var isRunning = false
    /// Written to wake the thread up; -1 while there is none.
    var waker: Int32 = -1
  }
  private let state = Mutex(State())

  /// The exit code of a child, or 128 and the number of the signal that ended it; nil if the kernel does not
  /// tell. Nobody else may wait for it.
  func wait(for pid: pid_t) async -> Int32? {
    let code = await withCheckedContinuation { continuation in
      add(pid) { continuation.resume(returning: $0) }
    }
    return code < 0 ? nil : code
  }

  private func add(_ pid: pid_t, _ complete: @escaping @Sendable (Int32) -> Void) {
    let process = clinux_pidfd_open(pid)
    if process < 0 { return complete(-1) }
    let reader: Int32? = state.withLock { state in
      state.children[pid] = Child(process: process, complete: complete)
      if state.isRunning {
        var byte: UInt8 = 0
        _ = write(state.waker, &byte, 1)
        return nil
      }
      var ends: [Int32] = [-1, -1]
      guard clinux_pipe(&ends) == 0 else { return nil }
      state.isRunning = true
      state.waker = ends[1]
      return ends[0]
    }
    guard let reader else { return }
    let box = Unmanaged.passRetained(ThreadStart(reaper: self, reader: reader))
    var thread = pthread_t()
    let outcome = pthread_create(&thread, nil, { argument in
      let start = Unmanaged<ThreadStart>.fromOpaque(argument!).takeRetainedValue()
      start.reaper.run(start.reader)
      return nil
    }, box.toOpaque())
    if outcome == 0 {
      pthread_detach(thread)
    } else {
      box.release()
      complete(-1)
    }
  }

  private final class ThreadStart: Sendable {
    let reaper: ChildReaper
    let reader: Int32
    init(reaper: ChildReaper, reader: Int32) {
      self.reaper = reaper
      self.reader = reader
    }
  }

  private func run(_ reader: Int32) {
    defer { close(reader) }
    while true {
      let children = state.withLock { $0.children }
      var polls = [pollfd(fd: reader, events: Int16(POLLIN), revents: 0)]
      polls += children.values.map { pollfd(fd: $0.process, events: Int16(POLLIN), revents: 0) }
      _ = poll(&polls, nfds_t(polls.count), -1)
      var bytes = [UInt8](repeating: 0, count: 64)
      while read(reader, &bytes, bytes.count) > 0 {}
      for (pid, child) in children {
        var code: Int32 = 0
        var signal: Int32 = 0
        let ended = clinux_reap(pid, &code, &signal)
        if ended == 0 { continue }
        _ = state.withLock { $0.children.removeValue(forKey: pid) }
        close(child.process)
        child.complete(ended < 0 ? -1 : code)
      }
      let isDone = state.withLock { state in
        guard state.children.isEmpty else { return false }
        state.isRunning = false
        close(state.waker)
        state.waker = -1
        return true
      }
      if isDone { return }
    }
  }
}
