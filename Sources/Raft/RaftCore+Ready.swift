public import Primitives

// The way out: everything that has to be done, collected; and what the caller reports as done.

extension RaftCore {
  /// Whether ``takeReady()`` may have something to do. (It may still come back empty.)
  public var hasReady: Bool {
    needsFlush || !pending.messages.isEmpty || persistence.firstUnwritten <= log.lastIndex
      || handedOut < commit || persistence.isDirty(term: term, vote: vote)
      || acknowledgementToSend != nil || !pending.reads.isEmpty || !pending.failedReads.isEmpty
      || !reads.unsent.isEmpty || !pending.refusedProposals.isEmpty || !pending.logReads.isEmpty
      || !pending.snapshotsToSend.isEmpty || announced.role != role || announced.term != term
      || announced.leader != leader
  }

  /// Takes what has to be done now. Everything in it counts as taken: it will not come again.
  public mutating func takeReady() -> Ready {
    // Mostly the followers and the own disk need the same entries: they get the same array.
    var shared: [Entry] = []
    if needsFlush, role == .leader { flush(sharing: &shared) }
    forwardReads()
    sendAcknowledgement()

    var ready = Ready()
    swap(&ready, &pending)
    takeWrites(into: &ready, sharing: shared)
    if handedOut < commit {
      ready.committed = log.entries(
        from: handedOut.next, through: commit, maxBytes: settings.limits.committedBytesPerReady)
      handedOut = handedOut + UInt64(ready.committed.count)
    }
    let now = RoleChange(role: role, term: term, leader: leader)
    if now != announced {
      announced = now
      ready.roleChange = now
    }
    return ready
  }

  private mutating func takeWrites(into ready: inout Ready, sharing shared: [Entry]) {
    let isDirty = persistence.isDirty(term: term, vote: vote)
    let last = log.lastIndex
    guard isDirty || persistence.firstUnwritten <= last else { return }
    if persistence.firstUnwritten <= last {
      if shared.first?.index == persistence.firstUnwritten, shared.last?.index == last {
        ready.entries = shared
      } else {
        ready.entries = log.entries(
          from: persistence.firstUnwritten, through: last, maxBytes: .max)
      }
    }
    let hardState = HardState(term: term, vote: vote, commit: commit)
    if hardState != persistence.written { ready.hardState = hardState }
    ready.ticket = persistence.begin(last: last, hardState: hardState, tick: ticks)
  }

  /// The write of this ticket, and all before it, are durable. For entries that have been replaced since,
  /// that means nothing.
  public mutating func persisted(_ ticket: PersistTicket) {
    persistence.complete(ticket)
    sendWhatIsDurable()
    commitWhatAQuorumHas()
    trimTail()
  }

  /// The state machine has applied everything through `index`, which was handed out as committed.
  public mutating func applied(through index: LogIndex) {
    invariant(index <= handedOut, "entries were applied that were not handed out")
    guard index > applied else { return }
    applied = index
    trimTail()
  }

  /// Entries that are durable and applied are kept for followers up to a bound only.
  private mutating func trimTail() {
    guard log.tailBytes > settings.limits.tailBytes else { return }
    log.trimTail(
      toBytes: settings.limits.tailBytes, through: min(applied, persistence.persistedIndex))
  }
}
