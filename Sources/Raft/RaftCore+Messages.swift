import Primitives

// What a message's term means before its body is looked at.

extension RaftCore {
  /// Takes a message from another member. Wrong, late and repeated ones are harmless.
  public mutating func receive(_ message: Message) {
    guard message.to == id, message.from != id else { return }
    let from = message.from
    switch message.body {
    case .preVoteRequest(let request):
      // Changes no term: the point of a pre-vote is that it disturbs nobody.
      handlePreVoteRequest(request, from: from)
      return
    case .preVoteResponse(let response) where message.term <= term:
      // A granting voter may well be in an earlier term.
      handlePreVoteResponse(response, from: from)
      return
    case .voteRequest(let request)
    where message.term > term && hearsLeader && !request.isTransfer:
      // Loyal to a leader that is alive, this member does not even move to the candidate's term.
      return
    default: break
    }
    if message.term > term {
      becomeFollower(term: message.term, leader: message.body.isFromLeader ? from : nil)
    } else if message.term < term {
      receiveFromEarlierTerm(message)
      return
    }
    dispatch(message.body, from: from)
  }

  private mutating func dispatch(_ body: Message.Body, from: NodeID) {
    switch body {
    case .append(let append):
      guard hearLeader(from) else { return }
      handleAppend(append)
    case .heartbeat(let heartbeat):
      guard hearLeader(from) else { return }
      advanceCommit(to: min(heartbeat.commit, log.lastIndex))
      send(to: from, .heartbeatResponse(round: heartbeat.round))
    case .commit(let index):
      guard hearLeader(from) else { return }
      advanceCommit(to: min(index, log.lastIndex))
    case .appendAccepted(let index):
      guard let position = hearFollower(from) else { return }
      handleAccepted(index, at: position)
    case .appendRejected(let rejection):
      guard let position = hearFollower(from) else { return }
      handleRejected(rejection, at: position)
    case .heartbeatResponse(let round):
      guard let position = hearFollower(from) else { return }
      handleHeartbeatResponse(round: round, at: position)
    case .voteRequest(let request): handleVoteRequest(request, from: from)
    case .voteResponse(let response): handleVoteResponse(response, from: from)
    case .preVoteRequest(let request): handlePreVoteRequest(request, from: from)
    case .preVoteResponse(let response): handlePreVoteResponse(response, from: from)
    case .readRequest(let batch): handleReadRequest(batch: batch, from: from)
    case .readResponse(let batch, let index): handleReadResponse(batch: batch, index: index)
    case .proposal(let proposal): handleForwarded(proposal, from: from)
    case .proposalRefused(let context): pending.refusedProposals.append(context)
    case .campaignNow: handleCampaignNow(from: from)
    }
  }

  /// The sender does not know the current term. A leader among them must learn it, or it would wait
  /// for this member (which ignores it) for ever; an asker gets an answer that says so.
  private mutating func receiveFromEarlierTerm(_ message: Message) {
    switch message.body {
    case .append, .heartbeat: send(to: message.from, .heartbeatResponse(round: 0))
    case .voteRequest(let request):
      send(to: message.from, .voteResponse(.init(candidacy: request.candidacy, isGranted: false)))
    case .readRequest(let batch): handleReadRequest(batch: batch, from: message.from)
    case .proposal(let proposal): handleForwarded(proposal, from: message.from)
    case .proposalRefused(let context): pending.refusedProposals.append(context)
    default: break
    }
  }

  /// Notes the sign of life of this term's leader. False on a leader: two in a term can't be, so the
  /// message is not to be believed.
  private mutating func hearLeader(_ from: NodeID) -> Bool {
    switch role {
    case .leader: return false
    case .follower:
      if leader != from { setLeader(from) }
    case .preCandidate, .candidate: becomeFollower(term: term, leader: from)
    }
    electionElapsed = 0
    return true
  }

  /// Notes a follower's sign of life; nil if this member does not lead it.
  private mutating func hearFollower(_ from: NodeID) -> Int? {
    guard role == .leader, let position = position(of: from) else { return nil }
    peers[position].isActive = true
    return position
  }
}

extension Message.Body {
  /// Only the leader of the message's term sends these.
  var isFromLeader: Bool {
    switch self {
    case .append, .heartbeat, .commit, .campaignNow: return true
    default: return false
    }
  }
}
