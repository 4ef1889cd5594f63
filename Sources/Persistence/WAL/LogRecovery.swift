import Primitives
import Raft

/// Reads a log's segments at start, and decides what is torn, what is spare and what is corrupt.
struct LogRecovery {
  let directory: String
  let identity: LogIdentity
  let settings: LogSettings
  /// Entries up to here aren't loaded.
  let snapshotIndex: LogIndex

  init(directory: String, identity: LogIdentity, settings: LogSettings, snapshotIndex: LogIndex) {
    self.directory = directory
    self.identity = identity
    self.settings = settings
    self.snapshotIndex = snapshotIndex
  }

  // MARK: Files

  /// Segments that hold the log, oldest first.
  var segments: [(path: String, header: SegmentHeader)] = []
  var spares: [String] = []
  var removals: [String] = []
  var nextFile: UInt64 = 0

  // MARK: What replaying has found so far

  var hardState = HardState()
  var last = DecodedBatch.Position(index: .zero, term: .zero)
  var chain: UInt32 = 0
  var writeOffset: UInt64 = 0
  var extents: [WriteAheadLog.Extent] = []
  var entries: [Entry] = []
  /// Where terms begin, from the first entry on.
  var terms: [TermRun] = []
  /// The last batch's own bytes and place, or the last header's: what is written again.
  var tail: (path: String, offset: UInt64, bytes: [UInt8])?

  // MARK: Headers

  mutating func readHeaders(
    _ files: [(number: UInt64, path: String)], _ fileSystem: some FileSystem
  ) throws(PersistenceError) {
    var found: [(path: String, size: UInt64, header: SegmentHeader)] = []
    var headless: [(path: String, size: UInt64)] = []
    for file in files {
      nextFile = max(nextFile, file.number)
      let size = try fileSystem.size(file.path) ?? 0
      let bytes = try fileSystem.read(file.path, at: 0, count: SegmentHeader.size)
      switch bytes.withUnsafeBytes(SegmentHeader.read) {
      case .newer(let version):
        throw PersistenceError(
          .newerFormat,
          "the segment has format \(version), this release knows \(SegmentHeader.version); run a "
            + "newer release", path: file.path)
      case .header(let header):
        guard header.identity == identity else {
          throw PersistenceError(
            .foreign,
            "the log belongs to member \(header.identity.memberID) of cluster "
              + "\(String(header.identity.clusterID, radix: 16)), not to member "
              + "\(identity.memberID) of cluster \(String(identity.clusterID, radix: 16)); use this "
              + "member's own directory", path: file.path)
        }
        found.append((file.path, size, header))
      case .none:
        headless.append((file.path, size))
      }
    }
    found.sort { $0.header.generation < $1.header.generation }
    for (one, next) in zip(found, found.dropFirst())
    where one.header.generation == next.header.generation {
      throw PersistenceError(
        .corrupt, "two segments have generation \(one.header.generation); \(one.path) is the other",
        path: next.path)
    }
    // The log is the last run of consecutive generations; what lies before a gap was released.
    var start = found.count
    while start > 0,
      start == found.count
        || found[start - 1].header.generation + 1 == found[start].header.generation
    {
      start -= 1
    }
    for file in headless {
      try checkHeadless(
        file, taken: Set(found.map(\.header.generation)),
        oldest: start < found.count ? found[start].header.generation : 0,
        newest: found.last?.header.generation ?? 0, fileSystem)
      keepForUse(file.path, size: file.size)
    }
    for file in found[..<start] { keepForUse(file.path, size: file.size) }
    for file in found[start...] {
      guard file.size >= file.header.capacity else {
        throw PersistenceError(
          .corrupt,
          "the segment has \(file.size) of its \(file.header.capacity) bytes; restore this member "
            + "from its peers", path: file.path, offset: file.size)
      }
      segments.append((file.path, file.header))
    }
  }

  private mutating func keepForUse(_ path: String, size: UInt64) {
    if size == settings.segmentBytes { spares.append(path) } else { removals.append(path) }
  }

