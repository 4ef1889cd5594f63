import Primitives
import Raft

/// A read of old entries that is to be carried out: the job, and how to understand its result.
public struct LogReadJob: Sendable {
  public let job: DiskJob
  /// The entries asked for.
  public let range: ClosedRange<LogIndex>
  let maxBytes: Int
  let extents: [WriteAheadLog.Extent]
}

extension WriteAheadLog {
  /// A job that reads entries from `from` on, at most through `through`, and up to about `maxBytes` of
  /// them, but at least one. It may run on any thread.
  ///
  /// - Throws: `released` if `from` isn't in the log any more, or not on disk yet.
  public mutating func readJob(
    from: LogIndex, through: LogIndex, maxBytes: Int
  ) throws(PersistenceError) -> LogReadJob {
    let last = min(through, durableIndex)
    guard from >= firstIndex, from <= last else {
      throw PersistenceError(
        .released,
        "entry \(from) isn't in the log on disk, which has \(firstIndex)...\(durableIndex)")
    }
    var position = extents.partitionPoint { $0.last < from }
    var operations: [FileOperation] = []
    var chosen: [Extent] = []
    var bytes: UInt64 = 0
    while position < extents.count, extents[position].first <= last {
      let extent = extents[position]
      let size = extent.end - extent.start
      if !chosen.isEmpty && bytes + size > UInt64(clamping: maxBytes) { break }
      operations.append(.read(path: extent.path, offset: extent.start, count: Int(size)))
      chosen.append(extent)
      bytes += size
      position += 1
    }
    guard let final = chosen.last else {
      throw PersistenceError(.released, "entry \(from) isn't in the log on disk")
    }
    return LogReadJob(
      job: DiskJob(ticket: takeTicket(), operations: operations),
      range: from...min(last, final.last), maxBytes: maxBytes, extents: chosen)
  }

  /// The entries that `read` fetched, consecutive from the first one asked for.
  ///
  /// - Throws: `released` if the segments were put to new use meanwhile, `corrupt` naming file and
  ///   offset, or the failure of the job.
  public func entries(
    of read: LogReadJob, from result: DiskResult
  ) throws(PersistenceError) -> [Entry] {
    do throws(PersistenceError) {
      return try Self.decode(read, result)
    } catch {
      if read.range.lowerBound < firstIndex {
        throw PersistenceError(
          .released, "entry \(read.range.lowerBound) was released while it was read")
      }
      throw error
    }
  }

  private static func decode(
    _ read: LogReadJob, _ result: DiskResult
  ) throws(PersistenceError) -> [Entry] {
    let answers = try result.outcome.get()
    var entries: [Entry] = []
    var bytes = 0
    for (extent, answer) in zip(read.extents, answers) {
      guard case .bytes(let piece) = answer else { continue }
      let wanted =
        max(extent.first, read.range.lowerBound)...min(extent.last, read.range.upperBound)
      let found: Result<[Entry], PersistenceError> = piece.withUnsafeBytes { raw in
        do throws(PersistenceError) {
          return .success(try decode(extent, raw, wanted: wanted))
        } catch {
          return .failure(error)
        }
      }
      for entry in try found.get() {
        if !entries.isEmpty && bytes + entry.payload.count > read.maxBytes { return entries }
        bytes += entry.payload.count
        entries.append(entry)
      }
    }
    return entries
  }

  /// The entries of one extent. Batches behind the last entry wanted may still be on their way to disk
  /// and aren't looked at.
  private static func decode(
    _ extent: Extent, _ bytes: UnsafeRawBufferPointer, wanted: ClosedRange<LogIndex>
  ) throws(PersistenceError) -> [Entry] {
    var entries: [Entry] = []
    var offset = 0
    var next = wanted.lowerBound
    while next <= wanted.upperBound {
      guard
        let stored = BatchDecoder.batch(
          in: bytes, at: offset, origin: extent.start, generation: extent.generation)
      else {
        throw PersistenceError(
          .corrupt, "a batch that was written is damaged; restore this member from its peers",
          path: extent.path, offset: extent.start + UInt64(offset))
      }
      for entry in try BatchDecoder.decode(stored, wanted: wanted).entries {
        guard entry.index == next else {
          throw PersistenceError(
            .corrupt, "entry \(next) is missing; restore this member from its peers",
            path: extent.path, offset: extent.start + UInt64(offset))
        }
        entries.append(entry)
        next = next.next
      }
      offset += stored.stride
    }
    return entries
  }
}

extension Array {
  /// The first position whose element doesn't satisfy `isBefore`, which holds for a prefix.
  func partitionPoint(_ isBefore: (Element) -> Bool) -> Int {
    var low = 0
    var high = count
    while low < high {
      let middle = low + (high - low) / 2
      if isBefore(self[middle]) { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
