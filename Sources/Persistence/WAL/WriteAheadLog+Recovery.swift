import Primitives
import Raft

extension WriteAheadLog {
  /// Whose log `directory` holds, nil if it holds none.
  public static func identity(
    in directory: String, fileSystem: some FileSystem
  ) throws(PersistenceError) -> LogIdentity? {
    var newest: SegmentHeader?
    for file in try segmentFiles(in: directory, fileSystem: fileSystem) {
      let bytes = try fileSystem.read(file.path, at: 0, count: SegmentHeader.size)
      if case .header(let header) = bytes.withUnsafeBytes(SegmentHeader.read),
        header.generation >= newest?.generation ?? 0
      {
        newest = header
      }
    }
    return newest?.identity
  }

  /// Opens the log in `directory`, locks that, and reads what it holds; makes a new log if the
  /// directory is empty or missing. Blocks.
  ///
  /// - Parameters:
  ///   - identity: whose log it must be.
  ///   - snapshotIndex: the position of the newest usable snapshot, zero if there is none. Entries up
  ///     to it aren't loaded; if the log doesn't lead to it, the log restarts behind it.
  /// - Throws: `corrupt` with file and offset, `gap` if entries between the snapshot and the log's
  ///   beginning are missing, `foreign`, `newerFormat`, `locked`, `diskFull`, `io`.
  public static func recover(
    directory: String, identity: LogIdentity, snapshotIndex: LogIndex = .zero,
    snapshotTerm: Term = .zero, fileSystem: some FileSystem, settings: LogSettings = LogSettings()
  ) throws(PersistenceError) -> (log: WriteAheadLog, recovered: RecoveredLog) {
    try fileSystem.perform([
      .createDirectory(path: directory), .lockDirectory(path: directory),
    ])
    do throws(PersistenceError) {
      let files = try segmentFiles(in: directory, fileSystem: fileSystem)
      // Files of a start or of background work that a crash cut short may lack their names on disk.
      try fileSystem.perform([.syncDirectory(path: directory)])
      var recovery = LogRecovery(
        directory: directory, identity: identity, settings: settings, snapshotIndex: snapshotIndex)
      try recovery.readHeaders(files, fileSystem)
      if recovery.segments.isEmpty {
        return try create(recovery, snapshotIndex, snapshotTerm, fileSystem)
      }
      try recovery.replay(fileSystem)
      return try open(recovery, snapshotIndex, snapshotTerm, fileSystem)
    } catch {
      try? fileSystem.perform([.unlockDirectory(path: directory)])
      throw error
    }
  }

  /// Gives the directory up. No job may be outstanding.
  public func close(on fileSystem: some FileSystem) throws(PersistenceError) {
    try fileSystem.perform([.unlockDirectory(path: directory)])
  }

  // MARK: Files

  static func path(of number: UInt64, in directory: String) -> String {
    let digits = String(number, radix: 16)
    return directory + "/" + String(repeating: "0", count: 16 - digits.count) + digits + ".wal"
  }

  /// The segment files in a directory, by ascending number. Files with other names are left alone.
  static func segmentFiles(
    in directory: String, fileSystem: some FileSystem
  ) throws(PersistenceError) -> [(number: UInt64, path: String)] {
    var files: [(number: UInt64, path: String)] = []
    do throws(PersistenceError) {
      for name in try fileSystem.list(directory) where name.hasSuffix(".wal") {
        let digits = name.dropLast(4)
        guard digits.count == 16, let number = UInt64(digits, radix: 16), number < .max / 2 else {
          continue
        }
        files.append((number, directory + "/" + name))
      }
    } catch {
      if error.code == .missing { return [] }
      throw error
    }
    return files
  }

  // MARK: The first start

