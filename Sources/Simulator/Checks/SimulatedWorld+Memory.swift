import EtcdWire
import MVCC
import Primitives
import Raft
import Replica

// What a member holds in memory is bounded by what it has to know: with a few keys and no history, little.

extension SimulatedWorld {
  /// The state of eight keys without history: far more than it takes, far less than a run's history.
  private static let restingBytes: UInt64 = 64 << 10

  /// When all is compacted, all of the history's memory is free again, and the log's is within its bound.
  mutating func checkMemory() throws {
    // Those after the first one change nothing, but show what maintenance has freed meanwhile.
    for _ in 0..<3 {
      try compactAll()
      try advance(until: now.advanced(byNanoseconds: 2_000_000_000))
    }
    for position in present {
      guard let running = members[position].running else { continue }
      guard running.status.stateBytes <= Self.restingBytes else {
        throw Violation(
          "member \(members[position].id) holds \(running.status.stateBytes) bytes after its history was "
            + "compacted up to \(running.view?.compactRevision ?? .zero) of \(running.view?.revision ?? .zero)", now)
      }
      let bound = swarm.bounds.raft.tailBytes + swarm.bounds.raft.appendBytes
      guard running.core.logBytesInMemory <= bound else {
        throw Violation(
          "member \(members[position].id) holds \(running.core.logBytesInMemory) bytes of log in memory, more than "
            + "\(bound)", now)
      }
    }
  }

  private mutating func compactAll() throws {
    guard let leader, let running = members[leader].running, let view = running.view else { return }
    var body: [UInt8] = []
    body.append(field: 1, int64: view.revision.rawValue)
    var commands: [UInt8] = []
    body.withUnsafeBytes { CommandBatch.append(.compact, body: $0, to: &commands) }
    let batch = ProposalBatch(commands: commands, tokens: [nextOperation], sink: running.sink)
    nextOperation += 1
    try pump(leader) { $0.submit(batch) }
  }
}
