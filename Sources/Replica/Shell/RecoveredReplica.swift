import MVCC
import Persistence
import Primitives
import Raft

/// A member as its files tell it: the newest sound snapshot, and the log behind it.
public struct RecoveredReplica {
  var wal: WriteAheadLog
  var store: Store
  var cluster: ClusterState
  var snapshot: SnapshotSummary
  var logBytes: UInt64
  var raftStart: StartState
  /// Newer snapshots that could not be used, and why.
  public var rejected: [PersistenceError]
  /// Whether the member starts for the first time.
  public var isNew: Bool
  /// The log entries behind the snapshot.
  public var logEntries: Int { raftStart.entries.count }
  public var snapshotIndex: LogIndex { snapshot.metadata.index }
  /// The cluster's feature level, as the snapshot has it.
  public var level: FeatureLevel { cluster.level }

  /// The members as the snapshot and the whole log behind it name them.
  ///
  /// Some of the log may not be committed, and will be replaced then; but who must be asked whether it is
  /// can't be reached without an address.
  public var roster: ClusterRoster {
    var known = cluster
    for entry in raftStart.entries {
      if let command = ClusterCommand.carried(by: entry) { known.apply(command) }
    }
    // One whose removal is not committed still takes part.
    let missing = cluster.members.filter { known.member($0.id) == nil }
    return ClusterRoster(
      members: known.members + missing, removed: cluster.removed, level: cluster.level)
  }

  /// Whose data a directory holds; nil where there is none. Blocks.
  ///
  /// - Throws: `PersistenceError` for files that can't be read.
  public static func owner(
    of directory: String, fileSystem: any FileSystem
  ) throws -> ClusterIdentity? {
    try fileSystem.perform([.createDirectory(path: directory)])
    let owner = try WriteAheadLog.identity(in: directory + "/wal", fileSystem: fileSystem)
    return owner.map { ClusterIdentity(cluster: $0.clusterID, member: $0.memberID) }
  }

  /// Reads a member's files, or makes them if there are none. Blocks.
  ///
  /// A new member starts from a snapshot at index zero that holds the founding members, so that who votes
  /// is always read from the replicated configuration and never from flags.
  ///
  /// - Parameters:
  ///   - directory: the member's own; `wal` and `snap` are made in it.
  ///   - founders: the members of a new cluster, or of the one that this member joins; of no effect where
  ///     files exist.
  ///   - isJoining: whether the cluster runs already. The member then has no vote until the others give it
  ///     one; where they stand, their log tells it.
  /// - Throws: `PersistenceError` or `ReplicaFailure`, saying what is wrong with which file.
  public static func open(
    directory: String, identity: ClusterIdentity, founders: [ClusterMember],
    isJoining: Bool = false, fileSystem: any FileSystem, logSettings: LogSettings = LogSettings()
  ) throws -> (recovered: RecoveredReplica, disk: ReplicaDisk) {
    let logDirectory = directory + "/wal"
    let logIdentity = LogIdentity(clusterID: identity.cluster, memberID: identity.member)
    try fileSystem.perform([.createDirectory(path: directory)])
    let owner = try WriteAheadLog.identity(in: logDirectory, fileSystem: fileSystem)
    if let owner, owner != logIdentity {
      throw PersistenceError(
        .foreign,
        "the data is of member \(owner.memberID) in cluster \(String(owner.clusterID, radix: 16)), but "
          + "the flags name member \(identity.member) of cluster "
          + "\(String(identity.cluster, radix: 16)); give this member its own --data-dir, or the flags "
          + "the cluster was started with", path: logDirectory)
    }
    var catalog = try SnapshotCatalog.open(
      directory: directory + "/snap", clusterID: identity.cluster, fileSystem: fileSystem)
    var (reader, rejected) = try catalog.newest(fileSystem)
    let isNew = reader == nil && owner == nil && rejected.isEmpty
    if reader == nil {
      guard isNew else {
        throw PersistenceError(
          .corrupt,
          "the log is there but no snapshot can be used; restore this member from its peers: move "
            + "the directory away and start it anew" + rejected.map { " (\($0))" }.joined(),
          path: catalog.directory)
      }
      let file = try SnapshotContent.write(
        foundingSnapshot(founders, newcomer: isJoining ? identity.member : nil),
        directory: catalog.directory, identity: identity, on: fileSystem)
      catalog.add(file)
      (reader, rejected) = try catalog.newest(fileSystem)
    }
    guard let reader else { throw ReplicaFailure("the founding snapshot can't be read back") }
    let loaded = try SnapshotContent.load(reader)
    let metadata = loaded.summary.metadata
    let (wal, log) = try recoverLog(
      logDirectory, logIdentity, metadata, fileSystem, logSettings)
    let recovered = RecoveredReplica(
      wal: wal, store: loaded.store, cluster: loaded.cluster, snapshot: loaded.summary,
      logBytes: log.entries.reduce(0) { $0 + UInt64($1.payload.count) },
      raftStart: StartState(
        hardState: log.hardState, snapshot: metadata, entries: log.entries,
        olderTerms: log.olderTerms),
      rejected: rejected, isNew: isNew)
    return (
      recovered, ReplicaDisk(fileSystem: fileSystem, identity: identity, catalog: catalog)
    )
  }

  private static func recoverLog(
    _ directory: String, _ identity: LogIdentity, _ snapshot: SnapshotMetadata,
    _ fileSystem: some FileSystem, _ settings: LogSettings
  ) throws(PersistenceError) -> (WriteAheadLog, RecoveredLog) {
    let (log, recovered) = try WriteAheadLog.recover(
      directory: directory, identity: identity, snapshotIndex: snapshot.index,
      snapshotTerm: snapshot.term, fileSystem: fileSystem, settings: settings)
    return (log, recovered)
  }

  private static func foundingSnapshot(
    _ founders: [ClusterMember], newcomer: NodeID?
  ) -> SnapshotTask {
    let isLearner = { (member: ClusterMember) in member.isLearner || member.id == newcomer }
    return SnapshotTask(
      metadata: SnapshotMetadata(
        index: .zero, term: .zero,
        membership: Membership(
          voters: founders.filter { !isLearner($0) }.map(\.id),
          learners: founders.filter(isLearner).map(\.id))),
      view: Store().publish(), cluster: ClusterState(members: founders).encode())
  }
}
