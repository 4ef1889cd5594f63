import NIOCore
import Replica
import Synchronization

/// Takes replies on the writer's thread to the loop: one hop for all that came since the last.
final class LoopSink: ReplySink {
  private struct State {
    var replies: [Reply] = []
    var isHopping = false
  }
  private let eventLoop: any EventLoop
  private let state = Mutex(State())
  private let loop = Mutex<NIOLoopBound<ServerLoop>?>(nil)

  init(eventLoop: any EventLoop) { self.eventLoop = eventLoop }

  func attach(_ loop: NIOLoopBound<ServerLoop>) { self.loop.withLock { $0 = loop } }

  /// Lets the loop go: answers that still come are dropped.
  func detach() { loop.withLock { $0 = nil } }

  func deliver(_ replies: [Reply]) {
    let mustHop = state.withLock { state in
      if state.replies.isEmpty { state.replies = replies } else { state.replies += replies }
      defer { state.isHopping = true }
      return !state.isHopping
    }
    if mustHop { eventLoop.execute { self.drain() } }
  }

  private func drain() {
    let replies = state.withLock { state in
      state.isHopping = false
      defer { state.replies = [] }
      return state.replies
    }
    loop.withLock({ $0 })?.value.received(replies)
  }
}
