import MVCC
import Persistence
import Primitives
import Raft

/// A member's files: its log and its snapshots, and the work on them that blocks.
///
/// What snapshot tasks remember from one to the next (the catalogue, a transfer under way) belongs to the
/// one thread that performs them.
public final class ReplicaDisk: @unchecked Sendable {
  // `catalog` and `receiver` are touched by snapshot tasks only, which one thread performs in order.
  let fileSystem: any FileSystem
  let identity: ClusterIdentity
  private var catalog: SnapshotCatalog
  private var receiver: SnapshotReceiver?
  /// How many snapshots were written for clients.
  private var exports = 0

  init(fileSystem: any FileSystem, identity: ClusterIdentity, catalog: SnapshotCatalog) {
    self.fileSystem = fileSystem
    self.identity = identity
    self.catalog = catalog
  }

  /// Carries out a write of the log. Blocks.
  public func perform(_ job: DiskJob) -> DiskResult { job.perform(on: fileSystem) }

  /// Carries out background work. Blocks, for seconds where it writes or loads a large snapshot.
  public func perform(_ task: BackgroundTask) -> BackgroundResult {
    switch task {
    case .maintenance(let job): return .maintenance(perform(job))
    case .readLog(let read, let request): return .readLog(read, perform(read.job), request)
    case .takeSnapshot(let task): return .snapshotTaken(take(task))
    case .exportSnapshot(let task, let token, let sink):
      return .snapshotExported(export(task), token: token, sink: sink)
    case .readSnapshot(let request): return .snapshotPiece(request, readPiece(request))
    case .storeSnapshot(let chunk, let peer): return .snapshotStored(store(chunk), from: peer)
    case .verifySnapshot(let summary):
      do {
        _ = try SnapshotReader(
          path: summary.file.path, clusterID: identity.cluster, fileSystem: fileSystem)
        return .snapshotVerified(summary.metadata.index, damage: nil)
      } catch {
        return .snapshotVerified(summary.metadata.index, damage: "\(error)")
      }
    case .purgeSnapshots(let count):
      // What can't be removed now is found and removed at the next start.
      if let job = catalog.takePurge(keeping: count) { _ = perform(job) }
      return .purged
    }
  }

  private func take(_ task: SnapshotTask) -> Result<SnapshotSummary, ReplicaFailure> {
    do {
      let file = try SnapshotContent.write(
        task, directory: catalog.directory, identity: identity, on: fileSystem)
      catalog.add(file)
      return .success(SnapshotSummary(metadata: task.metadata, file: file))
    } catch {
      return .failure(ReplicaFailure("\(error)"))
    }
  }

  /// Writes a snapshot that is no part of the catalogue.
  private func export(_ task: SnapshotTask) -> Result<SnapshotExport, ReplicaFailure> {
    let directory = catalog.directory + "/export"
    do {
      if exports == 0 {
        // What an earlier life left behind.
        try fileSystem.perform([.createDirectory(path: directory)])
        for name in try fileSystem.list(directory) {
          try fileSystem.perform([.remove(path: directory + "/" + name)])
        }
      }
      exports += 1
      let file = try SnapshotContent.write(
        task, directory: directory, identity: identity, on: fileSystem)
      // The next one may be of the same index.
      let path = "\(directory)/\(exports)"
      try fileSystem.perform([.rename(from: file.path, to: path)])
      return .success(SnapshotExport(path: path, bytes: file.bytes, fileSystem: fileSystem))
    } catch {
      return .failure(ReplicaFailure("\(error)"))
    }
  }

  private func readPiece(_ request: SnapshotPieceRequest) -> SnapshotChunk? {
    let file = request.snapshot.file
    let count = Int(
      min(UInt64(request.maximumBytes), file.bytes - min(file.bytes, request.offset)))
    guard
      let bytes = try? fileSystem.read(file.path, at: request.offset, count: count),
      bytes.count == count
    else { return nil }
    return SnapshotChunk(
      term: request.term, index: file.index, snapshotTerm: file.term, offset: request.offset,
      fileBytes: file.bytes, fileChecksum: file.checksum, bytes: bytes)
  }

  private func store(_ chunk: SnapshotChunk) -> SnapshotStored {
    var stored = SnapshotStored(index: chunk.index, offset: 0)
    do {
      var receiver = try receiver(for: chunk)
      // A chunk that came too early is dropped; the answer says where to go on.
      if chunk.offset <= receiver.offset,
        let job = try receiver.append(chunk.bytes, at: chunk.offset)
      {
        try receiver.completed(perform(job))
      }
      stored.offset = receiver.offset
      self.receiver = receiver
      if receiver.isComplete {
        self.receiver = nil
        let file = try receiver.install(on: fileSystem)
        catalog.add(file)
        let reader = try SnapshotReader(
          path: file.path, clusterID: identity.cluster, fileSystem: fileSystem)
        stored.loaded = try SnapshotContent.load(reader)
      }
    } catch {
      receiver = nil
      stored.failure = "\(error)"
    }
    return stored
  }

  private func receiver(for chunk: SnapshotChunk) throws(PersistenceError) -> SnapshotReceiver {
    if let receiver, receiver.index == chunk.index, receiver.term == chunk.snapshotTerm,
      receiver.bytes == chunk.fileBytes, receiver.checksum == chunk.fileChecksum
    {
      return receiver
    }
    return try SnapshotReceiver(
      directory: catalog.directory, clusterID: identity.cluster, index: chunk.index,
      term: chunk.snapshotTerm, bytes: chunk.fileBytes, checksum: chunk.fileChecksum,
      fileSystem: fileSystem)
  }
}
