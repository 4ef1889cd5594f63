import Primitives

// The follower's side of replication.

extension RaftCore {
  mutating func handleAppend(_ append: Message.Append) {
    let last = append.previousIndex + UInt64(append.entries.count)
    if last <= commit {
      // Late or repeated: all of it is committed, so it is here and equal to every leader's.
      accept(through: commit)
      return
    }
    if append.previousIndex >= commit {
      var isMatch = log.term(at: append.previousIndex) == append.previousTerm
      #if PLANTED_BUGS
        if settings.plantedBugs.contains(.unmatchedAppend) {
          isMatch = append.previousIndex <= log.lastIndex
        }
      #endif
      guard isMatch else {
        reject(append)
        return
      }
    }
    // Without room for more, the follower only confirms the position; the leader will come again.
    if log.tailBytes > settings.limits.unappliedBytes {
      accept(through: max(commit, append.previousIndex))
      return
    }
    for entry in append.entries where entry.index > commit {
      if entry.index <= log.lastIndex {
        if log.term(at: entry.index) == entry.term { continue }
        #if PLANTED_BUGS
          if settings.plantedBugs.contains(.keepConflictingEntries) { continue }
        #endif
        truncateLog(from: entry.index)
      }
      log.append(entry)
      if entry.kind == .membership {
        recordMembership(of: entry)
        adoptMembership()
      }
    }
    accept(through: last)
    advanceCommit(to: min(append.commit, last))
  }

  /// The log equals the leader's through `index`, and the leader shall hear of it.
  mutating func accept(through index: LogIndex) {
    matched = max(matched, index)
    owesAcknowledgement = true
  }

  /// Tells the leader the last place where the logs may agree: no entry there or before can have a later
  /// term than the leader's. A whole term of entries is passed over in a round trip, not one entry.
  private mutating func reject(_ append: Message.Append) {
    let (index, term) = log.lastPosition(
      atOrBefore: append.previousIndex, termAtMost: append.previousTerm)
    guard let leader else { return }
    send(
      to: leader,
      .appendRejected(
        .init(rejectedIndex: append.previousIndex, hintIndex: index, hintTerm: term)))
  }

  private mutating func truncateLog(from index: LogIndex) {
    invariant(index > commit, "a committed entry would be replaced")
    log.truncate(from: index)
    #if PLANTED_BUGS
      let ignoringWrites = settings.plantedBugs.contains(.stalePersisted)
    #else
      let ignoringWrites = false
    #endif
    persistence.truncated(from: index, ignoringWrites: ignoringWrites)
    dropMemberships(from: index)
  }

  /// The acknowledgement that may be sent now, if one is owed.
  var acknowledgementToSend: LogIndex? {
    guard owesAcknowledgement, role == .follower, leader != nil else { return nil }
    // Before the term is durable, a crash could bring back an earlier one, and with it an earlier
    // leader that replaces what is promised here.
    var durable = persistence.persistedIndex
    var isTermDurable = persistence.durableTerm == term
    #if PLANTED_BUGS
      if settings.plantedBugs.contains(.unsyncedAppend) {
        durable = log.lastIndex
        isTermDurable = true
      }
    #endif
    guard isTermDurable else { return nil }
    let index = min(matched, durable)
    return index == matched || index > acknowledged ? index : nil
  }

  mutating func sendAcknowledgement() {
    guard let index = acknowledgementToSend, let leader else { return }
    acknowledged = index
    owesAcknowledgement = index < matched
    send(to: leader, .appendAccepted(index))
  }

  // MARK: Commit

  /// Everything through `index` is committed.
  mutating func advanceCommit(to index: LogIndex) {
    guard index > commit else { return }
    invariant(index <= log.lastIndex, "an entry is committed that is not in the log")
    if role == .leader {
      var next = commit.next
      while next <= index {
        uncommittedBytes &-= log[next].cost
        next = next.next
      }
      needsFlush = true
    }
    commit = index
  }
}
