import Primitives

/// Writes one snapshot file in bounded steps.
///
/// Call ``step(_:)``, perform the job it returns, hand the result to ``completed(_:)``, and so on until
/// `file` is there. Between steps other work may run; nothing is kept from one step to the next but
/// compressed bytes and the compressor's block. Only when `file` is set is the snapshot durable.
///
/// ```swift
/// var writer = try SnapshotWriter(directory: directory, clusterID: id, index: index, term: term)
/// while let job = try writer.step({ source.next() }) {
///   try writer.completed(job.perform(on: fileSystem))
/// }
/// catalog.add(writer.file!)
/// ```
public struct SnapshotWriter: Sendable {
  private enum State: Sendable {
    case writing
    case finishing(SnapshotFile)
    case finished(SnapshotFile)
    case failed(PersistenceError)
  }

  private let directory: String
  private let clusterID: UInt64
  public let index: LogIndex
  public let term: Term
  private let encoder: FrameEncoder
  private var state: State = .writing

  /// Compressed bytes not handed out yet.
  private var output: [UInt8] = []
  /// Bytes handed out to be written, and their running checksum.
  private var written: UInt64 = 0
  private var fileChecksum: UInt32 = 0
  /// `written` when a sync was last put in.
  private var synced: UInt64 = 0
  /// Sections begun; the last one's lengths and checksum grow until it is closed.
  private var sections: [SnapshotSection] = []
  private var isSectionOpen = false
  /// Content that was too much for one step, and how much of it is done.
  private var rest: (bytes: [UInt8], done: Int)?
  /// Whether a job is out.
  private var isWaiting = false
  private var nextTicket: UInt64 = 0

  /// - Throws: `io` if the compressor can't be made.
  public init(
    directory: String, clusterID: UInt64, index: LogIndex, term: Term
  ) throws(PersistenceError) {
    guard let encoder = FrameEncoder() else {
      throw PersistenceError(.io, "no memory for the LZ4 compressor")
    }
    self.directory = directory
    self.clusterID = clusterID
    self.index = index
    self.term = term
    self.encoder = encoder
    SnapshotFormat.appendHeader(clusterID: clusterID, index: index, term: term, to: &output)
  }

  /// The finished file, once everything including its name is durable.
  public var file: SnapshotFile? {
    if case .finished(let file) = state { return file }
    return nil
  }

  /// Where the file grows. The id of a snapshot is its position, so there is one writer for a name.
  private var temporaryPath: String {
    directory + "/" + SnapshotFile.name(index: index, term: term) + Self.suffix
  }
  static let suffix = ".writing"

  /// Takes pieces from `next`, at most 1 MiB of content, and returns what is to be done on disk; nil when
  /// the snapshot is finished. `next` returns nil after the last piece.
  public mutating func step(
    _ next: () throws -> SnapshotPiece?
  ) throws -> DiskJob? {
    invariant(!isWaiting, "a step was asked for before the last one's job completed")
    switch state {
    case .finished: return nil
    case .failed(let error): throw error
    case .finishing, .writing: break
    }
    var taken = 0
    while taken < SnapshotLimits.pieceBytes && output.count < SnapshotLimits.writeBytes {
      if let (bytes, done) = rest {
        let count = min(bytes.count - done, SnapshotLimits.pieceBytes - taken)
        try add(bytes, done..<(done + count))
        taken += count
        rest = done + count == bytes.count ? nil : (bytes, done + count)
        continue
      }
      switch try next() {
      case .section(let id, let name):
        try closeSection()
        try openSection(id: id, name: name)
        taken += 1
      case .bytes(let bytes):
        invariant(isSectionOpen, "snapshot content before the first section")
        rest = bytes.isEmpty ? nil : (bytes, 0)
        taken += 1
      case nil:
        return try finish()
      }
    }
    return writeJob()
  }

  /// Takes the result of the last step's job.
  ///
  /// - Throws: its failure. The writer is of no more use then; perform ``abandon()``.
  public mutating func completed(_ result: DiskResult) throws(PersistenceError) {
    invariant(
      isWaiting && result.ticket.rawValue == nextTicket, "\(result.ticket) isn't this writer's")
    isWaiting = false
    if case .failure(let error) = result.outcome {
      state = .failed(error)
      throw error
    }
    if case .finishing(let file) = state { state = .finished(file) }
  }