  /// Makes sure that a file without a header is one that was never used, or whose first write was torn:
  /// no batch in it may validate that the log still needs.
  ///
  /// A recycled file is full of batches of its last use. They were released, and where they were not, the
  /// log begins too late for its snapshot, which `WriteAheadLog.open` finds.
  private func checkHeadless(
    _ file: (path: String, size: UInt64), taken: Set<UInt64>, oldest: UInt64,
    newest: UInt64, _ fileSystem: some FileSystem
  ) throws(PersistenceError) {
    let bytes = try readAll(file.path, size: file.size, fileSystem)
    let hit: UInt64? = bytes.withUnsafeBytes { raw in
      // Any use up to the next one counts, of those whose segment isn't here. The batch names the low
      // 16 bits of its generation; nothing older than 65,536 uses can still lie in a file.
      var place = SegmentHeader.size
      while place <= raw.count - BatchHeader.size {
        defer { place += 8 }
        guard raw[place + 14] == BatchHeader.magic else { continue }
        let low = UInt64(
          UInt16(littleEndian: raw.loadUnaligned(fromByteOffset: place + 12, as: UInt16.self)))
        var generation = (newest &+ 1) & ~0xFFFF | low
        if generation > newest + 1 {
          // Without any header the newest generation is unknown: take the number as it is.
          if generation > 0xFFFF { generation -= 0x1_0000 } else if newest > 0 { continue }
        }
        if generation < oldest || taken.contains(generation) { continue }
        if BatchDecoder.batch(in: raw, at: place, origin: 0, generation: generation) != nil {
          return UInt64(place)
        }
      }
      return nil
    }
    if let hit {
      throw PersistenceError(
        .corrupt,
        "the segment's header is damaged, but a batch at byte \(hit) is whole; restore this member "
          + "from its peers", path: file.path, offset: 0)
    }
  }

  func readAll(
    _ path: String, size: UInt64, _ fileSystem: some FileSystem
  ) throws(PersistenceError) -> [UInt8] {
    guard size <= UInt64(WriteAheadLog.Limits.batchBytes) * 2 else {
      throw PersistenceError(.corrupt, "a segment of \(size) bytes", path: path)
    }
    var bytes = try fileSystem.read(
      path, at: 0, count: Int(min(size, UInt64(WriteAheadLog.Limits.batchBytes))))
    while UInt64(bytes.count) < size {
      let more = try fileSystem.read(
        path, at: UInt64(bytes.count), count: Int(size - UInt64(bytes.count)))
      if more.isEmpty { break }
      bytes += more
    }
    return bytes
  }

  // MARK: Replay

  mutating func replay(_ fileSystem: some FileSystem) throws(PersistenceError) {
    for position in segments.indices {
      let segment = segments[position]
      let bytes = try readAll(segment.path, size: segment.header.capacity, fileSystem)
      let isLast = position == segments.count - 1
      let result: Result<Void, PersistenceError> = bytes.withUnsafeBytes { raw in
        do throws(PersistenceError) {
          return .success(
            try replay(raw, segment.path, segment.header, isFirst: position == 0, isLast: isLast))
        } catch {
          return .failure(error)
        }
      }
      try result.get()
    }
  }

  private mutating func replay(
    _ bytes: UnsafeRawBufferPointer, _ path: String, _ header: SegmentHeader, isFirst: Bool,
    isLast: Bool
  ) throws(PersistenceError) {
    if isFirst {
      chain = header.chain
      hardState = header.hardState
      last = DecodedBatch.Position(index: header.previousIndex, term: header.previousTerm)
    }
    if let tail, header.chain != chain {
      throw PersistenceError(
        .corrupt,
        "batches are damaged or missing from here to the end of the segment; restore this member "
          + "from its peers", path: tail.path, offset: writeOffset)
    }
    let segment = WriteAheadLog.Segment(
      path: path, generation: header.generation, capacity: header.capacity)
    var offset = SegmentHeader.size
    tail = (path, 0, [UInt8](bytes.prefix(offset)))
    while let stored = BatchDecoder.batch(
      in: bytes, at: offset, origin: 0, generation: header.generation)
    {
      guard stored.previous == chain else {
        throw PersistenceError(
          .corrupt, "a batch doesn't follow the one before; restore this member from its peers",
          path: path, offset: UInt64(offset))
      }
      let end = offset + stored.stride
      let place = UInt64(offset)..<UInt64(end)
      do throws(PersistenceError) {
        try apply(stored, segment: segment, place: place)
      } catch {
        throw PersistenceError(error.code, error.message, path: path, offset: UInt64(offset))
      }
      chain = stored.checksum
      // The first batch and the header were one write.
      let start = offset == SegmentHeader.size ? 0 : offset
      tail = (path, UInt64(start), [])
      offset = end
    }
    writeOffset = UInt64(offset)
    guard isLast else { return }
    #if PLANTED_BUGS
      if PlantedBug.cutAtDamage.isPlanted {
        if let start = tail?.offset {
          tail?.bytes = [UInt8](bytes[Int(start)..<min(offset, bytes.count)])
        }
        return
      }
    #endif
    if let later = BatchDecoder.firstBatch(
      in: bytes, from: offset + 8, origin: 0, generation: header.generation)
    {
      throw PersistenceError(
        .corrupt,
        "a batch is damaged, but a later one at byte \(later) is whole, so it isn't the torn end of "
          + "the log; restore this member from its peers", path: path, offset: UInt64(offset))
    }
    if let start = tail?.offset {
      tail?.bytes = [UInt8](bytes[Int(start)..<min(offset, bytes.count)])
    }
  }

