public import Primitives

// The leader's side of replication: proposals, appends, acknowledgements, commitment.

extension RaftCore {
  // MARK: Proposals

  /// Appends one entry for each payload, if this member leads. An empty payload is taken for a no-op.
  public mutating func propose(_ payloads: [[UInt8]]) -> ProposalOutcome {
    guard role == .leader else { return .notLeader(leader: leader) }
    guard transferTarget == nil else { return .refused(.transferringLeadership) }
    var bytes = 0
    for payload in payloads { bytes &+= payload.count &+ 32 }
    // One proposal passes whatever its size, or a large one could never be made.
    guard uncommittedBytes == 0 || uncommittedBytes + bytes <= settings.limits.uncommittedBytes
    else { return .refused(.tooMuchUncommitted) }
    let first = log.lastIndex.next
    for payload in payloads { appendAsLeader(kind: .normal, payload: payload) }
    return .accepted(first: first, term: term)
  }

  /// Like ``propose(_:)``, but sent on to the leader if that is another member. A surely refused one
  /// comes back in ``Ready/refusedProposals``; of one that is lost nothing is heard.
  public mutating func forward(_ payloads: [[UInt8]], context: UInt64) -> ProposalOutcome {
    if role == .leader { return propose(payloads) }
    return forward(.payloads(payloads), context: context)
  }

  /// Like ``propose(_:)``, but sent on to the leader if that is another member.
  public mutating func forward(_ change: MembershipChange, context: UInt64) -> ProposalOutcome {
    if role == .leader { return propose(change) }
    return forward(.membershipChange(change), context: context)
  }

  private mutating func forward(
    _ content: Message.ForwardedProposal.Content, context: UInt64
  ) -> ProposalOutcome {
    guard let leader else { return .notLeader(leader: nil) }
    send(to: leader, .proposal(.init(context: context, content: content)))
    return .forwarded(to: leader)
  }

  mutating func handleForwarded(_ proposal: Message.ForwardedProposal, from sender: NodeID) {
    let outcome: ProposalOutcome
    switch proposal.content {
    case .payloads(let payloads): outcome = propose(payloads)
    case .membershipChange(let change): outcome = propose(change)
    }
    if case .accepted = outcome { return }
    send(to: sender, .proposalRefused(context: proposal.context))
  }

  mutating func appendAsLeader(kind: Entry.Kind, payload: [UInt8]) {
    let entry = Entry(index: log.lastIndex.next, term: term, kind: kind, payload: payload)
    log.append(entry)
    uncommittedBytes &+= entry.cost
    needsFlush = true
    if kind == .membership {
      recordMembership(of: entry)
      adoptMembership()
    }
  }

  // MARK: Sending

  /// Sends every follower what it lacks and what has been committed, and begins a read round.
  ///
  /// - Parameter shared: entries that were last looked up, and may be wanted again.
  mutating func flush(sharing shared: inout [Entry]) {
    needsFlush = false
    for position in peers.indices {
      sendAppends(at: position, shared: &shared)
      let known = min(commit, peers[position].match)
      if peers[position].sentCommit < known {
        peers[position].sentCommit = known
        send(to: peers[position].id, .commit(known))
      }
    }
    startReadRound()
  }

  private mutating func sendAppends(at position: Int, shared: inout [Entry]) {
    switch peers[position].state {
    case .snapshot: return
    case .probe:
      if peers[position].isPaused { return }
      sendAppend(at: position, allowsEmpty: true, shared: &shared)
    case .replicate:
      while peers[position].next <= log.lastIndex,
        peers[position].window.count < settings.limits.inFlightMessages,
        peers[position].window.bytes < settings.limits.inFlightBytes
      {
        guard sendAppend(at: position, allowsEmpty: false, shared: &shared) else { return }
      }
    }
  }

  /// Sends one append message from `next` on. False if the entries are not at hand.
  @discardableResult
  private mutating func sendAppend(
    at position: Int, allowsEmpty: Bool, shared: inout [Entry]
  ) -> Bool {
    let next = peers[position].next
    guard let previousTerm = log.term(at: next.previous) else {
      requestSnapshot(at: position)
      return false
    }
    if next < log.tailFirst {
      requestLogRead(at: position)
      return false
    }
    if shared.first?.index != next {
      shared = log.entries(
        from: next, through: log.lastIndex, maxBytes: settings.limits.appendBytes)
    }
    sendAppend(at: position, previousTerm: previousTerm, entries: shared)
    return true
  }

  private mutating func sendAppend(at position: Int, previousTerm: Term, entries: [Entry]) {
    let previous = peers[position].next.previous
    let last = previous + UInt64(entries.count)
    var bytes = 0
    for entry in entries { bytes &+= entry.cost }
    if peers[position].state == .probe {
      peers[position].isPaused = true
      peers[position].probedThrough = entries.isEmpty ? .zero : last
      peers[position].probedBytes = bytes
    } else if !entries.isEmpty {
      peers[position].window.append(last: last, bytes: bytes)
      peers[position].next = last.next
    }
    peers[position].sentCommit = max(peers[position].sentCommit, min(commit, last))
    send(
      to: peers[position].id,
      .append(
        .init(
          previousIndex: previous, previousTerm: previousTerm, commit: commit, entries: entries)))
  }

  /// What the follower needs next is on disk only.
  private mutating func requestLogRead(at position: Int) {
    guard !peers[position].isReadingLog else { return }
    peers[position].isReadingLog = true
    pending.logReads.append(
      LogRead(
        peer: peers[position].id, term: term, from: peers[position].next,
        through: log.tailFirst.previous, maxBytes: settings.limits.appendBytes))
  }

