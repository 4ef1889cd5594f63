import MVCC
import Persistence
import Primitives
import Raft

// Snapshots taken, sent and received, and the rest of the work that nothing waits for.

extension ReplicaCore {
  /// Whether physical compaction is left, so that the next pump should follow at once.
  public var hasMaintenance: Bool { maintenanceDue && failure == nil }

  mutating func startBackgroundWork() {
    takeSnapshotIfDue()
    if let job = wal.takeMaintenance() { effects.background.append(.maintenance(job)) }
    if maintenanceDue {
      maintenanceDue = store.runMaintenance(budget: ReplicaLimits.maintenanceRecordsPerSlice)
      if physicallyCompacted != store.compactRevision, store.isCompactionFinished {
        physicallyCompacted = store.compactRevision
        statusChanged = true
      }
    }
  }

  /// The background thread has finished something that `Effects.background` asked for.
  public mutating func backgroundFinished(_ result: BackgroundResult) {
    guard failure == nil else { return }
    switch result {
    case .maintenance(let result):
      do { try wal.completed(result) } catch { fail(ReplicaFailure("\(error)")) }
    case .readLog(let read, let result, let request):
      logRead(read, result, for: request)
    case .snapshotTaken(.success(let summary)):
      snapshotTaken(summary)
    case .snapshotTaken(.failure(let failure)):
      // The log still holds everything; the next attempt comes with more log.
      snapshots.isTaking = false
      effects.warnings.append("a snapshot could not be written: \(failure)")
    case .snapshotPiece(let request, let chunk):
      snapshotPieceRead(request, chunk)
    case .snapshotStored(let stored, let peer):
      snapshotStored(stored, from: peer)
    case .snapshotExported(.success(let export), let token, let sink):
      effects.deliver(Reply(token: token, outcome: .exported(export)), to: sink)
    case .snapshotExported(.failure(let failure), let token, let sink):
      effects.warnings.append("a snapshot for a client could not be written: \(failure)")
      effects.deliver(Reply(token: token, outcome: .failed(.diskFailed)), to: sink)
    case .snapshotVerified(let index, let damage):
      guard let damage, index == snapshots.newest.metadata.index else { return }
      effects.warnings.append("the newest snapshot was damaged and is written again: \(damage)")
      snapshots.mustReplace = true
    case .purged:
      break
    }
  }

  // MARK: Taking

  private mutating func takeSnapshotIfDue() {
    guard snapshots.isDue(settings),
      raft.applied > snapshots.newest.metadata.index || snapshots.mustReplace,
      let metadata = raft.snapshotMetadata(at: raft.applied)
    else { return }
    snapshots.begin()
    #if PLANTED_BUGS
      if PlantedBug.applyTwice.isPlanted,
        let earlier = raft.snapshotMetadata(at: raft.applied.previous)
      {
        let task = SnapshotTask(metadata: earlier, view: self.view, cluster: cluster.encode())
        return effects.background.append(.takeSnapshot(task))
      }
      let view = PlantedBug.snapshotAhead.isPlanted ? viewBeforeLast : self.view
    #endif
    effects.background.append(
      .takeSnapshot(SnapshotTask(metadata: metadata, view: view, cluster: cluster.encode())))
  }

  private mutating func snapshotTaken(_ summary: SnapshotSummary) {
    if summary.metadata.index == snapshots.newest.metadata.index {
      return snapshots.rewritten(summary)
    }
    guard summary.metadata.index > snapshots.newest.metadata.index else {
      // A newer one came from the leader meanwhile.
      snapshots.isTaking = false
      return
    }
    counters.snapshotsTaken += 1
    let keepFrom = snapshots.taken(summary, settings)
    raft.snapshotTaken(summary.metadata, keepFrom: keepFrom)
    wal.release(through: keepFrom.previous)
    effects.background.append(.purgeSnapshots(keeping: snapshots.keptFiles))
  }

  /// Writes the state that readers see to a file for a client. Answered by `.exported`.
  public mutating func exportSnapshot(token: UInt64, sink: any ReplySink) {
    guard failure == nil, let metadata = raft.snapshotMetadata(at: raft.applied) else {
      return effects.deliver(Reply(token: token, outcome: .failed(.stopped)), to: sink)
    }
    effects.background.append(
      .exportSnapshot(
        SnapshotTask(metadata: metadata, view: view, cluster: cluster.encode()), token: token,
        sink: sink))
  }

  // MARK: Sending

  mutating func sendSnapshot(_ request: SnapshotRequest) {
    guard snapshots.newest.metadata.index >= request.atLeast,
      !snapshots.outgoing.contains(where: { $0.request.peer == request.peer })
    else {
      raft.snapshotSent(to: request.peer, through: nil)
      return
    }
    snapshots.outgoing.append(
      OutgoingSnapshot(request: request, snapshot: snapshots.newest, lastProgress: now))
    readPiece(at: 0, of: snapshots.newest, for: request)
  }

  private mutating func readPiece(
    at offset: UInt64, of snapshot: SnapshotSummary, for request: SnapshotRequest
  ) {
    effects.background.append(
      .readSnapshot(
        SnapshotPieceRequest(
          peer: request.peer, term: request.term, snapshot: snapshot, offset: offset,
          maximumBytes: settings.snapshotChunkBytes)))
  }