  private mutating func apply(
    _ stored: StoredBatch, segment: WriteAheadLog.Segment, place: Range<UInt64>
  ) throws(PersistenceError) {
    let batch = try BatchDecoder.decode(
      stored, wanted: snapshotIndex.next...LogIndex(.max))
    if let hardState = batch.hardState { self.hardState = hardState }
    if let base = batch.base {
      last = base
      extents.removeAll()
      entries.removeAll()
      terms.removeAll()
    }
    guard let first = batch.first, let newLast = batch.last else {
      stretch(segment: segment, end: place.upperBound)
      return
    }
    guard first <= last.index.next else {
      throw PersistenceError(
        .corrupt,
        "entries \(last.index.next) to \(first.previous) are missing before this batch; "
          + "restore this member from its peers")
    }
    #if PLANTED_BUGS
      if PlantedBug.replacedEntriesReturn.isPlanted, entries.last.map({ $0.index >= first }) == true {
        stretch(segment: segment, end: place.upperBound)
        return
      }
    #endif
    while let entry = entries.last, entry.index >= first { entries.removeLast() }
    while let run = terms.last, run.first >= first { terms.removeLast() }
    for run in batch.terms where terms.last?.term != run.term { terms.append(run) }
    entries += batch.entries
    WriteAheadLog.place(
      first...newLast.index, segment: segment, start: place.lowerBound, end: place.upperBound,
      in: &extents)
    last = newLast
  }

  private mutating func stretch(segment: WriteAheadLog.Segment, end: UInt64) {
    WriteAheadLog.stretch(segment: segment, end: end, in: &extents)
  }

  // MARK: Answers

  /// The term of the entry at `index`, as far as the log knows it.
  func term(at index: LogIndex) -> Term? {
    if index == last.index { return last.term }
    guard let first = extents.first?.first, index >= first, index <= last.index else {
      // The entry before the first is known from the header, if the header is still about it.
      if let header = segments.first?.header, header.previousIndex == index,
        extents.isEmpty
          || extents.first?.first == index.next
      {
        return header.previousTerm
      }
      return nil
    }
    return terms.last { $0.first <= index }?.term
  }

  func termRuns(from first: LogIndex, through last: LogIndex) -> [TermRun] {
    guard first <= last else { return [] }
    var runs: [TermRun] = []
    for run in terms where run.first <= last {
      if run.first <= first { runs = [] }
      runs.append(TermRun(first: max(run.first, first), term: run.term))
    }
    return runs
  }

  /// Writes the end of the log again and syncs it. A failed sync of the process before may have left
  /// bytes in the page cache, where this one read them, that aren't on the disk.
  func rewriteTail(_ fileSystem: some FileSystem) throws(PersistenceError) {
    guard let tail else { return }
    #if PLANTED_BUGS
      if PlantedBug.trustedPageCache.isPlanted { return }
    #endif
    try fileSystem.perform([
      .write(path: tail.path, offset: tail.offset, bytes: .array(tail.bytes)),
      .syncData(path: tail.path),
    ])
  }
}