  /// Answers ``Ready/logReads``. An answer that is not needed any more is ignored.
  public mutating func entriesRead(_ answer: LogReadAnswer) {
    let request = answer.request
    guard role == .leader, request.term == term, let position = position(of: request.peer),
      peers[position].isReadingLog
    else { return }
    peers[position].isReadingLog = false
    needsFlush = true
    guard peers[position].next == request.from, peers[position].state != .snapshot,
      !(peers[position].state == .probe && peers[position].isPaused)
    else { return }
    guard let entries = answer.entries, entries.first?.index == request.from,
      let previousTerm = log.term(at: request.from.previous),
      entries.last.map({ log.term(at: $0.index) == $0.term }) == true
    else {
      requestSnapshot(at: position)
      return
    }
    sendAppend(at: position, previousTerm: previousTerm, entries: entries)
  }

  mutating func sendHeartbeats() {
    for position in peers.indices {
      sendHeartbeat(at: position)
      switch peers[position].state {
      case .probe:
        // Try again, if anybody is there.
        if peers[position].isPaused, peers[position].isActive {
          peers[position].isPaused = false
          needsFlush = true
        }
      case .replicate:
        // Nothing came back since the last heartbeat: perhaps messages were lost. A question for the
        // last position sent tells, and costs little if they were not.
        if !peers[position].window.isEmpty,
          peers[position].match == peers[position].matchAtHeartbeat
        {
          if let previousTerm = log.term(at: peers[position].next.previous) {
            sendAppend(at: position, previousTerm: previousTerm, entries: [])
          } else {
            // The log has been shortened past what the follower acknowledged.
            requestSnapshot(at: position)
          }
        }
        peers[position].matchAtHeartbeat = peers[position].match
      case .snapshot: break
      }
    }
  }

  mutating func sendHeartbeat(at position: Int) {
    var known = min(commit, peers[position].match)
    #if PLANTED_BUGS
      if settings.plantedBugs.contains(.commitPastMatch) { known = commit }
    #endif
    peers[position].sentCommit = max(peers[position].sentCommit, known)
    send(
      to: peers[position].id, .heartbeat(.init(commit: known, round: reads.lastRound)))
  }

  // MARK: Answers

  mutating func handleAccepted(_ index: LogIndex, at position: Int) {
    guard index <= log.lastIndex else { return }
    if index > peers[position].match { peers[position].match = index }
    let match = peers[position].match
    switch peers[position].state {
    case .probe: peers[position].becomeReplicate()
    case .snapshot:
      // What it has now is enough to go on with the log.
      if match.next >= log.firstIndex {
        peers[position].becomeReplicate()
      } else {
        peers[position].next = match.next
      }
    case .replicate:
      peers[position].window.remove(through: match)
      if peers[position].next <= match { peers[position].next = match.next }
    }
    needsFlush = true
    continueTransfer(at: position)
    commitWhatAQuorumHas()
  }

  mutating func handleRejected(_ rejection: Message.AppendRejection, at position: Int) {
    let isCurrent: Bool
    switch peers[position].state {
    case .snapshot: isCurrent = false
    case .probe: isCurrent = rejection.rejectedIndex == peers[position].next.previous
    case .replicate: isCurrent = rejection.rejectedIndex > peers[position].match
    }
    guard isCurrent else { return }
    // The leader's last position that the hint allows; what the log has lost needs a snapshot.
    var agreed = rejection.hintIndex
    if agreed >= log.firstIndex {
      (agreed, _) = log.lastPosition(atOrBefore: agreed, termAtMost: rejection.hintTerm)
    }
    let before = peers[position].next
    peers[position].becomeProbe()
    peers[position].next = max(
      peers[position].match.next, min(agreed.next, rejection.rejectedIndex))
    // A follower that rejects what it had acknowledged has lost its disk; don't ask it in a loop.
    peers[position].isPaused = peers[position].next == before
    needsFlush = true
  }

  mutating func handleHeartbeatResponse(round: UInt64, at position: Int) {
    guard round <= reads.lastRound, round > peers[position].echoedRound else { return }
    peers[position].echoedRound = round
    confirmReadRounds()
  }

  /// Messages to the peer were lost, or its connection was reset.
  public mutating func reportUnreachable(_ peer: NodeID) {
    guard role == .leader, let position = position(of: peer),
      peers[position].state == .replicate
    else { return }
    peers[position].becomeProbe()
    // The first probe waits for the next heartbeat: it would only be lost as well.
    peers[position].isPaused = true
  }

  // MARK: Commitment

  /// Commits what a quorum has on disk, if it is of the own term; earlier terms' entries are committed
  /// along with it, never by counting. (Ongaro and Ousterhout, 2014, section 5.4.2.)
  mutating func commitWhatAQuorumHas() {
    guard role == .leader else { return }
    var own = persistence.persistedIndex
    var canCommit = termStart
    #if PLANTED_BUGS
      if settings.plantedBugs.contains(.countUnpersistedSelf) { own = log.lastIndex }
      if settings.plantedBugs.contains(.commitOldTerm) { canCommit = .zero }
    #endif
    let reached = LogIndex(quorumValue(own: own.rawValue) { $0.match.rawValue })
    guard reached > commit, reached >= canCommit else { return }
    let before = commit
    advanceCommit(to: reached)
    membershipCommitted(since: before)
  }
}