  private mutating func snapshotPieceRead(_ request: SnapshotPieceRequest, _ chunk: SnapshotChunk?)
  {
    guard let position = outgoingPosition(request.peer, request.snapshot.metadata.index) else {
      return
    }
    guard let chunk else {
      endOutgoing(position, through: nil)
      return doubt(request.snapshot)
    }
    effects.sends.append((request.peer, .snapshotChunk(chunk)))
  }

  /// A follower could not use a snapshot. It may be the follower's disk, or the file was damaged here after it
  /// had been written: then it would be refused again and again, until the log calls for the next one.
  private mutating func doubt(_ snapshot: SnapshotSummary) {
    guard now >= snapshots.nextVerification else { return }
    snapshots.nextVerification = now.advanced(by: ReplicaLimits.snapshotSilence)
    effects.background.append(.verifySnapshot(snapshot))
  }

  mutating func receiveSnapshotProgress(
    index: LogIndex, offset: UInt64, accepted: Bool, from peer: NodeID
  ) {
    guard let position = outgoingPosition(peer, index) else { return }
    let outgoing = snapshots.outgoing[position]
    if !accepted {
      endOutgoing(position, through: nil)
      doubt(outgoing.snapshot)
    } else if offset >= outgoing.snapshot.file.bytes {
      endOutgoing(position, through: index)
    } else {
      snapshots.outgoing[position].lastProgress = now
      readPiece(at: offset, of: outgoing.snapshot, for: outgoing.request)
    }
  }

  /// Gives up transfers whose receiver is silent, and all if this member no longer leads.
  mutating func checkOutgoingSnapshots() {
    var position = 0
    while position < snapshots.outgoing.count {
      let outgoing = snapshots.outgoing[position]
      let silence = now.nanoseconds(since: outgoing.lastProgress)
      if role != .leader || silence > ReplicaLimits.snapshotSilence.wholeNanoseconds {
        endOutgoing(position, through: nil)
      } else {
        position += 1
      }
    }
  }

  private func outgoingPosition(_ peer: NodeID, _ index: LogIndex) -> Int? {
    snapshots.outgoing.firstIndex {
      $0.request.peer == peer && $0.snapshot.metadata.index == index
    }
  }

  private mutating func endOutgoing(_ position: Int, through index: LogIndex?) {
    let outgoing = snapshots.outgoing.remove(at: position)
    raft.snapshotSent(to: outgoing.request.peer, through: index)
  }

  // MARK: Receiving

  mutating func receiveSnapshotChunk(_ chunk: SnapshotChunk, from peer: NodeID) {
    let offered = SnapshotMetadata(
      index: chunk.index, term: chunk.snapshotTerm, membership: Membership())
    guard raft.snapshotOffered(offered, by: peer, term: chunk.term) else {
      if chunk.index <= raft.commit {
        // It arrived by other ways: nothing is missing.
        answerProgress(chunk.index, offset: chunk.fileBytes, to: peer)
      }
      return
    }
    effects.background.append(.storeSnapshot(chunk, from: peer))
  }

  private mutating func snapshotStored(_ stored: SnapshotStored, from peer: NodeID) {
    if let failure = stored.failure {
      effects.warnings.append("a snapshot from \(peer) can't be used: \(failure)")
      effects.sends.append(
        (peer, .snapshotProgress(index: stored.index, offset: 0, accepted: false)))
    } else if let loaded = stored.loaded {
      snapshots.toInstall = loaded
      installSnapshotIfReady()
      answerProgress(stored.index, offset: loaded.summary.file.bytes, to: peer)
    } else {
      answerProgress(stored.index, offset: stored.offset, to: peer)
    }
  }

  private mutating func answerProgress(_ index: LogIndex, offset: UInt64, to peer: NodeID) {
    effects.sends.append((peer, .snapshotProgress(index: index, offset: offset, accepted: true)))
  }

  /// Replaces the state by a loaded snapshot, as soon as no log write is under way.
  mutating func installSnapshotIfReady() {
    guard let loaded = snapshots.toInstall, writing == nil else { return }
    snapshots.toInstall = nil
    let metadata = loaded.summary.metadata
    guard raft.snapshotInstalled(metadata) else { return }
    let before = store.revision
    store = loaded.store
    // What was remembered is of another past.
    agreement = StateAgreement()
    // What the skipped entries said about logins is unknown; clients log in again.
    effects.auth.append(.allInvalidated)
    cluster = loaded.cluster
    store.refusals = cluster.refusals
    stopIfLevelIsUnknown()
    membersChanged()
    snapshots.installed(loaded.summary)
    var startsAnew = raft.firstIndex > metadata.index
    #if PLANTED_BUGS
      if PlantedBug.snapshotWithoutLogRestart.isPlanted { startsAnew = false }
    #endif
    if startsAnew {
      // Raft gave its log up: what the disk holds is another history's, or leaves a gap.
      unwritten.entries = []
      let hardState = unwritten.hardState ?? wal.hardState
      let job = wal.restart(after: metadata.index, term: metadata.term, hardState: hardState)
      writing = LogWriteInProgress(raftTicket: nil, diskTicket: job.ticket)
      effects.log = job
    }
    hasApplied = true
    effects.background.append(.purgeSnapshots(keeping: snapshots.keptFiles))
    // Watchers go on from the snapshot's history, unless it was compacted past what they have seen.
    if before >= store.compactRevision || store.compactRevision <= .zero {
      if store.revision > before {
        unmatchedEvents = EventBatch(
          after: unmatchedEvents?.after ?? before, through: store.revision)
      }
    } else {
      unmatchedEvents = nil
      watches.loseAll(compacted: store.compactRevision, into: &effects)
    }
  }
}