  /// A job that removes the unfinished file.
  public mutating func abandon() -> DiskJob {
    state = .failed(PersistenceError(.stopped, "the snapshot was abandoned", path: temporaryPath))
    isWaiting = false
    return DiskJob(ticket: takeTicket(), operations: [.remove(path: temporaryPath)])
  }

  /// Writes the whole file on the calling thread, which blocks.
  public mutating func write(
    on fileSystem: some FileSystem, _ next: () throws -> SnapshotPiece?
  ) throws -> SnapshotFile {
    while let job = try step(next) { try completed(job.perform(on: fileSystem)) }
    guard let file else { invariantFailure("a snapshot writer without steps left isn't finished") }
    return file
  }

  // MARK: Sections

  private mutating func openSection(id: UInt32, name: String) throws(PersistenceError) {
    invariant(name.utf8.count <= 255, "a section name of \(name.utf8.count) bytes")
    invariant(!sections.contains { $0.id == id }, "section \(id) was begun twice")
    invariant(sections.count < SnapshotLimits.sections, "too many sections")
    sections.append(
      SnapshotSection(
        id: id, name: name, offset: written + UInt64(output.count), storedBytes: 0, contentBytes: 0,
        checksum: 0))
    isSectionOpen = true
    try require(encoder.begin(&output))
  }

  private mutating func add(_ bytes: [UInt8], _ range: Range<Int>) throws(PersistenceError) {
    let isGood = bytes.withUnsafeBytes { raw in
      let piece = UnsafeRawBufferPointer(rebasing: raw[range])
      let last = sections.count - 1
      sections[last].contentBytes += UInt64(piece.count)
      sections[last].checksum = CRC32C.checksum(piece, seed: sections[last].checksum)
      return encoder.update(piece, &output)
    }
    try require(isGood)
  }

  private mutating func closeSection() throws(PersistenceError) {
    guard isSectionOpen else { return }
    try require(encoder.end(&output))
    let last = sections.count - 1
    sections[last].storedBytes = written + UInt64(output.count) - sections[last].offset
    isSectionOpen = false
  }

  private func require(_ isGood: Bool) throws(PersistenceError) {
    if !isGood { throw PersistenceError(.io, "the LZ4 compressor failed", path: temporaryPath) }
  }

  // MARK: Jobs

  private mutating func takeTicket() -> DiskTicket {
    nextTicket += 1
    return DiskTicket(rawValue: nextTicket)
  }

  /// Hands out what was gathered, as the operation that writes it.
  private mutating func takeOutput() -> [FileOperation] {
    var operations: [FileOperation] = []
    if written == 0 { operations.append(.remove(path: temporaryPath)) }
    fileChecksum = CRC32C.checksum(output, seed: fileChecksum)
    operations.append(.write(path: temporaryPath, offset: written, bytes: .array(output)))
    written += UInt64(output.count)
    output = []
    return operations
  }

  private mutating func writeJob() -> DiskJob {
    isWaiting = true
    guard !output.isEmpty else { return DiskJob(ticket: takeTicket(), operations: []) }
    var operations = takeOutput()
    if written - synced >= SnapshotLimits.syncBytes {
      operations.append(.syncData(path: temporaryPath))
      synced = written
    }
    return DiskJob(ticket: takeTicket(), operations: operations)
  }

  private mutating func finish() throws(PersistenceError) -> DiskJob {
    try closeSection()
    let trailer = SnapshotFormat.trailer(sections, startingAt: written + UInt64(output.count))
    output += trailer
    let checksum = CRC32C.checksum(output, seed: fileChecksum)
    output.append(littleEndian: checksum)
    var operations = takeOutput()
    let path = directory + "/" + SnapshotFile.name(index: index, term: term) + SnapshotFile.suffix
    #if PLANTED_BUGS
      if !PlantedBug.unsyncedSnapshot.isPlanted {
        operations.append(.syncData(path: temporaryPath))
      }
    #else
      operations.append(.syncData(path: temporaryPath))
    #endif
    operations.append(.rename(from: temporaryPath, to: path))
    operations.append(.syncDirectory(path: directory))
    state = .finishing(
      SnapshotFile(path: path, index: index, term: term, bytes: written, checksum: checksum))
    isWaiting = true
    return DiskJob(ticket: takeTicket(), operations: operations)
  }
}
