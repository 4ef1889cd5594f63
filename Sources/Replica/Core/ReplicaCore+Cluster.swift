import MVCC
import Primitives
import Raft

// Changes of what the cluster knows of itself: members and alarms.
//
// Only the leader can judge a change (who is connected, who has caught up, whether another change is under
// way), so every change goes to it, and it checks the change at the moment when it proposes it. The member
// that was asked then waits until it has applied the entry itself: its client reads its own writes there.
//
// A new voter takes part in Raft as a learner at first, and the leader makes it a voter when it has caught
// up. So adding a member that never starts, or whose address is wrong, does not put the quorum at risk; an
// operator sees the member as a voter all along, as etcd shows it.

extension ReplicaCore {
  /// Proposes a change of members or alarms. Answered by `.done` once it was applied here, or by `.failed`.
  public mutating func change(_ command: ClusterCommand, token: UInt64, sink: any ReplySink) {
    guard failure == nil else {
      return effects.deliver(Reply(token: token, outcome: .failed(.stopped)), to: sink)
    }
    guard !changes.isFull else {
      return effects.deliver(Reply(token: token, outcome: .failed(.tooManyRequests)), to: sink)
    }
    let deadline = now.advanced(by: settings.requestTimeout)
    if role == .leader {
      changes.queued.append(
        .init(command: command, origin: .client(token: token, sink: sink), deadline: deadline))
      proposeChanges()
    } else if let leader {
      let id = changes.nextID
      changes.nextID += 1
      changes.asked[id] = .init(token: token, sink: sink, deadline: deadline)
      effects.sends.append((leader, .clusterRequest(id: id, command: command.encode())))
    } else {
      effects.deliver(Reply(token: token, outcome: .failed(.noLeader)), to: sink)
    }
  }

  // MARK: Between members

  mutating func receiveClusterRequest(id: UInt64, command: [UInt8], from peer: NodeID) {
    guard role == .leader, !changes.isFull,
      let command = command.withUnsafeBytes({ ClusterCommand.decode($0) })
    else {
      let reason: ReplicaError = role == .leader ? .tooManyRequests : .notLeader
      effects.sends.append((peer, .clusterAnswer(id: id, .refused(reason))))
      return
    }
    changes.queued.append(
      .init(
        command: command, origin: id == 0 ? .nobody : .peer(peer, id: id),
        deadline: now.advanced(by: settings.requestTimeout)))
    proposeChanges()
  }

  mutating func receiveClusterAnswer(id: UInt64, _ answer: ClusterAnswer) {
    guard let asked = changes.asked.removeValue(forKey: id) else { return }
    switch answer {
    case .refused(let error):
      effects.deliver(Reply(token: asked.token, outcome: .failed(error)), to: asked.sink)
    case .accepted(let index, let term):
      awaitEntry(
        .init(
          index: index, term: term, token: asked.token, sink: asked.sink, deadline: asked.deadline)
      )
    }
  }

  /// Answers a client when the entry at `index` has been applied, which may be already.
  private mutating func awaitEntry(_ proposed: ClusterChanges.Proposed) {
    if proposed.index > raft.applied { return changes.proposed.append(proposed) }
    // Applied before the leader's answer came: its term can't be looked at any more, but an entry that the
    // leader of that term accepted and that was then replaced is not committed by that leader.
    let isSame = raft.term(at: proposed.index).map { $0 == proposed.term } ?? true
    effects.deliver(
      Reply(
        token: proposed.token,
        outcome: isSame ? .done : .failed(.timedOutLeaderFailed)), to: proposed.sink)
  }

  /// An entry was applied: whoever waited for it is answered.
  mutating func changesApplied(at index: LogIndex, term: Term) {
    guard !changes.proposed.isEmpty else { return }
    changes.proposed.removeAll { proposed in
      guard proposed.index <= index else { return false }
      let isSame = proposed.index == index && proposed.term == term
      effects.deliver(
        Reply(
          token: proposed.token,
          outcome: isSame ? .done : .failed(.timedOutLeaderFailed)), to: proposed.sink)
      return true
    }
  }

  /// Answers the changes that nothing can become of any more.
  mutating func giveUpChanges() {
    for (id, asked) in changes.asked where asked.deadline <= now {
      changes.asked[id] = nil
      effects.deliver(Reply(token: asked.token, outcome: .failed(.timedOut)), to: asked.sink)
    }
    changes.proposed.removeAll { proposed in
      guard proposed.deadline <= now else { return false }
      effects.deliver(Reply(token: proposed.token, outcome: .failed(.timedOut)), to: proposed.sink)
      return true
    }
    var expired: [ClusterChanges.Queued] = []
    changes.queued.removeAll { queued in
      guard queued.deadline <= now || role != .leader else { return false }
      expired.append(queued)
      return true
    }
    for queued in expired { refuse(queued.origin, role == .leader ? .timedOut : .notLeader) }
  }

  /// The leader is another one: what the last one was asked has an unknown outcome.
  mutating func failAskedChanges() {
    for asked in changes.asked.values {
      effects.deliver(
        Reply(token: asked.token, outcome: .failed(.timedOutLeaderFailed)), to: asked.sink)
    }
    changes.asked = [:]
  }

