import Primitives

// Changing who takes part. (Ongaro, 2014, chapter 4.)
//
// A membership holds from the moment its entry is appended. That is safe as long as any majority of the
// old one and any majority of the new one share a member: so for a change of one voter, and for a joint
// membership, which asks both halves; and as long as there is one uncommitted change at a time.

extension RaftCore {
  /// Appends a new membership, if this member leads.
  public mutating func propose(_ change: MembershipChange) -> ProposalOutcome {
    guard role == .leader else { return .notLeader(leader: leader) }
    guard transferTarget == nil else { return .refused(.transferringLeadership) }
    // Without an entry of its own term committed, the leader may not know an earlier leader's change.
    guard memberships[memberships.count - 1].index <= commit || mayOverlapChanges,
      commit >= termStart || mayChangeAtOnce
    else { return .refused(.membershipChangePending) }
    guard !membership.isJoint || change.steps.isEmpty else {
      return .refused(.membershipChangePending)
    }
    guard let target = membership.applying(change),
      target != membership || !change.context.isEmpty
    else { return .refused(.invalidMembershipChange) }
    let index = log.lastIndex.next
    appendMembership(target, context: change.context)
    return .accepted(first: index, term: term)
  }

  #if PLANTED_BUGS
    private var mayOverlapChanges: Bool { settings.plantedBugs.contains(.changeWhileUncommitted) }
    private var mayChangeAtOnce: Bool { settings.plantedBugs.contains(.changeBeforeOwnTerm) }
  #else
    private var mayOverlapChanges: Bool { false }
    private var mayChangeAtOnce: Bool { false }
  #endif

  /// The membership that holds now: the newest in the log, committed or not.
  public var membership: Membership { memberships[memberships.count - 1].membership }

  private mutating func appendMembership(_ membership: Membership, context: [UInt8]) {
    var payload: [UInt8] = []
    MembershipEntry(membership: membership, context: context).encode(into: &payload)
    appendAsLeader(kind: .membership, payload: payload)
  }

  /// Notes the membership that an entry brings. Bytes that hold none change nothing, on any member.
  mutating func recordMembership(of entry: Entry) {
    guard let decoded = try? MembershipEntry.decode(entry.payload) else { return }
    memberships.append(MembershipRecord(index: entry.index, membership: decoded.membership))
  }

  /// The entries from `index` on are being replaced, and their memberships with them.
  mutating func dropMemberships(from index: LogIndex) {
    guard memberships.count > 1, memberships[memberships.count - 1].index >= index else { return }
    #if PLANTED_BUGS
      if settings.plantedBugs.contains(.membershipNotTakenBack) { return }
    #endif
    while memberships.count > 1, memberships[memberships.count - 1].index >= index {
      memberships.removeLast()
    }
    adoptMembership()
  }

  /// Only the newest membership at or before `index` will be asked for again, and those after it.
  mutating func forgetMemberships(before index: LogIndex) {
    var keep = 0
    while keep + 1 < memberships.count, memberships[keep + 1].index <= index { keep += 1 }
    if keep > 0 { memberships.removeFirst(keep) }
  }

  /// Makes `peers` and the voter counts those of the newest membership. What is known of a peer stays. A
  /// leader keeps the members that leave, until ``dropLeavingPeers()``: they too should see the commitment
  /// of their removal, and stop.
  mutating func adoptMembership() {
    let membership = membership
    isVoter = membership.voters.contains(id)
    isOutgoingVoter = membership.votersOutgoing.contains(id)
    voterCount = membership.voters.count
    outgoingVoterCount = membership.votersOutgoing.count
    var adopted: [Progress] = []
    for member in membership.members where member != id {
      var progress: Progress
      if let known = position(of: member) {
        progress = peers[known]
      } else {
        progress = Progress(id: member, next: log.lastIndex.next)
        // It has an election time-out to show that it is there.
        progress.isActive = true
      }
      progress.isVoter = membership.voters.contains(member)
      progress.isOutgoingVoter = membership.votersOutgoing.contains(member)
      progress.isLeaving = false
      #if PLANTED_BUGS
        if settings.plantedBugs.contains(.learnersVote), membership.learners.contains(member) {
          progress.isVoter = true
        }
      #endif
      adopted.append(progress)
    }
    if role == .leader {
      for var peer in peers where !membership.contains(peer.id) {
        peer.isVoter = false
        peer.isOutgoingVoter = false
        peer.isLeaving = true
        adopted.insert(peer, at: adopted.firstIndex { $0.id > peer.id } ?? adopted.count)
      }
    }
    peers = adopted
    if let target = transferTarget, !membership.voters.contains(target) { transferTarget = nil }
  }

  /// Forgets the members whose removal is committed. They had an election time-out to hear of it.
  mutating func dropLeavingPeers() {
    guard memberships[memberships.count - 1].index <= commit else { return }
    peers.removeAll { $0.isLeaving }
  }

  /// The commit index has passed `before`: ends a joint membership that leaves by itself, and the
  /// leadership of a member that has no vote any more.
  mutating func membershipCommitted(since before: LogIndex) {
    let current = memberships[memberships.count - 1]
    guard current.index <= commit, current.index > before || before < termStart else { return }
    if current.membership.isJoint {
      guard current.membership.leavesAutomatically,
        let target = current.membership.applying(.leaveJoint)
      else { return }
      appendMembership(target, context: [])
    } else if !isVoter {
      // Followers must hear of the commitment that removes this member; then the best one takes over.
      var shared: [Entry] = []
      flush(sharing: &shared)
      stepDownHandingOver()
    }
  }
}

extension Membership {
  /// The membership after `change`; nil if it leaves no voter, is too large, or makes no sense here.
  func applying(_ change: MembershipChange) -> Membership? {
    if change.steps.isEmpty {
      guard isJoint else { return change.context.isEmpty ? nil : self }
      return Membership(voters: voters, learners: learners + learnersNext)
    }
    guard !isJoint, change.steps.count <= Limits.members else { return nil }
    var newVoters = voters
    var newLearners = learners
    for step in change.steps {
      let member: NodeID
      switch step {
      case .addVoter(let id), .addLearner(let id), .remove(let id): member = id
      }
      newVoters.removeAll { $0 == member }
      newLearners.removeAll { $0 == member }
      switch step {
      case .addVoter: newVoters.append(member)
      case .addLearner: newLearners.append(member)
      case .remove: break
      }
    }
    guard !newVoters.isEmpty, newVoters.count <= Limits.members,
      newLearners.count <= Limits.members
    else { return nil }
    let changed =
      newVoters.count { !voters.contains($0) } + voters.count { !newVoters.contains($0) }
    if changed <= 1, change.transition == .automatic {
      return Membership(voters: newVoters, learners: newLearners)
    }
    return Membership(
      voters: newVoters, votersOutgoing: voters,
      learners: newLearners.filter { !voters.contains($0) },
      learnersNext: newLearners.filter { voters.contains($0) },
      leavesAutomatically: change.transition == .automatic)
  }
}
