import MVCC
import Persistence
import Primitives
import Raft

/// What a snapshot file holds, for tools.
public struct SnapshotFacts: Sendable, Equatable {
  public var revision: Revision
  public var compactRevision: Revision
  public var keys: Int
  public var leases: Int
  public var stateHash: UInt64
}

/// Reading a snapshot outside of a member, and founding a cluster from one.
public enum SnapshotRestore {
  /// Reads a snapshot file whole. Blocks.
  ///
  /// - Throws: `PersistenceError` or `SnapshotError`, saying what is wrong with it.
  public static func facts(
    of path: String, fileSystem: any FileSystem
  ) throws -> SnapshotFacts {
    try inspect(path, fileSystem: fileSystem).facts
  }

  /// Reads a snapshot file whole, and says which one it is. Blocks.
  ///
  /// - Throws: `PersistenceError` or `SnapshotError`, saying what is wrong with it.
  public static func inspect(
    _ path: String, fileSystem: any FileSystem
  ) throws -> (file: SnapshotFile, facts: SnapshotFacts) {
    let reader = try SnapshotReader(path: path, clusterID: nil, fileSystem: fileSystem)
    let view = try SnapshotContent.load(reader).store.publish()
    let facts = SnapshotFacts(
      revision: view.revision, compactRevision: view.compactRevision, keys: view.keyCount,
      leases: view.leases().count, stateHash: view.stateHash)
    return (reader.file, facts)
  }

  /// Makes the data directory of a founding member of a new cluster that begins with a snapshot's state.
  ///
  /// Every founder must be restored from the same file with the same bump. Revisions that clients of the
  /// lost cluster may have seen are passed over, and everything before is compacted, so that their watches
  /// are told to begin anew instead of missing what differs.
  ///
  /// - Parameters:
  ///   - bump: how many revisions are passed over; zero leaves revisions and history as they are.
  /// - Returns: the revision at which the new cluster begins.
  /// - Throws: `PersistenceError` or `SnapshotError`; `foreign` where the directory holds data already.
  @discardableResult
  public static func restore(
    _ path: String, into directory: String, identity: ClusterIdentity, founders: [ClusterMember],
    bump: Int64, fileSystem: any FileSystem
  ) throws -> Revision {
    let reader = try SnapshotReader(path: path, clusterID: nil, fileSystem: fileSystem)
    let loaded = try SnapshotContent.load(reader)
    return try found(
      loaded.store, into: directory, identity: identity, founders: founders, alarms: [], bump: bump,
      fileSystem: fileSystem)
  }

  /// Makes the data directory of a founding member of a new cluster that begins with a store's state.
  ///
  /// - Parameters:
  ///   - alarms: raised from the first moment on.
  ///   - bump: how many revisions are passed over; zero leaves revisions and history as they are.
  /// - Returns: the revision at which the new cluster begins.
  /// - Throws: `PersistenceError`, `foreign` where the directory holds data already; `ApplyError` for a bump
  ///   beyond the last revision there can be.
  @discardableResult
  public static func found(
    _ store: Store, into directory: String, identity: ClusterIdentity, founders: [ClusterMember],
    alarms: [Alarm], bump: Int64, fileSystem: any FileSystem
  ) throws -> Revision {
    try store.beginAnew(bump: bump)
    var cluster = ClusterState(members: founders)
    for alarm in alarms {
      cluster.apply(.setAlarm(alarm, isActive: true, isAutomatic: false))
    }
    for operation in ["", "/wal", "/snap"] {
      try fileSystem.perform([.createDirectory(path: directory + operation)])
      let names = try fileSystem.list(directory + operation)
        .filter { !(operation.isEmpty && ["wal", "snap"].contains($0)) }
      guard names.isEmpty else {
        throw PersistenceError(
          .foreign, "the directory is not empty; a restored member needs one of its own",
          path: directory + operation)
      }
    }
    let view = store.publish()
    _ = try SnapshotContent.write(
      SnapshotTask(
        metadata: SnapshotMetadata(
          index: .zero, term: .zero, membership: Membership(voters: founders.map(\.id))),
        view: view, cluster: cluster.encode()),
      directory: directory + "/snap", identity: identity, on: fileSystem)
    return view.revision
  }
}