  // MARK: On the leader

  /// Proposes the changes that wait, in order, as far as it may.
  mutating func proposeChanges() {
    while role == .leader, let next = changes.queued.first {
      // The checks read what was applied, so everything proposed before must be.
      guard lastChange <= raft.applied && leadsWithAppliedTerm || mayChangeTooEarly else { return }
      if let error = check(next.command) {
        changes.queued.removeFirst()
        refuse(next.origin, error)
        continue
      }
      let outcome: ProposalOutcome
      if let step = raftStep(of: next.command) {
        outcome = raft.propose(MembershipChange([step], context: next.command.encode()))
      } else {
        outcome = raft.propose([next.command.encode()])
      }
      switch outcome {
      case .accepted(let index, let term):
        changes.queued.removeFirst()
        lastChange = index
        accept(next, index, term)
      case .refused(.membershipChangePending), .refused(.tooMuchUncommitted):
        return  // Again at the next tick.
      case .refused(.invalidMembershipChange):
        changes.queued.removeFirst()
        refuse(next.origin, .unhealthy)
      case .refused(.transferringLeadership), .notLeader, .forwarded:
        changes.queued.removeFirst()
        refuse(next.origin, .notLeader)
      }
    }
  }

  #if PLANTED_BUGS
    private var mayChangeTooEarly: Bool {
      PlantedBug.changeWhileUncommitted.isPlanted || PlantedBug.changeBeforeOwnTerm.isPlanted
    }
  #else
    private var mayChangeTooEarly: Bool { false }
  #endif

  private mutating func accept(_ change: ClusterChanges.Queued, _ index: LogIndex, _ term: Term) {
    switch change.origin {
    case .client(let token, let sink):
      changes.proposed.append(
        .init(index: index, term: term, token: token, sink: sink, deadline: change.deadline))
    case .peer(let peer, let id):
      effects.sends.append((peer, .clusterAnswer(id: id, .accepted(index: index, term: term))))
    case .nobody: break
    }
  }

  private mutating func refuse(_ origin: ClusterChanges.Origin, _ error: ReplicaError) {
    switch origin {
    case .client(let token, let sink):
      effects.deliver(Reply(token: token, outcome: .failed(error)), to: sink)
    case .peer(let peer, let id):
      effects.sends.append((peer, .clusterAnswer(id: id, .refused(error))))
    case .nobody: break
    }
  }

  /// What a change means to Raft; nil where it doesn't matter who takes part.
  private func raftStep(of command: ClusterCommand) -> MembershipChange.Step? {
    switch command {
    case .publish, .setAlarm, .updateMember, .announceLevels, .setLevel: nil
    case .addMember(let member): .addLearner(member.id)
    case .removeMember(let id): .remove(id)
    // A voter that has not caught up yet stays what it is in Raft.
    case .promoteMember(let id): .addVoter(id)
    }
  }

  /// Makes those voters of Raft too that were added as voters and have caught up.
  mutating func promoteMembersThatCaughtUp() {
    guard role == .leader, leadsWithAppliedTerm, lastChange <= raft.applied,
      raft.membership.voters.count < cluster.members.count
    else { return }
    for member in cluster.members
    where !member.isLearner && raft.membership.learners.contains(member.id) {
      guard let peer = raft.peerStatus.first(where: { $0.id == member.id }),
        peer.state == .replicate, isConnected(member.id),
        raft.commit - peer.match <= ReplicaLimits.entriesBehindAtPromotion
      else { continue }
      if case .accepted(let index, _) = raft.propose(MembershipChange([.addVoter(member.id)])) {
        lastChange = index
      }
      return
    }
  }

  // MARK: Applying

  /// Applies a change on this member.
  mutating func applyChange(_ command: ClusterCommand) {
    let before = cluster
    cluster.apply(command)
    guard cluster != before else { return }
    statusChanged = true
    store.refusals = cluster.refusals
    if cluster.members != before.members || cluster.level != before.level { membersChanged() }
    if case .setAlarm(let alarm, isActive: false, _) = command, alarm.kind == .noSpace {
      nextAlarmCheck = now.advanced(by: ReplicaLimits.alarmCheckInterval)
    }
  }

  /// Tells the transport who there is. Also after a snapshot from the leader replaced the state.
  mutating func membersChanged() {
    effects.members = ClusterRoster(
      members: cluster.members, removed: cluster.removed, level: cluster.level)
    if cluster.removed.contains(identity.member), removedAt == nil {
      // The others should hear that the change is committed, and clients what became of their calls.
      removedAt = now
      effects.warnings.append("this member has been removed from the cluster; it is stopping")
    }
  }

  /// Another member says that this one was removed.
  public mutating func removedFromCluster() {
    if removedAt == nil { removedAt = now }
  }

  mutating func stopIfRemoved() {
    guard let removedAt, now >= removedAt.advanced(by: settings.electionTimeout) else { return }
    fail(ReplicaFailure.removed)
  }
}

extension ReplicaFailure {
  /// Not a failure of the member: an operator took it out of the cluster.
  public static let removed = ReplicaFailure(
    "the member has been permanently removed from the cluster; to use this machine again, add it as a new "
      + "member and start it with an empty data directory")
}
