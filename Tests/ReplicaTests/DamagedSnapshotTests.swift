import EtcdWire
import MVCC
import Primitives
import Raft
import SimulatedStorage
import Testing

@testable import Replica

/// A snapshot file may be damaged after it was written, while its member runs on and never reads it.
@Suite struct DamagedSnapshotTests {
  @Test("is written again when a follower can't use it")
  func damagedUnderARunningLeader() throws {
    var settings = ReplicaSettings()
    settings.snapshotCount = 5
    let cluster = try CoreCluster(members: 3, settings: settings)
    cluster.tick(30)
    let leader = try #require(cluster.leader)
    let away = try #require([0, 1, 2].first { $0 != leader })
    cluster.isolated = [away]
    for number in 0..<40 { put(number, into: cluster, at: leader) }

    let disk = cluster.devices[leader]
    let newest = try #require(disk.paths.last { $0.hasSuffix(".snapshot") })
    disk.flipBit(newest, at: 100)
    // Nothing is written any more, so no other snapshot comes by itself.
    cluster.isolated = []
    cluster.tick(100)
    #expect(cluster.cores[away].raft.applied == cluster.cores[leader].raft.applied)
    #expect(cluster.cores[away].store.stateHash == cluster.cores[leader].store.stateHash)
  }

  private func put(_ number: Int, into cluster: CoreCluster, at member: Int) {
    var body: [UInt8] = []
    [UInt8]("k\(number)".utf8).withUnsafeBytes { body.append(field: 1, bytes: $0) }
    var commands: [UInt8] = []
    body.withUnsafeBytes { CommandBatch.append(.put, body: $0, to: &commands) }
    let batch = ProposalBatch(commands: commands, tokens: [1], sink: RecordingSink())
    cluster.act(member) { $0.submit(batch) }
  }
}
