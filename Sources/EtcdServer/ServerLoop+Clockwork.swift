import EtcdWire
import HTTP2
import MVCC
import NIOCore
import Primitives
import Replica
import Synchronization

// What happens without anybody asking.

extension ServerLoop {
  func keepHouse() {
    let now = Self.now()
    for slot in pending.indices {
      guard let deadline = pending[slot].deadline, deadline <= now,
        case .command = pending[slot].purpose, let connection = pending[slot].connection
      else { continue }
      let (stream, method) = (pending[slot].stream, pending[slot].method)
      release(slot)
      pending[slot].deadline = nil
      fail(connection, stream, method, GRPCStatus(.deadlineExceeded, "context deadline exceeded"))
    }
    if !coordinationCalls.isEmpty { expireCoordination(at: now) }
    if !rangeStreams.isEmpty { expireRangeStreams(at: now) }
    watchLeader()
    if now >= nextProgressTick {
      nextProgressTick = now.advanced(by: settings.watchProgressInterval)
      if watchStreams.values.contains(where: \.wantsProgress) {
        front.requestProgress(token: reserve(.progressTick), sink: sink)
      }
    }
    flush()
  }

  /// Ends the streams that require a leader when there has been none for a while.
  private func watchLeader() {
    if leaderStreams.isEmpty || front.status.leader != nil {
      turnsWithoutLeader = 0
      return
    }
    turnsWithoutLeader += 1
    guard turnsWithoutLeader >= EtcdServerLimits.turnsWithoutLeader else { return }
    for (key, connection) in leaderStreams {
      let method: EtcdMethod = watchStreams[key] == nil ? .leaseKeepAlive : .watch
      forget(connection, key.stream)
      fail(connection, key.stream, method, EtcdError.noLeader)
    }
    leaderStreams = [:]
  }
}
