import MVCC
import Persistence
import Primitives
import Raft

/// What a pump of the core asks of the world, in the order in which it must happen.
public struct Effects: Sendable {
  /// 1. The root and status that readers see from now on.
  public var published: (view: StoreView, status: ReplicaStatus)?
  /// 1a. What the applied entries say about logins, for `LoginTokens`, before anything is published.
  public var auth: [AuthEffect] = []
  /// 2. Answers, grouped by event loop.
  public var deliveries: [(sink: any ReplySink, replies: [Reply])] = []
  /// 3. Messages to other members.
  public var sends: [(to: NodeID, message: PeerMessage)] = []
  /// 4. The next write to the log. Only one is under way at a time.
  public var log: DiskJob?
  /// 5. Disk work that nothing waits for: preparing segments, reading old entries, snapshot pieces.
  public var background: [BackgroundTask] = []
  /// Who takes part has changed: the transport must know.
  public var members: ClusterRoster?
  /// What an operator should read in the log.
  public var warnings: [String] = []
  /// The leader is another one now, or unknown.
  public var leaderChanged: NodeID??

  public var isEmpty: Bool {
    published == nil && deliveries.isEmpty && sends.isEmpty && log == nil && background.isEmpty
      && warnings.isEmpty && auth.isEmpty && members == nil
  }

  mutating func deliver(_ reply: Reply, to sink: any ReplySink) {
    // One sink an event loop: a handful, so a scan beats a dictionary.
    for position in deliveries.indices where deliveries[position].sink === sink {
      deliveries[position].replies.append(reply)
      return
    }
    deliveries.append((sink, [reply]))
  }

  /// The position of `sink`'s delivery, made if missing, so that a batch of replies is appended in place.
  mutating func deliveryPosition(of sink: any ReplySink, expecting count: Int) -> Int {
    for position in deliveries.indices where deliveries[position].sink === sink { return position }
    deliveries.append((sink, []))
    deliveries[deliveries.count - 1].replies.reserveCapacity(count)
    return deliveries.count - 1
  }
}

/// Disk work on the background thread, and what it was for.
public enum BackgroundTask: Sendable {
  /// Prepare or recycle log segments.
  case maintenance(DiskJob)
  /// Read entries that left memory, for a peer that is behind.
  case readLog(LogReadJob, LogRead)
  /// Write a snapshot of this view.
  case takeSnapshot(SnapshotTask)
  /// Write a snapshot of this view for a client, who is answered with `.exported`.
  case exportSnapshot(SnapshotTask, token: UInt64, sink: any ReplySink)
  /// Read the next piece of a snapshot for a peer.
  case readSnapshot(SnapshotPieceRequest)
  /// Store a piece of a snapshot from the leader; verify and load it if it was the last.
  case storeSnapshot(SnapshotChunk, from: NodeID)
  /// Look whether this snapshot file is still what was written: a follower could not use it.
  case verifySnapshot(SnapshotSummary)
  /// Delete all snapshot files but the newest few.
  case purgeSnapshots(keeping: Int)
}

extension BackgroundTask {
  /// Snapshots have a thread of their own: writing one may take seconds, preparing a segment must not.
  var concernsSnapshots: Bool {
    switch self {
    case .maintenance, .readLog: false
    case .takeSnapshot, .exportSnapshot, .readSnapshot, .storeSnapshot, .verifySnapshot,
      .purgeSnapshots:
      true
    }
  }
}

/// How background work ended.
public enum BackgroundResult: Sendable {
  case maintenance(DiskResult)
  case readLog(LogReadJob, DiskResult, LogRead)
  case snapshotTaken(Result<SnapshotSummary, ReplicaFailure>)
  case snapshotPiece(SnapshotPieceRequest, SnapshotChunk?)
  case snapshotStored(SnapshotStored, from: NodeID)
  /// What is wrong with the snapshot at this index; nil if nothing is.
  case snapshotVerified(LogIndex, damage: String?)
  case snapshotExported(
    Result<SnapshotExport, ReplicaFailure>, token: UInt64, sink: any ReplySink)
  case purged
}