  private static func create(
    _ recovery: LogRecovery, _ snapshotIndex: LogIndex, _ snapshotTerm: Term,
    _ fileSystem: some FileSystem
  ) throws(PersistenceError) -> (log: WriteAheadLog, recovered: RecoveredLog) {
    var nextFile = recovery.nextFile
    let path: String
    var spares = recovery.spares
    if spares.isEmpty {
      nextFile += 1
      path = Self.path(of: nextFile, in: recovery.directory)
      try fileSystem.perform([
        .allocate(path: path, size: recovery.settings.segmentBytes),
        .syncDirectory(path: recovery.directory),
      ])
    } else {
      path = spares.removeFirst()
    }
    let hardState = HardState(term: snapshotTerm, vote: nil, commit: snapshotIndex)
    let header = SegmentHeader(
      identity: recovery.identity, generation: 1, capacity: recovery.settings.segmentBytes,
      previousIndex: snapshotIndex, previousTerm: snapshotTerm, hardState: hardState, chain: 0)
    var bytes = [UInt8](repeating: 0, count: SegmentHeader.size)
    bytes.withUnsafeMutableBytes { raw in
      if let base = raw.baseAddress { header.encode(into: base) }
    }
    try fileSystem.perform([
      .write(path: path, offset: 0, bytes: .array(bytes)), .syncData(path: path),
    ])
    let log = WriteAheadLog(
      directory: recovery.directory, identity: recovery.identity, settings: recovery.settings,
      segments: [Segment(path: path, generation: 1, capacity: header.capacity)],
      writeOffset: UInt64(SegmentHeader.size), chain: 0, extents: [], lastIndex: snapshotIndex,
      lastTerm: snapshotTerm, durableIndex: snapshotIndex, hardState: hardState,
      releasable: .zero, durableGeneration: 1, nextTicket: 0, appends: [], maintenance: nil,
      buffers: [], failure: nil,
      spares: spares, nextFile: nextFile, removals: recovery.removals, preparationFailure: nil)
    return (
      log,
      RecoveredLog(
        identity: recovery.identity, isNew: true, hardState: hardState, entries: [],
        olderTerms: [], firstIndex: snapshotIndex.next, lastIndex: snapshotIndex,
        lastTerm: snapshotTerm, lastBatch: nil)
    )
  }

  // MARK: Every other start

  private static func open(
    _ recovery: LogRecovery, _ snapshotIndex: LogIndex, _ snapshotTerm: Term,
    _ fileSystem: some FileSystem
  ) throws(PersistenceError) -> (log: WriteAheadLog, recovered: RecoveredLog) {
    try recovery.rewriteTail(fileSystem)
    var log = WriteAheadLog(
      directory: recovery.directory, identity: recovery.identity, settings: recovery.settings,
      segments: recovery.segments.map {
        Segment(path: $0.path, generation: $0.header.generation, capacity: $0.header.capacity)
      },
      writeOffset: recovery.writeOffset, chain: recovery.chain, extents: recovery.extents,
      lastIndex: recovery.last.index, lastTerm: recovery.last.term,
      durableIndex: recovery.last.index, hardState: recovery.hardState, releasable: .zero,
      durableGeneration: recovery.segments.last?.header.generation ?? 0, nextTicket: 0, appends: [],
      maintenance: nil, buffers: [], failure: nil,
      spares: recovery.spares, nextFile: recovery.nextFile, removals: recovery.removals,
      preparationFailure: nil)
    let kept = min(recovery.settings.maximumSpareSegments, log.spares.count)
    log.removals += log.spares[kept...]
    log.spares.removeSubrange(kept...)

    // A snapshot from the leader was installed, but the crash came before the log restarted behind it.
    let isOvertaken =
      recovery.last.index < snapshotIndex
      || recovery.term(at: snapshotIndex).map { $0 != snapshotTerm } ?? false
    if isOvertaken {
      var hardState = recovery.hardState
      hardState.commit = max(hardState.commit, snapshotIndex)
      let job = log.restart(after: snapshotIndex, term: snapshotTerm, hardState: hardState)
      try log.completed(job.perform(on: fileSystem))
    } else if log.firstIndex > snapshotIndex.next {
      throw PersistenceError(
        .gap,
        "the log begins at entry \(log.firstIndex), but the newest usable snapshot ends at "
          + "\(snapshotIndex); restore a later snapshot, or this member from its peers",
        path: recovery.directory)
    }
    // The commit in the hard state is a hint that may lag behind a snapshot or lead a torn batch.
    log.hardState.commit = min(max(log.hardState.commit, snapshotIndex), log.lastIndex)

    let recovered = RecoveredLog(
      identity: recovery.identity, isNew: false, hardState: log.hardState,
      entries: isOvertaken ? [] : recovery.entries,
      olderTerms: isOvertaken
        ? [] : recovery.termRuns(from: log.firstIndex, through: snapshotIndex),
      firstIndex: log.firstIndex, lastIndex: log.lastIndex, lastTerm: log.lastTerm,
      lastBatch: recovery.tail.map { RecoveredLog.LastBatch(path: $0.path, offset: $0.offset) })
    return (log, recovered)
  }
}
