public import Primitives

// Who leads: time-outs, pre-votes, votes, and the changes of role.

extension RaftCore {
  /// Time has advanced by one tick.
  public mutating func tick() {
    ticks &+= 1
    if role == .leader {
      tickAsLeader()
      return
    }
    expireForwardedReads()
    electionElapsed += 1
    guard electionElapsed >= electionTimeout else { return }
    if isPromotable {
      startPreVote()
    } else {
      becomeFollower(term: term, leader: nil)
    }
  }

  private mutating func tickAsLeader() {
    if let started = persistence.oldestWriteStart,
      ticks &- started >= UInt64(settings.diskStallTicks)
    {
      stepDownHandingOver()
      return
    }
    electionElapsed += 1
    if electionElapsed >= settings.electionTicks {
      electionElapsed = 0
      guard tally(own: true, { $0.isActive ? true : nil }) == .won else {
        becomeFollower(term: term, leader: nil)
        return
      }
      for position in peers.indices { peers[position].isActive = false }
      dropLeavingPeers()
    }
    if transferTarget != nil {
      transferElapsed += 1
      // The target did not take over: this member leads on.
      if transferElapsed >= settings.electionTicks { transferTarget = nil }
    }
    heartbeatElapsed += 1
    if heartbeatElapsed >= settings.heartbeatTicks {
      heartbeatElapsed = 0
      sendHeartbeats()
    }
  }

  /// The leader seems gone (its connection was reset, or this is a lone member's start): asks for
  /// pre-votes at once, without waiting for the time-out. Does nothing on a leader, during a campaign,
  /// and on a member that may not lead.
  public mutating func campaign() {
    guard role == .follower, isPromotable else { return }
    startPreVote()
  }

  /// Whether this member may lead: it votes, and its disk answers.
  ///
  /// A member that the newest membership leaves out may lead too (without a vote of its own) until it
  /// knows that membership to be committed: the entry may be on its disk only, and the others, who still
  /// need its vote, then can't elect anybody else. (Ongaro, 2014, section 4.2.2.)
  var isPromotable: Bool {
    var votes = isVoter || isOutgoingVoter
    for record in memberships.reversed() where !votes {
      votes = record.membership.isVoter(id)
      if record.index <= commit { break }
    }
    guard votes else { return false }
    guard let started = persistence.oldestWriteStart else { return true }
    return ticks &- started < UInt64(settings.diskStallTicks)
  }

  // MARK: Campaigns

  private mutating func startPreVote() {
    role = .preCandidate
    owesVoteRequests = false
    setLeader(nil)
    resetElectionTimer()
    for position in peers.indices { peers[position].vote = nil }
    if tally(own: true, { $0.vote }) == .won {
      startElection(isTransfer: false)
      return
    }
    requestVotes(candidacy: term.next) { .preVoteRequest($0) }
  }

  /// Begins a new term as its candidate. The requests leave when the own vote is durable.
  mutating func startElection(isTransfer: Bool) {
    enter(term: term.next)
    vote = id
    role = .candidate
    setLeader(nil)
    resetElectionTimer()
    for position in peers.indices { peers[position].vote = nil }
    isTransferCampaign = isTransfer
    owesVoteRequests = true
    sendWhatIsDurable()
  }

  /// Sends the votes and vote requests that waited for the disk.
  mutating func sendWhatIsDurable() {
    guard hasDurableVote else { return }
    if owesVoteRequests {
      owesVoteRequests = false
      if tally(own: true, { $0.vote }) == .won {
        becomeLeader()
        return
      }
      requestVotes(candidacy: term) { .voteRequest($0) }
    }
    if let candidate = owedVote {
      owedVote = nil
      send(to: candidate, .voteResponse(.init(candidacy: term, isGranted: true)))
    }
  }

  private var hasDurableVote: Bool {
    #if PLANTED_BUGS
      if settings.plantedBugs.contains(.unsyncedVote) { return true }
    #endif
    return persistence.durableTerm == term && persistence.durableVote == vote
  }

  private mutating func requestVotes(
    candidacy: Term, _ body: (Message.VoteRequest) -> Message.Body
  ) {
    let request = Message.VoteRequest(
      candidacy: candidacy, lastIndex: log.lastIndex, lastTerm: log.lastTerm,
      isTransfer: role == .candidate && isTransferCampaign)
    for position in peers.indices
    where peers[position].isVoter || peers[position].isOutgoingVoter {
      send(to: peers[position].id, body(request))
    }
  }

  // MARK: Answers

  mutating func handlePreVoteRequest(_ request: Message.VoteRequest, from candidate: NodeID) {
    var isGranted =
      request.candidacy > term && isUpToDate(request) && !(hearsLeader && !request.isTransfer)
    if isGranted, role == .preCandidate {
      // Two members ask at the same moment, as when a dead leader's connections break. If each let the
      // other pass, both would vote for themselves and nobody win; so the lower one yields.
      if isBehind(request, of: candidate) {
        becomeFollower(term: term, leader: nil)
      } else {
        isGranted = false
      }
    }
    send(
      to: candidate,
      .preVoteResponse(.init(candidacy: request.candidacy, isGranted: isGranted)))
  }

  mutating func handlePreVoteResponse(_ response: Message.VoteResponse, from voter: NodeID) {
    guard role == .preCandidate, response.candidacy == term.next,
      let position = position(of: voter)
    else { return }
    peers[position].vote = response.isGranted
    switch tally(own: true, { $0.vote }) {
    case .won: startElection(isTransfer: false)
    case .lost: becomeFollower(term: term, leader: nil)
    case .open: break
    }
  }

