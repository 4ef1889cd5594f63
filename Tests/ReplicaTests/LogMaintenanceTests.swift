import EtcdWire
import MVCC
import Persistence
import Primitives
import SimulatedStorage
import Testing

@testable import Replica

/// Log segments are prepared ahead of their use, so a disk without room is met there.
@Suite struct LogMaintenanceTests {
  @Test("goes on once the disk has room again")
  func fullDisk() throws {
    let cluster = try CoreCluster(members: 1)
    cluster.tick(30)
    let disk = cluster.devices[0]
    disk.capacity = disk.usedBytes
    // The segment that lies ready is put to use; the next one finds no room.
    try put(8 << 10, into: cluster)
    try put(8 << 10, into: cluster)
    #expect(cluster.cores[0].wal.preparationFailure?.code == .diskFull)
    #expect(cluster.cores[0].wal.isSpaceLow)

    disk.capacity = .max
    cluster.tick(2 + Int(ReplicaLimits.logMaintenanceRetry / .milliseconds(100)))
    #expect(cluster.cores[0].wal.preparationFailure == nil)
    #expect(!cluster.cores[0].wal.isSpaceLow)
  }

  private func put(_ bytes: Int, into cluster: CoreCluster) throws {
    var random = RandomSource(seed: UInt64(bytes))
    let value = (0..<bytes).map { _ in UInt8(random.below(256)) }
    var body: [UInt8] = []
    [UInt8]("k".utf8).withUnsafeBytes { body.append(field: 1, bytes: $0) }
    value.withUnsafeBytes { body.append(field: 2, bytes: $0) }
    var commands: [UInt8] = []
    body.withUnsafeBytes { CommandBatch.append(.put, body: $0, to: &commands) }
    let sink = RecordingSink()
    cluster.act(0) { $0.submit(ProposalBatch(commands: commands, tokens: [1], sink: sink)) }
    guard case .applied? = sink.replies.first?.outcome else {
      Issue.record("\(sink.replies)")
      return
    }
  }
}
