import Primitives

// Counting. Every decision is a question to all voters; in a joint membership, to both halves.

extension RaftCore {
  enum Tally {
    case won
    case lost
    case open
  }

  /// The highest value that a quorum has reached: its voters' values are all at least this.
  @inline(__always)
  func quorumValue(own: UInt64, _ value: (borrowing Progress) -> UInt64) -> UInt64 {
    let incoming = majorityValue(
      count: voterCount, own: isVoter ? own : nil, value, includes: { $0.isVoter })
    if outgoingVoterCount == 0 { return incoming }
    #if PLANTED_BUGS
      if settings.plantedBugs.contains(.incomingHalfAlone) { return incoming }
    #endif
    let outgoing = majorityValue(
      count: outgoingVoterCount, own: isOutgoingVoter ? own : nil, value,
      includes: { $0.isOutgoingVoter })
    return min(incoming, outgoing)
  }

  @inline(__always)
  private func majorityValue(
    count: Int, own: UInt64?, _ value: (borrowing Progress) -> UInt64,
    includes: (borrowing Progress) -> Bool
  ) -> UInt64 {
    if count == 0 { return 0 }
    return withUnsafeTemporaryAllocation(of: UInt64.self, capacity: room(for: count)) { values in
      // Insertion into a descending list; there are few voters.
      var filled = 0
      func insert(_ new: UInt64) {
        var place = filled
        while place > 0, values[place &- 1] < new {
          values[place] = values[place &- 1]
          place &-= 1
        }
        values[place] = new
        filled &+= 1
      }
      if let own { insert(own) }
      for position in peers.indices where includes(peers[position]) {
        insert(value(peers[position]))
      }
      invariant(filled == room(for: count), "the voters are miscounted")
      return values[count / 2]
    }
  }

  @inline(__always)
  private func room(for count: Int) -> Int {
    #if PLANTED_BUGS
      if settings.plantedBugs.contains(.learnersVote) {
        return count + peers.count { $0.isVoter && membership.learners.contains($0.id) }
      }
    #endif
    return count
  }

  /// What the answers so far decide.
  func tally(own: Bool?, _ answer: (borrowing Progress) -> Bool?) -> Tally {
    func half(_ count: Int, _ ownAnswer: Bool??, _ includes: (borrowing Progress) -> Bool) -> Tally
    {
      var yes = 0
      var no = 0
      func take(_ answer: Bool?) {
        if answer == true { yes += 1 }
        if answer == false { no += 1 }
      }
      if let ownAnswer { take(ownAnswer) }
      for position in peers.indices where includes(peers[position]) {
        take(answer(peers[position]))
      }
      let needed = count / 2 + 1
      if yes >= needed { return .won }
      return count - no < needed ? .lost : .open
    }
    let incoming = half(voterCount, isVoter ? .some(own) : nil, { $0.isVoter })
    if outgoingVoterCount == 0 { return incoming }
    #if PLANTED_BUGS
      if settings.plantedBugs.contains(.incomingHalfAlone) { return incoming }
    #endif
    let outgoing = half(
      outgoingVoterCount, isOutgoingVoter ? .some(own) : nil, { $0.isOutgoingVoter })
    if incoming == .lost || outgoing == .lost { return .lost }
    return incoming == .won && outgoing == .won ? .won : .open
  }

  /// Where `id` stands in `peers`.
  @inline(__always)
  func position(of id: NodeID) -> Int? {
    for position in peers.indices where peers[position].id == id { return position }
    return nil
  }
}