  mutating func handleVoteRequest(_ request: Message.VoteRequest, from candidate: NodeID) {
    let isFree = vote == candidate || (vote == nil && leader == nil)
    guard request.candidacy == term, isFree, isUpToDate(request) else {
      send(to: candidate, .voteResponse(.init(candidacy: request.candidacy, isGranted: false)))
      return
    }
    vote = candidate
    electionElapsed = 0
    owedVote = candidate
    sendWhatIsDurable()
  }

  mutating func handleVoteResponse(_ response: Message.VoteResponse, from voter: NodeID) {
    guard role == .candidate, !owesVoteRequests, response.candidacy == term,
      let position = position(of: voter)
    else { return }
    peers[position].vote = response.isGranted
    switch tally(own: true, { $0.vote }) {
    case .won: becomeLeader()
    case .lost: becomeFollower(term: term, leader: nil)
    case .open: break
    }
  }

  /// Whether this member has heard its leader (or is it) within an election time-out. It then supports
  /// no other.
  var hearsLeader: Bool {
    role == .leader || (leader != nil && electionElapsed < settings.electionTicks)
  }

  /// Whether the candidate's log holds all that may be committed in this member's.
  private func isUpToDate(_ request: Message.VoteRequest) -> Bool {
    #if PLANTED_BUGS
      if settings.plantedBugs.contains(.voteForShorterLog) { return true }
    #endif
    return (request.lastTerm, request.lastIndex) >= (log.lastTerm, log.lastIndex)
  }

  /// Among two that ask for pre-votes: the longer log goes first, then the higher id.
  private func isBehind(_ request: Message.VoteRequest, of candidate: NodeID) -> Bool {
    (request.lastTerm, request.lastIndex, candidate) > (log.lastTerm, log.lastIndex, id)
  }

  // MARK: Roles

  mutating func becomeFollower(term newTerm: Term, leader newLeader: NodeID?) {
    if role == .leader { giveUpLeadership() }
    enter(term: newTerm)
    role = .follower
    owesVoteRequests = false
    setLeader(newLeader)
    resetElectionTimer()
  }

  private mutating func becomeLeader() {
    role = .leader
    setLeader(id)
    owedVote = nil
    owesAcknowledgement = false
    electionElapsed = 0
    heartbeatElapsed = 0
    transferTarget = nil
    for position in peers.indices {
      var fresh = Progress(id: peers[position].id, next: log.lastIndex.next)
      fresh.isVoter = peers[position].isVoter
      fresh.isOutgoingVoter = peers[position].isOutgoingVoter
      fresh.isActive = true
      peers[position] = fresh
    }
    termStart = log.lastIndex.next
    uncommittedBytes = log.cost(from: commit.next)
    appendAsLeader(kind: .normal, payload: [])
  }

  private mutating func giveUpLeadership() {
    transferTarget = nil
    needsFlush = false
    uncommittedBytes = 0
    reads.failOwn(into: &pending.failedReads)
    peers.removeAll { $0.isLeaving }
    for position in peers.indices { peers[position].isReadingLog = false }
  }

  /// Stops leading at once and asks the best follower to take over.
  mutating func stepDownHandingOver() {
    var best: Int?
    for position in peers.indices where peers[position].isVoter && peers[position].isActive {
      if best == nil || peers[position].match > peers[best!].match { best = position }
    }
    if let best { send(to: peers[best].id, .campaignNow) }
    becomeFollower(term: term, leader: nil)
  }

  /// A later term begins, with nothing known of it yet.
  private mutating func enter(term newTerm: Term) {
    guard newTerm > term else { return }
    // What is known of one term's leader says nothing about the next one's.
    setLeader(nil)
    term = newTerm
    vote = nil
    matched = .zero
    acknowledged = .zero
    owesAcknowledgement = false
    owedVote = nil
  }

  mutating func setLeader(_ newLeader: NodeID?) {
    guard leader != newLeader else { return }
    // Whether the old leader took the reads sent to it can't be known any more.
    reads.failForwarded(into: &pending.failedReads)
    leader = newLeader
  }

  mutating func resetElectionTimer() {
    electionElapsed = 0
    electionTimeout =
      settings.electionTicks + Int(random.below(UInt64(settings.electionTicks)))
  }

  // MARK: Transfer

  /// Hands leadership to a voter, once it has the whole log; no proposals are taken meanwhile. Given
  /// up after an election time-out. False if this member doesn't lead or the other isn't a voter.
  @discardableResult
  public mutating func transferLeadership(to target: NodeID) -> Bool {
    guard role == .leader, let position = position(of: target), peers[position].isVoter else {
      return false
    }
    transferTarget = target
    transferElapsed = 0
    needsFlush = true
    continueTransfer(at: position)
    return true
  }

  mutating func continueTransfer(at position: Int) {
    guard transferTarget == peers[position].id, peers[position].match == log.lastIndex else {
      return
    }
    send(to: peers[position].id, .campaignNow)
  }

  mutating func handleCampaignNow(from sender: NodeID) {
    guard role == .follower, leader == sender || leader == nil, isPromotable else { return }
    startElection(isTransfer: true)
  }

  // MARK: Sending

  @inline(__always)
  mutating func send(to peer: NodeID, _ body: Message.Body) {
    pending.messages.append(Message(from: id, to: peer, term: term, body: body))
  }
}
