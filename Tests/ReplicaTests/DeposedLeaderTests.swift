import EtcdWire
import MVCC
import Primitives
import Testing

@testable import Replica

/// A leader that was cut off goes on believing that it leads until an election time-out has passed.
@Suite struct DeposedLeaderTests {
  /// Seed 16 of the grown simulator: a client was told that its lease was gone, by a deposed leader that had
  /// never heard of it, while the lease lived on at the new one.
  @Test("doesn't say that a lease is gone which its successor granted")
  func unknownLease() throws {
    let cluster = try CoreCluster(members: 3)
    cluster.tick(30)
    let old = try #require(cluster.leader)
    cluster.isolated = [old]
    // The others notice first: the old leader's clock stands still.
    cluster.tick(30, only: [0, 1, 2].filter { $0 != old })
    let new = try #require(cluster.leader)
    #expect(new != old)
    #expect(cluster.cores[old].role == .leader)

    let sink = RecordingSink()
    var commands: [UInt8] = []
    var body: [UInt8] = []
    body.append(field: 1, int64: 60)
    body.append(field: 2, int64: 7)
    body.withUnsafeBytes {
      CommandBatch.appendLeaseGrant(
        id: LeaseID(7), minimumSeconds: 1, body: $0, to: &commands)
    }
    cluster.act(new) { $0.submit(ProposalBatch(commands: commands, tokens: [1], sink: sink)) }
    cluster.act(new) { $0.queryLease(LeaseID(7), renew: true, token: 2, sink: sink) }
    guard sink.replies.count == 2, case .leaseTime(let time?) = sink.replies[1].outcome else {
      Issue.record("\(sink.replies)")
      return
    }
    #expect(time == LeaseTime(granted: 60, remaining: 60))

    let cutOff = RecordingSink()
    cluster.act(old) { $0.queryLease(LeaseID(7), renew: true, token: 3, sink: cutOff) }
    #expect(cutOff.replies.isEmpty, "nobody has confirmed that it still leads")
    // When it hears of its successor it knows that it can't answer.
    cluster.isolated = []
    cluster.tick(15)
    guard cutOff.replies.count == 1, case .failed(.notLeader) = cutOff.replies[0].outcome else {
      Issue.record("\(cutOff.replies)")
      return
    }
  }
}
