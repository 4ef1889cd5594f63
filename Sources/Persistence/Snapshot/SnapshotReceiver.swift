import Primitives

/// Receives a snapshot file in chunks, and continues one that broke off.
///
/// Chunks come in order of their offset; one that was received before is ignored, one that leaves a gap is
/// refused, and ``offset`` tells the sender where to go on. Nothing is trusted until ``install(on:)`` has
/// verified the whole.
public struct SnapshotReceiver: Sendable {
  static let suffix = ".receiving"

  private let directory: String
  private let clusterID: UInt64
  public let index: LogIndex
  public let term: Term
  /// The sender's file: its length and checksum.
  public let bytes: UInt64
  public let checksum: UInt32
  /// The next byte that is wanted.
  public private(set) var offset: UInt64
  /// How many bytes an earlier attempt left. Its sync may have failed, and then they are perhaps in the page cache
  /// only, which says that they are written: so they are written again before they are relied on.
  private var inherited: UInt64 = 0
  private var nextTicket: UInt64 = 0

  /// Begins a transfer, or continues one of the same file that left its bytes here. Blocks shortly.
  public init(
    directory: String, clusterID: UInt64, index: LogIndex, term: Term, bytes: UInt64,
    checksum: UInt32, fileSystem: some FileSystem
  ) throws(PersistenceError) {
    self.directory = directory
    self.clusterID = clusterID
    self.index = index
    self.term = term
    self.bytes = bytes
    self.checksum = checksum
    offset = 0
    let present = try fileSystem.size(path) ?? 0
    // More than the file can have is none of ours.
    if present > bytes {
      try fileSystem.perform([.remove(path: path)])
    } else {
      offset = present
      inherited = present
    }
  }

  private var path: String {
    directory + "/" + SnapshotFile.name(index: index, term: term) + "-"
      + SnapshotFile.hexadecimal(bytes) + "-" + SnapshotFile.hexadecimal(UInt64(checksum))
      + Self.suffix
  }

  /// Whether every byte has been handed over.
  public var isComplete: Bool { offset == bytes }

  /// Takes a chunk that belongs at `position`.
  ///
  /// - Returns: a job to perform before the next one's, nil if the chunk brings nothing new.
  /// - Throws: `invalid` if it leaves a gap, naming the offset wanted, or passes the file's end.
  public mutating func append(
    _ chunk: [UInt8], at position: UInt64
  ) throws(PersistenceError) -> DiskJob? {
    guard position <= offset else {
      throw PersistenceError(
        .invalid, "a chunk for byte \(position) came, byte \(offset) is wanted", path: path,
        offset: offset)
    }
    let (end, overflow) = position.addingReportingOverflow(UInt64(chunk.count))
    guard !overflow, end <= bytes else {
      throw PersistenceError(
        .invalid, "a chunk passes the end of the snapshot's \(bytes) bytes", path: path,
        offset: position)
    }
    guard end > offset else { return nil }
    let fresh = position == offset ? chunk : [UInt8](chunk[Int(offset - position)...])
    nextTicket += 1
    let job = DiskJob(
      ticket: DiskTicket(rawValue: nextTicket),
      operations: [.write(path: path, offset: offset, bytes: .array(fresh))])
    offset = end
    return job
  }

  /// Takes the result of a chunk's job. After a failure the transfer starts over.
  public mutating func completed(_ result: DiskResult) throws(PersistenceError) {
    if case .failure(let error) = result.outcome {
      offset = 0
      throw error
    }
  }

  /// Verifies the whole file, makes it durable and gives it its name. Blocks; call it on the snapshot
  /// thread when ``isComplete``.
  ///
  /// - Throws: `corrupt` or `foreign` if the bytes aren't the sender's snapshot; they are removed, and the
  ///   transfer can start over. `io` and `diskFull` as they come.
  public mutating func install(
    on fileSystem: any FileSystem
  ) throws(PersistenceError) -> SnapshotFile {
    do throws(PersistenceError) {
      try rewriteInherited(on: fileSystem)
      try fileSystem.perform([.syncData(path: path)])
      let reader = try SnapshotReader(path: path, clusterID: clusterID, fileSystem: fileSystem)
      guard reader.file.index == index, reader.file.term == term, reader.file.bytes == bytes,
        reader.file.checksum == checksum
      else {
        throw PersistenceError(
          .corrupt, "the bytes received aren't the snapshot that was announced", path: path)
      }
    } catch {
      offset = 0
      // What can't be removed is overwritten by the next attempt.
      try? fileSystem.perform([.remove(path: path)])
      throw error
    }
    let final = directory + "/" + SnapshotFile.name(index: index, term: term) + SnapshotFile.suffix
    try fileSystem.perform([
      .rename(from: path, to: final), .syncDirectory(path: directory),
    ])
    return SnapshotFile(path: final, index: index, term: term, bytes: bytes, checksum: checksum)
  }

  private func rewriteInherited(on fileSystem: any FileSystem) throws(PersistenceError) {
    var place: UInt64 = 0
    while place < inherited {
      let count = Int(min(inherited - place, UInt64(SnapshotLimits.pieceBytes)))
      let piece = try fileSystem.read(path, at: place, count: count)
      guard piece.count == count else {
        throw PersistenceError(.corrupt, "the file became shorter", path: path, offset: place)
      }
      try fileSystem.perform([.write(path: path, offset: place, bytes: .array(piece))])
      place += UInt64(count)
    }
  }

  /// A job that removes what was received.
  public mutating func abandon() -> DiskJob {
    offset = 0
    nextTicket += 1
    return DiskJob(
      ticket: DiskTicket(rawValue: nextTicket), operations: [.remove(path: path)])
  }
}
