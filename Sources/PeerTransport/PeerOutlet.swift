import Glibc
import Primitives
import Raft
import Replica
import Synchronization

/// The way out to one peer, open to every thread.
///
/// # The problem
/// A message that has to reach the transport's event loop first costs that loop a wake-up, some 40 µs of
/// CPU, and its sender as much in latency: for an append and for its acknowledgement, so twice a put.
///
/// # The design
/// Few bytes on a connection on which nothing waits are written to the socket by the thread that has them.
/// All else takes the way over the event loop: much data (encoding it would hold up the sender), whatever
/// comes while something is queued there (the order on a connection is kept), and every message of a
/// connection without a socket of its own to write to, such as one under TLS. A full socket buffer hands
/// what is left of the bytes to the loop.
final class PeerOutlet: Sendable {
  private struct State {
    /// A duplicate of the connection's descriptor, ours to close; nil where there is none to write to.
    var descriptor: Int32?
    /// Hand-overs to the event loop that it has not worked off, and writes that its channel has not.
    var queued = 0
    /// Which connection it is: the rest of a message must not reach the next one.
    var connection: UInt64 = 0
    var bytes: [UInt8] = []
  }

  private let state = Mutex(State())
  private let meter: PeerMeter

  init(_ meter: PeerMeter) { self.meter = meter }

  /// What became of messages.
  enum Outcome {
    /// They are in the socket's buffer, or the connection is broken and they are lost.
    case sent
    /// They must go over the event loop, which calls `finishHandOver` when it has taken them.
    case handOver
    /// The socket took some; these bytes must go over the event loop.
    case handOverBytes([UInt8], connection: UInt64)
  }

  /// Sends messages now, on this thread, if they may overtake nothing.
  func send(_ messages: some Collection<PeerMessage>) -> Outcome {
    state.withLock { state in
      guard let descriptor = state.descriptor, state.queued == 0, isSmall(messages) else {
        state.queued += 1
        return .handOver
      }
      state.bytes.removeAll(keepingCapacity: true)
      for message in messages { PeerFrame.append(message, to: &state.bytes) }
      let count = write(state.bytes, to: descriptor)
      meter.sent(count)
      if count == state.bytes.count { return .sent }
      state.queued += 1
      return .handOverBytes(Array(state.bytes[count...]), connection: state.connection)
    }
  }

  /// How many of `bytes` the socket took; all of them where it is broken: the loop will notice, and Raft
  /// sends again.
  private func write(_ bytes: [UInt8], to descriptor: Int32) -> Int {
    bytes.withUnsafeBytes { pointer in
      while true {
        let count = Glibc.send(
          descriptor, pointer.baseAddress, pointer.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
        if count >= 0 { return count }
        if errno == EAGAIN || errno == EWOULDBLOCK { return 0 }
        if errno != EINTR { return pointer.count }
      }
    }
  }

  private func isSmall(_ messages: some Collection<PeerMessage>) -> Bool {
    var bytes = 0
    for message in messages {
      bytes += message.payloadBytes
      if bytes > Limits.directBytes { return false }
    }
    return true
  }

  // MARK: The event loop's side

  /// The loop has taken one hand-over.
  func finishHandOver() { state.withLock { $0.queued -= 1 } }

  /// The loop has given its channel something to write; `finishHandOver` says when that is through.
  func beginWrite() { state.withLock { $0.queued += 1 } }

  /// A connection is open. Takes ownership of `descriptor`.
  func open(_ descriptor: Int32?) {
    close()
    state.withLock { state in
      state.descriptor = descriptor
      state.connection += 1
    }
  }

  func isCurrent(_ connection: UInt64) -> Bool { state.withLock { $0.connection == connection } }

  /// The connection is gone.
  func close() {
    state.withLock { state in
      if let descriptor = state.descriptor { Glibc.close(descriptor) }
      state.descriptor = nil
    }
  }

  deinit { close() }
}

extension PeerMessage {
  /// The bulk of the message in bytes; headers don't count.
  fileprivate var payloadBytes: Int {
    switch self {
    case .raft(let message):
      guard case .append(let append) = message.body else { return 0 }
      return append.entries.reduce(0) { $0 + $1.payload.count }
    case .forward(let payload): return payload.count
    case .snapshotChunk(let chunk): return chunk.bytes.count
    case .forwardRefused, .leaseQuery, .leaseAnswer, .snapshotProgress, .clusterRequest,
      .clusterAnswer, .stateQuestion, .stateAnswer, .stateVerdict:
      return 0
    }
  }
}
