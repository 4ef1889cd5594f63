import Primitives
import Raft

extension WriteAheadLog {
  /// Appends `entries`, which replace everything from the first one's index on, and `hardState`, as
  /// one batch: one write and one fdatasync.
  ///
  /// What is in it counts as kept only after ``completed(_:)`` has taken the job's result.
  /// Cost: one copy and one checksum of the payloads.
  ///
  /// - Parameters:
  ///   - hardState: the new hard state, nil if it is unchanged.
  ///   - entries: consecutive, starting at most one past `lastIndex`; may be empty.
  public mutating func append(hardState: HardState?, entries: [Entry]) -> DiskJob {
    if let first = entries.first {
      invariant(
        first.index <= lastIndex.next && first.index > .zero,
        "entry \(first.index) was appended to a log that ends at \(lastIndex)")
    }
    return appendBatch(base: nil, hardState: hardState, entries: entries)
  }

  /// Makes all entries void and lets the log continue behind `index`: a snapshot from the leader, which
  /// must be durable already, has overtaken it.
  public mutating func restart(
    after index: LogIndex, term: Term, hardState: HardState
  ) -> DiskJob {
    appendBatch(base: (index, term), hardState: hardState, entries: [])
  }

  mutating func appendBatch(
    base: (index: LogIndex, term: Term)?, hardState: HardState?, entries: [Entry]
  ) -> DiskJob {
    let ticket = takeTicket()
    // A stopped log writes nothing more; the shell is told when it hands the empty job's result back.
    if failure != nil { return DiskJob(ticket: ticket, operations: []) }
    var buffer = takeBuffer()
    var batchBytes = BatchEncoder.encode(
      base: base, hardState: hardState, entries: entries, into: buffer)
    if let threshold = settings.compressionThreshold, batchBytes >= threshold {
      let other = takeBuffer()
      if let smaller = BatchEncoder.compress(buffer, count: batchBytes, into: other) {
        buffers.append(buffer)
        buffer = other
        batchBytes = smaller
      } else {
        buffers.append(other)
      }
    }

    // A batch never spans segments.
    var operations: [FileOperation] = []
    var start = SegmentHeader.size
    let padded = UInt64((batchBytes + 7) & ~7)
    if writeOffset + padded > segments[segments.count - 1].capacity {
      rotate(
        room: UInt64(SegmentHeader.size) + padded, headerInto: buffer, operations: &operations)
      start = 0
    }
    let segment = segments[segments.count - 1]
    chain = BatchEncoder.seal(
      buffer, count: batchBytes, previous: chain, generation: segment.generation,
      offset: writeOffset)
    operations.append(
      .write(
        path: segment.path, offset: start == 0 ? 0 : writeOffset,
        bytes: .buffer(buffer, start: start, count: SegmentHeader.size - start + batchBytes)))
    #if PLANTED_BUGS
      if !PlantedBug.unsyncedLog.isPlanted { operations.append(.syncData(path: segment.path)) }
    #else
      operations.append(.syncData(path: segment.path))
    #endif

    let replaces = base != nil || (entries.first.map { $0.index <= lastIndex } ?? false)
    if let base { resetExtents(to: base.index, term: base.term) }
    var range: ClosedRange<LogIndex>?
    if let first = entries.first, let last = entries.last {
      range = first.index...last.index
      Self.place(
        first.index...last.index, segment: segment, start: writeOffset, end: writeOffset + padded,
        in: &extents)
      lastIndex = last.index
      lastTerm = last.term
      durableIndex = min(durableIndex, first.index.previous)
    } else {
      Self.stretch(segment: segment, end: writeOffset + padded, in: &extents)
    }
    if let hardState { self.hardState = hardState }
    writeOffset += padded
    appends.append(
      Append(
        ticket: ticket, generation: segment.generation, entries: range, base: base?.index,
        replaces: replaces, buffer: buffer))
    return DiskJob(ticket: ticket, operations: operations)
  }

