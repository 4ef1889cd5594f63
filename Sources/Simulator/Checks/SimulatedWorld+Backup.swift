import MVCC
import Persistence
import Primitives
import Raft
import Replica
import SimulatedStorage
import Verification

// A backup is taken while the world burns, and a new cluster founded from it when all is over. It holds what the old
// one held at one revision; and it uses no revision again that a client of the old cluster may have seen, so that
// watches and caches begin anew instead of missing what differs.

extension SimulatedWorld {
  /// What `martlet util snapshot restore` passes over unless told otherwise.
  private static let bump: Int64 = 1_000_000_000

  /// Asks some member for a snapshot.
  mutating func takeBackup() throws {
    let running = present.filter { members[$0].running != nil && members[$0].pausedUntil <= now }
    guard !running.isEmpty else { return }
    let member = running[Int(random.below(UInt64(running.count)))]
    guard let sink = members[member].running?.sink else { return }
    let token = nextOperation
    nextOperation += 1
    backupToken = token
    try pump(member) { $0.exportSnapshot(token: token, sink: sink) }
  }

  /// The answer to `takeBackup`. False if it is for somebody else.
  mutating func receiveBackup(_ reply: Reply) -> Bool {
    guard reply.token == backupToken else { return false }
    if case .exported(let export) = reply.outcome {
      backup = try? export.read(at: 0, count: Int(export.bytes))
    }
    backupToken = nil
    return true
  }

  /// Founds a cluster from the backup, if there is one. What it holds goes into the history as a read of the old one.
  mutating func checkRestoration() throws {
    guard let backup else { return }
    let founders = (1...3).map {
      ClusterMember(id: NodeID(1_000 + UInt64($0)), name: "", peerURLs: ["http://r\($0)"], clientURLs: [])
    }
    var views: [StoreView] = []
    for founder in founders {
      let disk = SimulatedDisk(seed: random.next())
      try disk.perform([.createDirectory(path: "/backup")])
      disk.overwrite("/backup/file", with: backup)
      let identity = ClusterIdentity(cluster: cluster + 1, member: founder.id)
      do {
        let facts = try SnapshotRestore.facts(of: "/backup/file", fileSystem: disk)
        try SnapshotRestore.restore(
          "/backup/file", into: "/data", identity: identity, founders: founders, bump: Self.bump,
          fileSystem: disk)
        let (recovered, _) = try RecoveredReplica.open(
          directory: "/data", identity: identity, founders: [], fileSystem: disk,
          logSettings: LogSettings(segmentBytes: 4 << 10, preparedSegments: 1))
        var core = ReplicaCore(
          identity: identity, settings: ReplicaSettings(), recovered: recovered, now: now, sequenceBase: 1,
          random: random.split())
        try check(restored: &core, from: facts, &views)
      } catch let violation as Violation {
        throw violation
      } catch {
        throw Violation("a cluster can't be founded from a backup: \(error)", now)
      }
    }
  }

  private mutating func check(
    restored core: inout ReplicaCore, from facts: SnapshotFacts, _ views: inout [StoreView]
  ) throws {
    core.pump()
    guard let view = core.takeEffects().published?.view else {
      throw Violation("a restored member shows nothing", now)
    }
    guard view.revision > newestKnown else {
      throw Violation(
        "a restored cluster goes on at revision \(view.revision), but clients have seen \(newestKnown)", now)
    }
    if let other = views.last, other.stateHash != view.stateHash || other.revision != view.revision {
      throw Violation("members restored from one backup differ", now)
    }
    views.append(view)
    guard let content = view.answer(.range(ModelRange([0], end: [0]))) else {
      throw Violation("a restored cluster can't be read", now)
    }
    let read = ModelRequest.range(ModelRange([0], end: [0]), isSerializable: true)
    let call = history.begin(read, client: clients.count + 1, at: 0)
    history.finish(call, .answered(content, revision: facts.revision.rawValue), at: now.nanoseconds)
    // A client that watches on from where it was must hear that it has missed something.
    let sink = SimulatedSink()
    core.watch(
      WatchRequest(
        range: WatchRange(key: [0], rangeEnd: [0]), startRevision: newestKnown.next, filter: [],
        wantsPrevious: false), token: 1, sink: sink)
    core.pump()
    for delivery in core.takeEffects().deliveries { delivery.sink.deliver(delivery.replies) }
    guard case .watchCompacted? = sink.take().first?.outcome else {
      throw Violation("a watcher of the lost cluster goes on in the restored one and misses what differs", now)
    }
  }
}
