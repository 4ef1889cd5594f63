import MVCC
import Primitives
import Raft

// From clients' commands to log entries.

extension ReplicaCore {
  /// Takes commands of one event loop. They are answered through the batch's sink, always.
  public mutating func submit(_ batch: ProposalBatch) {
    guard failure == nil else { return refuse(batch, .stopped) }
    let waiting = pending.commands + inboxCommands + batch.tokens.count
    let bytes = pending.bytes + inboxBytes + batch.commands.count
    guard waiting <= ReplicaLimits.pendingProposals, bytes <= ReplicaLimits.pendingProposalBytes
    else {
      return refuse(batch, .tooManyRequests)
    }
    if inbox.isEmpty { inboxDeadline = now.advanced(by: settings.requestTimeout) }
    inbox.append(batch)
    inboxBytes += batch.commands.count
    inboxCommands += batch.tokens.count
  }

  /// Whether the inbox can become an entry right now.
  var canPropose: Bool {
    guard leader != nil, role != .candidate else { return false }
    if role == .leader { return writing == nil && (!inbox.isEmpty || !forwarded.isEmpty) }
    return !inbox.isEmpty
  }

  /// Closes the inbox into entries: into the own log if this member leads, else to the leader.
  mutating func proposeInbox() {
    guard canPropose, let leader else { return }
    var payloads: [[UInt8]] = []
    if role == .leader {
      payloads = forwarded.map(\.payload)
      forwarded.removeAll(keepingCapacity: true)
    }
    var entries: [PendingProposals.Entry] = []
    var position = 0
    while position < inbox.count {
      let (payload, entry) = closeEntry(from: &position)
      payloads.append(payload)
      entries.append(entry)
    }
    inbox.removeAll(keepingCapacity: true)
    inboxBytes = 0
    inboxCommands = 0
    inboxDeadline = nil

    if role == .leader {
      switch raft.propose(payloads) {
      case .accepted:
        for entry in entries { pending.insert(entry) }
      case .notLeader, .refused, .forwarded:
        for entry in entries { answer(entry, .tooManyRequests) }
      }
    } else {
      for (payload, entry) in zip(payloads, entries) {
        pending.insert(entry)
        effects.sends.append((leader, .forward(payload: payload)))
        #if PLANTED_BUGS
          lastForward = payload
        #endif
      }
    }
  }

  /// Joins batches, from `position` on, into one entry of bounded size.
  private mutating func closeEntry(
    from position: inout Int
  ) -> (payload: [UInt8], entry: PendingProposals.Entry) {
    let start = position
    var bytes = inbox[position].commands.count
    var count = inbox[position].tokens.count
    position += 1
    while position < inbox.count, bytes + inbox[position].commands.count <= ReplicaLimits.entryBytes
    {
      bytes += inbox[position].commands.count
      count += inbox[position].tokens.count
      position += 1
    }
    let sequence = nextSequence
    nextSequence &+= UInt64(count)
    var payload: [UInt8] = []
    payload.reserveCapacity(CommandBatch.headerSize + bytes)
    CommandBatch.Header(
      count: UInt32(count), proposer: identity.member, firstSequence: sequence
    ).append(to: &payload)
    var parts: [PendingProposals.Part] = []
    parts.reserveCapacity(position - start)
    for batch in inbox[start..<position] {
      payload.append(contentsOf: batch.commands)
      parts.append(PendingProposals.Part(sink: batch.sink, tokens: batch.tokens))
    }
    let entry = PendingProposals.Entry(
      firstSequence: sequence, count: count, bytes: bytes, parts: parts,
      deadline: now.advanced(by: settings.requestTimeout), leader: leader)
    return (payload, entry)
  }

  /// Takes another member's commands, if this one leads and has room.
  mutating func receiveForwarded(_ payload: [UInt8], from peer: NodeID) {
    guard let header = CommandBatch.header(of: payload), header.proposer == peer else { return }
    guard role == .leader, forwarded.count < ReplicaLimits.forwardedEntries else {
      effects.sends.append((peer, .forwardRefused(firstSequence: header.firstSequence)))
      return
    }
    forwarded.append((peer, payload))
  }

  mutating func receiveForwardRefused(firstSequence: UInt64) {
    if let entry = pending.take(firstSequence) { answer(entry, .tooManyRequests) }
  }

  // MARK: Answers that don't come from apply

  private mutating func refuse(_ batch: ProposalBatch, _ error: ReplicaError) {
    counters.proposalsFailed += UInt64(batch.tokens.count)
    for token in batch.tokens {
      effects.deliver(Reply(token: token, outcome: .failed(error)), to: batch.sink)
    }
  }

  mutating func answer(_ entry: PendingProposals.Entry, _ error: ReplicaError) {
    counters.proposalsFailed += UInt64(entry.count)
    for part in entry.parts {
      for token in part.tokens {
        effects.deliver(Reply(token: token, outcome: .failed(error)), to: part.sink)
      }
    }
  }

  /// Answers what waited too long: never proposed means "no leader", proposed means "outcome unknown".
  mutating func giveUpExpired() {
    for entry in pending.takeExpired(at: now) {
      answer(entry, entry.leader == leader ? .timedOut : .timedOutLeaderFailed)
    }
    #if PLANTED_BUGS
      if PlantedBug.retriedForward.isPlanted, let leader, role == .follower, let payload = lastForward {
        effects.sends.append((leader, .forward(payload: payload)))
        lastForward = nil
      }
    #endif
    if let deadline = inboxDeadline, deadline <= now {
      for batch in inbox { refuse(batch, leader == nil ? .noLeader : .timedOut) }
      inbox.removeAll()
      inboxBytes = 0
      inboxCommands = 0
      inboxDeadline = nil
    }
    reads.giveUpExpired(now: now, into: &effects, counters: &counters)
    leaseQueries.giveUpExpired(now: now, into: &effects)
  }
}

extension CommandBatch {
  /// The header of an entry's payload; nil where it isn't a valid one.
  static func header(of payload: [UInt8]) -> Header? {
    payload.withUnsafeBytes { try? CommandBatchReader($0).header }
  }
}