  /// Puts the next prepared file to use and writes its header in front of the batch in `buffer`.
  private mutating func rotate(
    room: UInt64, headerInto buffer: DiskBuffer, operations: inout [FileOperation]
  ) {
    let path: String
    var capacity = settings.segmentBytes
    if room <= capacity, !spares.isEmpty {
      path = spares.removeFirst()
    } else {
      // The batch is larger than a segment, or writing outran preparing: make the file now.
      while capacity < room { capacity += settings.segmentBytes }
      path = takeFile()
      operations.append(.allocate(path: path, size: capacity))
      operations.append(.syncDirectory(path: directory))
    }
    let header = SegmentHeader(
      identity: identity, generation: segments[segments.count - 1].generation + 1,
      capacity: capacity, previousIndex: lastIndex, previousTerm: lastTerm, hardState: hardState,
      chain: chain)
    header.encode(into: buffer.base)
    segments.append(Segment(path: path, generation: header.generation, capacity: capacity))
    writeOffset = UInt64(SegmentHeader.size)
  }

  /// Takes the result of any job of this log except reads.
  ///
  /// - Throws: the failure of an append, which stops the log: the member must stop, and start again
  ///   from what the disk really holds. Failed background work doesn't throw; see `isSpaceLow`.
  public mutating func completed(_ result: DiskResult) throws(PersistenceError) {
    if let maintenance, maintenance.ticket == result.ticket {
      return maintenanceCompleted(maintenance.work, result.outcome)
    }
    if let failure { throw stopped(by: failure) }
    if case .failure(let error) = result.outcome {
      failure = error
      throw error
    }
    guard let append = appends.first, append.ticket == result.ticket else {
      invariantFailure("\(result.ticket) completed out of order")
    }
    appends.removeFirst()
    recycle(append.buffer)
    durableGeneration = append.generation
    if let base = append.base { durableIndex = base }
    if let range = append.entries { durableIndex = range.upperBound }
    // What a later batch replaces isn't the log's any more, though that batch is still on its way.
    for later in appends {
      if let base = later.base { durableIndex = min(durableIndex, base) }
      if let range = later.entries { durableIndex = min(durableIndex, range.lowerBound.previous) }
    }
    releaseSegments()
  }

  func stopped(by failure: PersistenceError) -> PersistenceError {
    PersistenceError(
      .stopped,
      "the log stopped at an earlier error; restart the member once its cause is removed: \(failure)",
      path: failure.path, offset: failure.offset)
  }

  // MARK: Positions

  /// Drops the entries from `range` on, and records where it will lie.
  static func place(
    _ range: ClosedRange<LogIndex>, segment: Segment, start: UInt64, end: UInt64,
    in extents: inout [Extent]
  ) {
    while let tail = extents.last, tail.first >= range.lowerBound { extents.removeLast() }
    if let tail = extents.last {
      if tail.last >= range.lowerBound {
        extents[extents.count - 1].last = range.lowerBound.previous
        extents[extents.count - 1].isSealed = true
      } else if tail.generation == segment.generation, tail.end == start, !tail.isSealed,
        tail.last.next == range.lowerBound, tail.end - tail.start < Limits.extentBytes
      {
        extents[extents.count - 1].last = range.upperBound
        extents[extents.count - 1].end = end
        return
      }
    }
    extents.append(
      Extent(
        first: range.lowerBound, last: range.upperBound, path: segment.path,
        generation: segment.generation, start: start, end: end, isSealed: false))
  }

  /// Lets the last extent run on over a batch without entries.
  static func stretch(segment: Segment, end: UInt64, in extents: inout [Extent]) {
    guard let tail = extents.last, tail.generation == segment.generation, !tail.isSealed,
      tail.end - tail.start < Limits.extentBytes
    else { return }
    extents[extents.count - 1].end = end
  }

  mutating func resetExtents(to index: LogIndex, term: Term) {
    extents.removeAll()
    lastIndex = index
    lastTerm = term
    durableIndex = min(durableIndex, index)
  }

  // MARK: Tickets, files and buffers

  mutating func takeTicket() -> DiskTicket {
    nextTicket += 1
    return DiskTicket(rawValue: nextTicket)
  }

  mutating func takeFile() -> String {
    nextFile += 1
    return Self.path(of: nextFile, in: directory)
  }

  mutating func takeBuffer() -> DiskBuffer {
    buffers.popLast() ?? DiskBuffer(capacity: 64 << 10)
  }

  mutating func recycle(_ buffer: DiskBuffer) {
    if buffers.count < Limits.pooledBuffers && buffer.capacity <= Limits.pooledBufferBytes {
      buffers.append(buffer)
    }
  }
}
