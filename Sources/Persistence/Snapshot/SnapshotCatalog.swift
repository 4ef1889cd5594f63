import Primitives

/// The snapshots of a member.
///
/// A file enters only when it is durable, and old ones go only when enough newer, sound ones are there.
public struct SnapshotCatalog: Sendable {
  public let directory: String
  let clusterID: UInt64
  /// Complete files, newest first. A file found at start counts as sound until reading it says otherwise.
  public private(set) var files: [SnapshotFile] = []
  /// Files that turned out to be damaged; kept for inspection until a newer snapshot is added.
  public private(set) var damaged: [SnapshotFile] = []
  private var leftovers: [String] = []
  private var nextTicket: UInt64 = 0

  private init(directory: String, clusterID: UInt64) {
    self.directory = directory
    self.clusterID = clusterID
  }

  /// Lists `directory`, which is made if it is missing. Blocks.
  public static func open(
    directory: String, clusterID: UInt64, fileSystem: some FileSystem
  ) throws(PersistenceError) -> SnapshotCatalog {
    var catalog = SnapshotCatalog(directory: directory, clusterID: clusterID)
    try fileSystem.perform([
      .createDirectory(path: directory), .syncDirectory(path: directory),
    ])
    for name in try fileSystem.list(directory) {
      let path = directory + "/" + name
      if name.hasSuffix(SnapshotWriter.suffix) {
        catalog.leftovers.append(path)
      } else if name.hasSuffix(SnapshotFile.suffix),
        let position = SnapshotFile.position(ofName: name)
      {
        let size = try fileSystem.size(path) ?? 0
        let end = size < 4 ? [] : try fileSystem.read(path, at: size - 4, count: 4)
        var checksum: UInt32 = 0
        for byte in end.reversed() { checksum = checksum << 8 | UInt32(byte) }
        catalog.files.append(
          SnapshotFile(
            path: path, index: position.index, term: position.term, bytes: size, checksum: checksum)
        )
      }
    }
    catalog.sort()
    // A transfer is worth continuing only towards a newer snapshot.
    if let newest = catalog.files.first {
      for name in try fileSystem.list(directory) where name.hasSuffix(SnapshotReceiver.suffix) {
        if let position = SnapshotFile.position(ofName: name), position.index <= newest.index {
          catalog.leftovers.append(directory + "/" + name)
        }
      }
    }
    return catalog
  }

  /// Verifies the newest file, and where that fails the one before, and so on.
  ///
  /// - Returns: a reader of the newest sound snapshot, nil if there is none, and why newer ones were
  ///   rejected. Starting from an older one is safe only if the log reaches back to it; recovery of the
  ///   log checks that.
  /// - Throws: what isn't damage: `foreign`, `newerFormat`, `io`.
  public mutating func newest(
    _ fileSystem: any FileSystem
  ) throws(PersistenceError) -> (reader: SnapshotReader?, rejected: [PersistenceError]) {
    var rejected: [PersistenceError] = []
    while let file = files.first {
      do throws(PersistenceError) {
        let reader = try SnapshotReader(
          path: file.path, clusterID: clusterID, fileSystem: fileSystem)
        guard reader.file.index == file.index, reader.file.term == file.term else {
          throw PersistenceError(
            .corrupt, "the file's name and header disagree; was it renamed?", path: file.path)
        }
        return (reader, rejected)
      } catch {
        guard error.code == .corrupt || error.code == .missing else { throw error }
        rejected.append(error)
        damaged.append(files.removeFirst())
      }
    }
    return (nil, rejected)
  }

  /// Adds a file that a writer or receiver has finished.
  public mutating func add(_ file: SnapshotFile) {
    files.removeAll { $0.path == file.path }
    damaged.removeAll { $0.path == file.path }
    files.append(file)
    sort()
    leftovers += damaged.filter { $0.index <= file.index }.map(\.path)
    damaged.removeAll { $0.index <= file.index }
  }

  /// A job that removes what is no longer needed: all but the newest `count` files, unfinished ones of
  /// an earlier run, and damaged ones that have been replaced. Nil if there is nothing.
  public mutating func takePurge(keeping count: Int) -> DiskJob? {
    let kept = max(count, 1)
    if files.count > kept {
      leftovers += files[kept...].map(\.path)
      files.removeSubrange(kept...)
    }
    guard !leftovers.isEmpty else { return nil }
    nextTicket += 1
    var operations = leftovers.map { FileOperation.remove(path: $0) }
    operations.append(.syncDirectory(path: directory))
    leftovers = []
    return DiskJob(ticket: DiskTicket(rawValue: nextTicket), operations: operations)
  }

  private mutating func sort() {
    files.sort { ($0.index, $0.term) > ($1.index, $1.term) }
  }
}
