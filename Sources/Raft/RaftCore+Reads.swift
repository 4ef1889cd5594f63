import Primitives

// Linearizable reads without log entries. (Ongaro, 2014, section 6.4.)
//
//     follower             leader                        quorum
//        │ reads 1, 2, 3      │ own reads 7, 8               │
//        │ readRequest(b1) ──▶│                              │
//        │                    │ round 5 = {b1, 7, 8} at      │
//        │                    │ commit 90: heartbeat(5) ────▶│
//        │                    │◀──────── heartbeatResponse(5)│
//        │◀── readResponse    │ 7, 8 may read at 90          │
//        │    (b1, 90)        │                              │
//
// However many reads wait, they cost a round, and a follower's a message to the leader.

extension RaftCore {
  /// Asks for a read index, answered in ``Ready/reads`` or ``Ready/failedReads``. Fails at once where
  /// no leader is known or ``Limits/waitingReads`` wait already.
  public mutating func requestRead(context: UInt64) {
    guard leader != nil, reads.count < settings.limits.waitingReads else {
      pending.failedReads.append(context)
      return
    }
    if role == .leader {
      enqueueRead(ReadQueue.Request(origin: nil, context: context))
    } else {
      reads.count += 1
      reads.unsent.append(context)
    }
  }

  mutating func handleReadRequest(batch: UInt64, from follower: NodeID) {
    guard role == .leader, reads.count < settings.limits.waitingReads else {
      send(to: follower, .readResponse(batch: batch, index: nil))
      return
    }
    enqueueRead(ReadQueue.Request(origin: follower, context: batch))
  }

  private mutating func enqueueRead(_ request: ReadQueue.Request) {
    #if PLANTED_BUGS
      if settings.plantedBugs.contains(.staleReadIndex) {
        answer(request, at: commit)
        return
      }
    #endif
    reads.count += 1
    reads.waiting.append(request)
    needsFlush = true
  }

  /// Begins a round for all reads that wait, if one may begin.
  mutating func startReadRound() {
    var knowsNewest = commit >= termStart
    #if PLANTED_BUGS
      if settings.plantedBugs.contains(.readBeforeOwnTerm) { knowsNewest = true }
    #endif
    guard !reads.waiting.isEmpty, knowsNewest,
      reads.rounds.count < settings.limits.readRoundsInFlight
    else { return }
    reads.lastRound &+= 1
    reads.rounds.append(
      ReadQueue.Round(number: reads.lastRound, index: commit, requests: reads.waiting))
    reads.waiting.removeAll()
    confirmReadRounds()
    guard !reads.rounds.isEmpty else { return }
    for position in peers.indices
    where peers[position].isVoter || peers[position].isOutgoingVoter {
      sendHeartbeat(at: position)
    }
  }

  /// Answers the rounds that a quorum has echoed.
  mutating func confirmReadRounds() {
    guard !reads.rounds.isEmpty else { return }
    let confirmed = quorumValue(own: reads.lastRound) { $0.echoedRound }
    var done = 0
    while done < reads.rounds.count, reads.rounds[done].number <= confirmed {
      let round = reads.rounds[done]
      reads.count -= round.requests.count
      for request in round.requests { answer(request, at: round.index) }
      done += 1
    }
    guard done > 0 else { return }
    reads.rounds.removeFirst(done)
    if !reads.waiting.isEmpty { needsFlush = true }
  }

  private mutating func answer(_ request: ReadQueue.Request, at index: LogIndex) {
    if let origin = request.origin {
      send(to: origin, .readResponse(batch: request.context, index: index))
    } else {
      pending.reads.append(ReadReady(context: request.context, index: index))
    }
  }

  // MARK: As a follower

  /// Sends the leader one request for all reads that came since the last one.
  mutating func forwardReads() {
    guard !reads.unsent.isEmpty, let leader, role == .follower else { return }
    reads.lastBatch &+= 1
    reads.forwarded.append(
      ReadQueue.Forwarded(batch: reads.lastBatch, contexts: reads.unsent, sentAt: ticks))
    reads.unsent.removeAll()
    send(to: leader, .readRequest(batch: reads.lastBatch))
  }

  mutating func handleReadResponse(batch: UInt64, index: LogIndex?) {
    guard let place = reads.forwarded.firstIndex(where: { $0.batch == batch }) else { return }
    let contexts = reads.forwarded.remove(at: place).contexts
    reads.count -= contexts.count
    if let index {
      for context in contexts { pending.reads.append(ReadReady(context: context, index: index)) }
    } else {
      pending.failedReads += contexts
    }
  }

  /// A request or its answer may have been lost: after an election time-out the reads fail.
  mutating func expireForwardedReads() {
    var expired = 0
    while expired < reads.forwarded.count,
      ticks &- reads.forwarded[expired].sentAt >= UInt64(settings.electionTicks)
    {
      reads.count -= reads.forwarded[expired].contexts.count
      pending.failedReads += reads.forwarded[expired].contexts
      expired += 1
    }
    if expired > 0 { reads.forwarded.removeFirst(expired) }
  }
}
