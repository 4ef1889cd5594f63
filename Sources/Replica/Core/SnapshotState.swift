import MVCC
import Persistence
import Primitives
import Raft

/// What the member knows of its snapshots, and of those on their way.
struct SnapshotState {
  /// The newest durable snapshot, and the one before it, which is kept to fall back on.
  private(set) var newest: SnapshotSummary
  private(set) var previous: SnapshotSummary?
  /// A snapshot is being written.
  var isTaking = false
  /// The newest snapshot's file is damaged, and must be written again.
  var mustReplace = false
  /// When a file that a follower could not use is looked at next, at the earliest.
  var nextVerification = Instant.origin
  /// Snapshots on their way to followers, one each.
  var outgoing: [OutgoingSnapshot] = []
  /// A snapshot from the leader, verified and loaded, that waits for the log to be free.
  var toInstall: LoadedSnapshot?

  /// Log bytes and entries since the newest snapshot.
  private(set) var bytesSince: UInt64
  private(set) var entriesSince: UInt64 = 0
  private var bytesTotal: UInt64 = 0
  /// The log's size at some indexes, so that "the last 256 MiB" can be turned into an index.
  private var marks: [(index: LogIndex, bytes: UInt64)] = []
  private static let markSpacing: UInt64 = 4 << 20

  init(newest: SnapshotSummary, logBytes: UInt64) {
    self.newest = newest
    bytesSince = logBytes
  }

  mutating func noteLogged(bytes: Int, index: LogIndex) {
    // Counting 32 bytes for each entry keeps a log of empty entries from growing for ever.
    let cost = UInt64(bytes) + 32
    bytesSince += cost
    bytesTotal += cost
    entriesSince += 1
    if bytesTotal - (marks.last?.bytes ?? 0) >= SnapshotState.markSpacing {
      marks.append((index, bytesTotal))
    }
  }

  /// Whether the log since the last snapshot calls for the next one.
  func isDue(_ settings: ReplicaSettings) -> Bool {
    if isTaking { return false }
    if mustReplace { return true }
    if let count = settings.snapshotCount { return entriesSince >= max(count, 1) }
    return bytesSince >= max(ReplicaSettings.snapshotLogBytes, newest.file.bytes / 2)
  }

  mutating func begin() {
    isTaking = true
    mustReplace = false
    bytesSince = 0
    entriesSince = 0
  }

  /// Notes a snapshot that is durable; returns the first log entry that must be kept.
  ///
  /// Kept are: what the snapshot before this one needs to be fallen back on, and enough for a follower that
  /// was away briefly.
  mutating func taken(_ snapshot: SnapshotSummary, _ settings: ReplicaSettings) -> LogIndex {
    isTaking = false
    previous = newest
    newest = snapshot
    var keepFrom = previous!.metadata.index.next
    #if PLANTED_BUGS
      if PlantedBug.logReleasedTooFar.isPlanted { return snapshot.metadata.index.next }
    #endif
    if let count = settings.snapshotCount {
      // An operator who wants frequent snapshots wants a short log: keep as much as lies between two.
      let kept = min(count, snapshot.metadata.index.rawValue)
      keepFrom = min(keepFrom, LogIndex(snapshot.metadata.index.rawValue - kept + 1))
      return min(keepFrom, snapshot.metadata.index.next)
    }
    let enough =
      bytesTotal > ReplicaSettings.keptLogBytes
      ? bytesTotal - ReplicaSettings.keptLogBytes : 0
    if let last = marks.lastIndex(where: { $0.bytes <= enough }) {
      keepFrom = min(keepFrom, marks[last].index)
      marks.removeFirst(last)
    } else {
      keepFrom = LogIndex(1)
    }
    return min(keepFrom, snapshot.metadata.index.next)
  }

  /// The newest snapshot was written again.
  mutating func rewritten(_ snapshot: SnapshotSummary) {
    isTaking = false
    newest = snapshot
  }

  /// A snapshot from the leader replaced everything.
  mutating func installed(_ snapshot: SnapshotSummary) {
    previous = nil
    newest = snapshot
    marks = []
    bytesSince = 0
    entriesSince = 0
  }

  /// How many snapshot files are kept.
  var keptFiles: Int { previous == nil ? 1 : 2 }
}

/// A snapshot file that is durable.
public struct SnapshotSummary: Sendable, Equatable {
  public var metadata: SnapshotMetadata
  public var file: SnapshotFile
  public init(metadata: SnapshotMetadata, file: SnapshotFile) {
    self.metadata = metadata
    self.file = file
  }
}

/// A snapshot to be written: everything it takes, frozen.
public struct SnapshotTask: Sendable {
  public var metadata: SnapshotMetadata
  public var view: StoreView
  public var cluster: [UInt8]
}

/// A snapshot on its way to a follower, piece by piece: the next leaves when the last was stored.
struct OutgoingSnapshot {
  let request: SnapshotRequest
  let snapshot: SnapshotSummary
  var lastProgress: Instant
}

/// A piece to be read from a snapshot file for a follower.
public struct SnapshotPieceRequest: Sendable {
  public var peer: NodeID
  public var term: Term
  public var snapshot: SnapshotSummary
  public var offset: UInt64
  /// The most that the piece may have, in bytes.
  public var maximumBytes: Int
}

/// What became of a piece of a snapshot from the leader.
public struct SnapshotStored: Sendable {
  public var index: LogIndex
  /// The bytes that are stored so far.
  public var offset: UInt64
  /// The whole snapshot, once its last byte was stored and everything verified.
  public var loaded: LoadedSnapshot?
  /// Why it can't be used; the leader starts again from the beginning.
  public var failure: String?
}

/// A snapshot, verified and turned into a state machine.
// The store is made on one thread and handed over whole; its maker keeps no reference.
public struct LoadedSnapshot: @unchecked Sendable {
  public var summary: SnapshotSummary
  public var store: Store
  var cluster: ClusterState
}
