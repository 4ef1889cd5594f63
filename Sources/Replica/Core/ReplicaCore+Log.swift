import Persistence
import Primitives
import Raft

// From Raft's wishes to the disk, one write at a time.

/// What Raft wants in the log and the log has not begun to write.
///
/// Several `Ready`s add up here while a write is under way: they become one batch with one sync.
struct UnwrittenLog {
  var hardState: HardState?
  var entries: [Entry] = []
  /// The newest ticket; durable means that all before it are, too.
  var ticket: PersistTicket?

  var isEmpty: Bool { ticket == nil }

  mutating func append(_ ready: Ready) {
    if let hardState = ready.hardState { self.hardState = hardState }
    if let ticket = ready.ticket { self.ticket = ticket }
    guard let first = ready.entries.first else { return }
    // A conflict's repair replaces entries that never reached the disk.
    if let position = entries.firstIndex(where: { $0.index >= first.index }) {
      entries.removeSubrange(position...)
    }
    if entries.isEmpty {
      entries = ready.entries
    } else {
      entries.append(contentsOf: ready.entries)
    }
  }
}

/// A write that the disk has not answered.
struct LogWriteInProgress {
  /// What Raft hears when it is durable; nil where the log only starts anew behind a snapshot.
  let raftTicket: PersistTicket?
  let diskTicket: DiskTicket
}

extension ReplicaCore {
  /// Gives the log everything that waits for it, if it is free.
  mutating func startLogWrite() {
    guard writing == nil, failure == nil, let ticket = unwritten.ticket else { return }
    let batch = unwritten
    unwritten = UnwrittenLog()
    let job = wal.append(hardState: batch.hardState, entries: batch.entries)
    writing = LogWriteInProgress(raftTicket: ticket, diskTicket: job.ticket)
    counters.logWrites += 1
    effects.log = job
    for entry in batch.entries {
      counters.logBytes += UInt64(entry.payload.count)
      snapshots.noteLogged(bytes: entry.payload.count, index: entry.index)
    }
  }

  /// The disk has finished the write that `Effects.log` asked for.
  public mutating func logWritten(_ result: DiskResult) {
    guard let write = writing, write.diskTicket == result.ticket else {
      return fail(ReplicaFailure("the log answered for \(result.ticket), which isn't under way"))
    }
    writing = nil
    do {
      try wal.completed(result)
    } catch {
      // A failed sync is never retried: what the disk holds is unknown (design, section 2).
      return fail(ReplicaFailure("the log could not be written: \(error)"))
    }
    if let ticket = write.raftTicket { raft.persisted(ticket) }
    installSnapshotIfReady()
  }

  /// Preparing segments failed, because the disk was full as a rule. It may have room again.
  mutating func retryLogMaintenance() {
    guard let failure = wal.preparationFailure else { return logMaintenanceRetry = nil }
    guard let due = logMaintenanceRetry else {
      logMaintenanceRetry = now.advanced(by: ReplicaLimits.logMaintenanceRetry)
      effects.warnings.append("no log segment could be prepared, which makes writes slower: \(failure)")
      return
    }
    guard now >= due else { return }
    logMaintenanceRetry = nil
    wal.retryMaintenance()
  }

  mutating func readLog(_ request: LogRead) {
    do {
      let read = try wal.readJob(
        from: request.from, through: request.through, maxBytes: request.maxBytes)
      effects.background.append(.readLog(read, request))
    } catch {
      raft.entriesRead(LogReadAnswer(request: request, entries: nil))
    }
  }

  mutating func logRead(_ read: LogReadJob, _ result: DiskResult, for request: LogRead) {
    do {
      let entries = try wal.entries(of: read, from: result)
      raft.entriesRead(LogReadAnswer(request: request, entries: entries))
    } catch {
      if error.code != .released {
        effects.warnings.append("old entries could not be read for \(request.peer): \(error)")
      }
      raft.entriesRead(LogReadAnswer(request: request, entries: nil))
    }
  }
}
