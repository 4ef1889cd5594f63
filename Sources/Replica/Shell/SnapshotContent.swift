import MVCC
import Persistence
import Primitives
import Raft

/// What a member's snapshot holds: three sections of a snapshot file.
///
/// | id | name    | content                                                    |
/// |----|---------|------------------------------------------------------------|
/// | 1  | raft    | u64 index, u64 term, the membership as Raft encodes it     |
/// | 2  | cluster | the members' names and URLs, as `ClusterState` encodes them |
/// | 3  | state   | the state machine, as MVCC's `SnapshotSource` gives it      |
enum SnapshotContent {
  enum Section: UInt32 {
    case raft = 1
    case cluster = 2
    case state = 3
    var name: String {
      switch self {
      case .raft: "raft"
      case .cluster: "cluster"
      case .state: "state"
      }
    }
  }

  /// Writes a snapshot file and makes it durable. Blocks.
  static func write(
    _ task: SnapshotTask, directory: String, identity: ClusterIdentity,
    on fileSystem: any FileSystem
  ) throws -> SnapshotFile {
    var writer = try SnapshotWriter(
      directory: directory, clusterID: identity.cluster, index: task.metadata.index,
      term: task.metadata.term)
    var raft: [UInt8] = []
    raft.append(littleEndian: task.metadata.index.rawValue)
    raft.append(littleEndian: task.metadata.term.rawValue)
    task.metadata.membership.encode(into: &raft)
    var pieces: [SnapshotPiece] = [
      .section(id: Section.raft.rawValue, name: Section.raft.name), .bytes(raft),
      .section(id: Section.cluster.rawValue, name: Section.cluster.name), .bytes(task.cluster),
      .section(id: Section.state.rawValue, name: Section.state.name),
    ].reversed()
    var source = task.view.snapshot()
    do {
      return try writer.write(on: fileSystem) {
        pieces.popLast() ?? source.next().map { .bytes($0) }
      }
    } catch {
      _ = writer.abandon().perform(on: fileSystem)
      throw error
    }
  }

  /// Builds the state that a verified snapshot file holds. Blocks.
  static func load(_ reader: SnapshotReader) throws -> LoadedSnapshot {
    var reader = reader
    func damaged(_ what: String) -> PersistenceError {
      PersistenceError(
        .corrupt, "\(what); an older snapshot or the peers can replace it", path: reader.file.path)
    }
    var raft: [UInt8] = []
    var clusterBytes: [UInt8] = []
    var restorer = StoreRestorer()
    var section: Section?
    while let piece = try reader.next() {
      switch piece {
      case .section(let id, let name):
        guard let known = Section(rawValue: id) else {
          throw damaged("the snapshot has a section \(name) that this release doesn't know")
        }
        section = known
      case .bytes(let bytes):
        switch section {
        case .raft: raft += bytes
        case .cluster: clusterBytes += bytes
        case .state: try bytes.withUnsafeBytes { try restorer.restore($0) }
        case nil: throw damaged("the snapshot has content before its first section")
        }
      }
    }
    let metadata = try raft.withUnsafeBytes { bytes in
      var reader = ByteReader(bytes)
      return SnapshotMetadata(
        index: LogIndex(try reader.read()), term: Term(try reader.read()),
        membership: try Membership.decode(try reader.readBytes(reader.remaining)))
    }
    guard metadata.index == reader.file.index, metadata.term == reader.file.term else {
      throw damaged("the snapshot's header and its raft section disagree")
    }
    return LoadedSnapshot(
      summary: SnapshotSummary(metadata: metadata, file: reader.file),
      store: try restorer.finish(),
      cluster: try clusterBytes.withUnsafeBytes { try ClusterState(decoding: $0) })
  }
}
