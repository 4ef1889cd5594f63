public import Primitives

extension RaftCore {
  /// The last entry of the log, committed or not.
  public var lastIndex: LogIndex { log.lastIndex }
  /// The first entry that the log, in memory or on disk, still holds; one past the last if it is empty.
  public var firstIndex: LogIndex { log.firstIndex }
  /// The cost of the log in memory, in bytes.
  public var tailBytes: Int { log.tailBytes }
  /// This member's log is durable through here.
  public var persistedIndex: LogIndex { persistence.persistedIndex }
  /// The term of the entry at `index`, if the log still knows it.
  public func term(at index: LogIndex) -> Term? { log.term(at: index) }
  /// The voter that leadership is being handed to.
  public var leadershipTransferTarget: NodeID? { transferTarget }

  /// All other members, sorted by id; progress is meaningful on a leader only.
  public var peerStatus: [PeerStatus] {
    peers.map {
      PeerStatus(
        id: $0.id, state: $0.state, isVoter: $0.isVoter || $0.isOutgoingVoter, match: $0.match,
        next: $0.next, isActive: $0.isActive)
    }
  }

  /// Stops the program if an order relation between the core's parts is broken. O(log in memory).
  public func validate() {
    log.validate()
    // applied ≤ handedOut ≤ commit ≤ lastIndex: nothing is done before it is decided, or decided unseen.
    invariant(applied <= handedOut, "applied what was not handed out")
    invariant(handedOut <= commit, "handed out what is not committed")
    invariant(commit <= log.lastIndex, "committed what is not in the log")
    // firstIndex - 1 ≤ applied, tailFirst - 1 ≤ min(applied, persisted): what may be needed is in memory.
    invariant(log.firstIndex.previous <= applied, "deleted what is not applied")
    invariant(log.tailFirst.previous <= applied, "dropped what is not applied")
    invariant(log.tailFirst.previous <= persistence.persistedIndex, "dropped what is not durable")
    // persisted < firstUnwritten ≤ lastIndex + 1: durable entries have been written.
    invariant(persistence.persistedIndex < persistence.firstUnwritten, "durable and never written")
    invariant(persistence.firstUnwritten <= log.lastIndex.next, "wrote what is not in the log")
    // durableTerm ≤ writtenTerm ≤ term, lastTerm ≤ term.
    invariant(persistence.durableTerm <= persistence.written.term, "a durable term never written")
    invariant(persistence.written.term <= term, "wrote a future term")
    invariant(log.lastTerm <= term, "an entry of a future term")
    // Followers: acknowledged ≤ matched ≤ lastIndex.
    invariant(acknowledged <= matched && matched <= log.lastIndex, "acknowledged too much")
    // Memberships ascend, from one at or before the log's start.
    for (one, two) in zip(memberships, memberships.dropFirst()) {
      invariant(one.index < two.index, "memberships are out of order")
    }
    for (one, two) in zip(peers, peers.dropFirst()) {
      invariant(one.id < two.id, "peers are out of order")
    }
    invariant((leader == id) == (role == .leader), "a leader knows itself")
    guard role == .leader else { return }
    // Leaders: match < next ≤ lastIndex + 1, sentCommit ≤ commit, echoed ≤ last round.
    invariant(persistence.durableTerm == term, "leads in a term that is not durable")
    invariant(
      log.lastTerm == term && termStart <= log.lastIndex, "leads without an entry of its own")
    invariant(uncommittedBytes == log.cost(from: commit.next), "uncommitted bytes are miscounted")
    for peer in peers {
      invariant(peer.match < peer.next, "a peer lacks what it has")
      invariant(peer.next <= log.lastIndex.next, "a peer is ahead of the log")
      invariant(peer.sentCommit <= commit, "a peer was told of a commit that is none")
      invariant(peer.echoedRound <= reads.lastRound, "a peer confirmed a round that never began")
      invariant(
        peer.window.isEmpty || peer.state == .replicate, "messages in flight without a stream")
    }
  }
}
