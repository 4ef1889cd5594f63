public import Primitives

// Snapshots, from the protocol's side: who needs one, and what the log is after one.

extension RaftCore {
  /// The metadata of a snapshot at `index`, which must be applied; nil if that part of the log is gone.
  public func snapshotMetadata(at index: LogIndex) -> SnapshotMetadata? {
    guard index <= applied, let term = log.term(at: index),
      let record = memberships.last(where: { $0.index <= index })
    else { return nil }
    #if PLANTED_BUGS
      if settings.plantedBugs.contains(.staleSnapshotMembership) {
        return SnapshotMetadata(index: index, term: term, membership: memberships[0].membership)
      }
    #endif
    return SnapshotMetadata(index: index, term: term, membership: record.membership)
  }

  /// A local snapshot is durable. The log before `keepFrom` may no longer be read (the caller may
  /// delete it); `keepFrom` is at most one past the snapshot.
  public mutating func snapshotTaken(_ snapshot: SnapshotMetadata, keepFrom: LogIndex) {
    guard snapshot.index <= applied else { return }
    forgetMemberships(before: snapshot.index)
    // What is not durable in the log yet is still being written there; only its front may go.
    log.release(before: min(keepFrom, snapshot.index.next, persistence.persistedIndex.next))
  }

  mutating func requestSnapshot(at position: Int) {
    // A snapshot is not sent into the void: the peer must have been heard lately.
    guard peers[position].isActive else {
      peers[position].isPaused = true
      return
    }
    peers[position].becomeSnapshot()
    pending.snapshotsToSend.append(
      SnapshotRequest(peer: peers[position].id, term: term, atLeast: log.firstIndex.previous))
  }

  /// Answers ``Ready/snapshotsToSend``: the follower has installed the snapshot of that index, or, with
  /// nil, the transfer failed and may be tried again.
  public mutating func snapshotSent(to peer: NodeID, through index: LogIndex?) {
    guard role == .leader, let position = position(of: peer), peers[position].state == .snapshot
    else { return }
    peers[position].becomeProbe()
    if let index, index <= log.lastIndex {
      peers[position].next = max(peers[position].next, index.next)
      needsFlush = true
    } else {
      peers[position].isPaused = true
    }
  }

  /// A snapshot transfer begins, goes on or ends at the receiver. True if it is to be taken: the sender
  /// may lead, and the snapshot holds more than this member has committed. Ask again right before
  /// restoring the state machine from it.
  public mutating func snapshotOffered(
    _ snapshot: SnapshotMetadata, by sender: NodeID, term offeredTerm: Term
  ) -> Bool {
    guard offeredTerm >= term else { return false }
    if offeredTerm > term {
      becomeFollower(term: offeredTerm, leader: sender)
    } else if role == .leader {
      return false
    } else if role != .follower || leader != sender {
      becomeFollower(term: term, leader: sender)
    }
    electionElapsed = 0
    guard snapshot.index <= commit else { return true }
    // The leader would not offer it if it knew how far this member is.
    accept(through: commit)
    return false
  }

  /// A snapshot received from the leader is durable and the state machine restored from it. False if it was
  /// out of date and nothing changed.
  ///
  /// If ``firstIndex`` is past the snapshot now, the log was replaced: entries that were handed out for
  /// writing are void, and before the next ones the log on disk must be made to start behind the snapshot.
  /// (Tickets count on.)
  @discardableResult
  public mutating func snapshotInstalled(_ snapshot: SnapshotMetadata) -> Bool {
    guard role != .leader, snapshot.index > commit else { return false }
    let keepsLog = log.term(at: snapshot.index) == snapshot.term
    if keepsLog {
      forgetMemberships(before: snapshot.index)
      memberships[0] = MembershipRecord(index: snapshot.index, membership: snapshot.membership)
    } else {
      // The log is another history's, or too short: the snapshot replaces it whole.
      log = Log(after: snapshot)
      memberships = [MembershipRecord(index: snapshot.index, membership: snapshot.membership)]
    }
    adoptMembership()
    // Entries up to the snapshot that were never written will not be: the log starts after the gap.
    if persistence.firstUnwritten <= snapshot.index { log.release(before: snapshot.index.next) }
    persistence.installed(through: snapshot.index, keepsLog: keepsLog)
    commit = snapshot.index
    handedOut = snapshot.index
    applied = snapshot.index
    // Committed entries are in every later leader's log.
    matched = max(matched, snapshot.index)
    owesAcknowledgement = true
    return true
  }
}
