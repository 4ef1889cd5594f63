import Primitives
import Raft

/// Reads a log that no member uses, batch by batch, and changes nothing but for the lock that it takes meanwhile.
///
/// Recovery stops at the first damage, since a member can't go on from there. An inspection tells of it and reads
/// on, at the next batch that is whole: an operator wants to know how much is left.
public struct LogInspection: Sendable {
  /// One append, as it lies in a segment.
  public struct Batch: Sendable {
    public var path: String
    /// Where it begins, and its length with padding, in bytes.
    public var offset: UInt64
    public var bytes: Int
    public var isCompressed: Bool
    public var hardState: HardState?
    /// Entries through this index are void, and the log goes on behind it.
    public var base: LogIndex?
    public var entries: [Entry]
  }

  /// What the log is, all in all.
  public struct Summary: Sendable, Hashable {
    public var identity: LogIdentity?
    public var segments = 0
    public var batches = 0
    /// The entries that the log holds; nil if it holds none.
    public var first: LogIndex?
    public var last: LogIndex?
    public var lastTerm = Term.zero
    /// The index that the first segment begins behind.
    public var begin = LogIndex.zero
  }

  public private(set) var summary = Summary()
  /// What is wrong, each with file and offset where they are known; in the order of the log.
  public private(set) var problems: [PersistenceError] = []

  private var expected: LogIndex?
  /// The last batch's checksum; nil where the batch before is damaged.
  private var chain: UInt32?

  private init() {}

  /// Reads the log in `directory` and hands each whole batch on. Blocks.
  ///
  /// - Throws: `locked` where a member runs, `missing` where there is no log, `io`.
  public static func run(
    _ directory: String, fileSystem: some FileSystem, _ visit: (Batch) -> Void
  ) throws(PersistenceError) -> LogInspection {
    // Locking would make the directory's lock file, and so must not be tried where there is no directory.
    _ = try fileSystem.list(directory)
    try fileSystem.perform([.lockDirectory(path: directory)])
    defer { try? fileSystem.perform([.unlockDirectory(path: directory)]) }
    var inspection = LogInspection()
    guard let identity = try WriteAheadLog.identity(in: directory, fileSystem: fileSystem) else {
      return inspection
    }
    inspection.summary.identity = identity
    var recovery = LogRecovery(
      directory: directory, identity: identity, settings: LogSettings(), snapshotIndex: .zero)
    do throws(PersistenceError) {
      try recovery.readHeaders(
        try WriteAheadLog.segmentFiles(in: directory, fileSystem: fileSystem), fileSystem)
    } catch {
      if error.code == .io { throw error }
      inspection.problems.append(error)
    }
    inspection.summary.segments = recovery.segments.count
    for (position, segment) in recovery.segments.enumerated() {
      let bytes = try recovery.readAll(segment.path, size: segment.header.capacity, fileSystem)
      if position == 0 {
        inspection.chain = segment.header.chain
        inspection.summary.begin = segment.header.previousIndex
        inspection.expected = segment.header.previousIndex.next
      }
      bytes.withUnsafeBytes {
        inspection.walk(
          $0, segment.path, segment.header, isLast: position == recovery.segments.count - 1, visit)
      }
    }
    return inspection
  }

  private mutating func walk(
    _ bytes: UnsafeRawBufferPointer, _ path: String, _ header: SegmentHeader, isLast: Bool,
    _ visit: (Batch) -> Void
  ) {
    if let chain, header.chain != chain {
      report("the segment doesn't follow the last batch of the one before", path, 0)
    }
    chain = header.chain
    var offset = SegmentHeader.size
    while true {
      guard
        let stored = BatchDecoder.batch(
          in: bytes, at: offset, origin: 0, generation: header.generation)
      else {
        guard
          let next = BatchDecoder.firstBatch(
            in: bytes, from: offset + 8, origin: 0, generation: header.generation)
        else { return }
        report("a batch is damaged, but a later one at byte \(next) is whole", path, offset)
        chain = nil
        offset = next
        continue
      }
      if let chain, stored.previous != chain {
        report("a batch doesn't follow the one before", path, offset)
      }
      chain = stored.checksum
      take(stored, path, offset, visit)
      offset += stored.stride
    }
  }

  private mutating func take(
    _ stored: StoredBatch, _ path: String, _ offset: Int, _ visit: (Batch) -> Void
  ) {
    summary.batches += 1
    let batch: DecodedBatch
    do throws(PersistenceError) {
      batch = try BatchDecoder.decode(stored, wanted: .zero...LogIndex(.max))
    } catch {
      problems.append(
        PersistenceError(error.code, error.message, path: path, offset: UInt64(offset)))
      return
    }
    if let base = batch.base {
      expected = base.index.next
      summary.first = nil
      summary.last = nil
    }
    if let first = batch.first, let last = batch.last {
      if let expected, first > expected {
        report(
          "entries \(expected) to \(first.previous) are missing before this batch", path, offset)
      }
      summary.first = min(summary.first ?? first, first)
      summary.last = last.index
      summary.lastTerm = last.term
      expected = last.index.next
    }
    visit(
      Batch(
        path: path, offset: UInt64(offset), bytes: stored.stride,
        isCompressed: stored.flags & BatchHeader.Flags.compressed != 0,
        hardState: batch.hardState, base: batch.base?.index, entries: batch.entries))
  }

  private mutating func report(_ message: String, _ path: String, _ offset: Int) {
    problems.append(
      PersistenceError(
        .corrupt, "\(message); restore this member from its peers", path: path,
        offset: UInt64(offset)))
  }
}
