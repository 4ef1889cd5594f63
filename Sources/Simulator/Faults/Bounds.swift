import Primitives
import Raft
import Replica

/// The bounds that a world's members work within.
///
/// In the product they are so wide that a run of half a minute would never meet one: a snapshot would always fit
/// into a piece, a follower's window never fill, the log never leave memory. So each seed draws some of them small,
/// and what lies behind them happens all the time.
struct Bounds: Sendable {
  /// So small that segments fill, are released and used again within a run.
  var segmentBytes: UInt64 = 16 << 10
  /// So small that members fall behind the log and need snapshots.
  var snapshotCount: UInt64 = 40
  var snapshotChunkBytes = ReplicaLimits.snapshotChunkBytes
  var raft = Raft.Limits()
  /// How large the state may become; nil for no bound.
  var quotaBytes: UInt64?

  init() {}

  init(_ random: inout RandomSource) {
    func between(_ least: Int, _ most: Int) -> Int {
      least + Int(random.below(UInt64(most - least + 1)))
    }
    segmentBytes = [4, 8, 16, 16, 64][between(0, 4)] << 10
    snapshotCount = [10, 20, 40, 40, 100, 400][between(0, 5)]
    if random.oneIn(2) { snapshotChunkBytes = between(512, 8 << 10) }
    if random.oneIn(2) { raft.tailBytes = between(1 << 10, 16 << 10) }
    if random.oneIn(3) {
      raft.appendBytes = between(300, 4 << 10)
      raft.inFlightMessages = between(1, 8)
      raft.inFlightBytes = between(600, 16 << 10)
    }
    if random.oneIn(3) { raft.committedBytesPerReady = between(256, 4 << 10) }
    if random.oneIn(3) { raft.readRoundsInFlight = 1 }
    if random.oneIn(4) {
      raft.uncommittedBytes = between(1 << 10, 8 << 10)
      raft.tailBytes = min(raft.tailBytes, 16 << 10)
      // What is applied counts as well, as long as it is in memory.
      raft.unappliedBytes = raft.uncommittedBytes + raft.tailBytes + between(1 << 10, 16 << 10)
    }
    if random.oneIn(4) { quotaBytes = UInt64(between(32 << 10, 128 << 10)) }
  }
}

extension Bounds: CustomStringConvertible {
  var description: String {
    "segments of \(segmentBytes >> 10) KiB, a snapshot every \(snapshotCount) entries in pieces of "
      + "\(snapshotChunkBytes) bytes, \(raft.tailBytes) bytes of log in memory, appends of \(raft.appendBytes) bytes, "
      + "\(raft.uncommittedBytes) bytes uncommitted" + (quotaBytes.map { ", quota \($0)" } ?? "")
  }
}
