import Primitives
import Raft
import Replica

/// An operator who changes who takes part, one step after the other.
///
/// A step is asked of some member again and again until the cluster shows that it is done: answers get lost, leaders
/// change, and members refuse what would put the quorum at risk. A member whose disk is lost is removed, and a new
/// one is added with an empty disk, as `Docs/Operations.md` has it.
struct SimulatedAdministrator {
  enum Step: Equatable {
    case add(NodeID, isLearner: Bool)
    case promote(NodeID)
    case remove(NodeID)

    var member: NodeID {
      switch self {
      case .add(let id, _), .promote(let id), .remove(let id): id
      }
    }
  }

  /// What is to be done, in order.
  var steps: [Step] = []
  /// The command on its way, and the member that was asked.
  var asked: (token: UInt64, member: Int)?
  /// Until then a command whose outcome is unknown may still be carried out.
  var uncertainUntil = Instant.origin
  /// The members whose removal was ever asked for.
  var leaving: Set<NodeID> = []
  /// Ids are never used twice.
  var nextID: UInt64

  init(nextID: UInt64) { self.nextID = nextID }

  var isIdle: Bool { steps.isEmpty && asked == nil }
}

extension SimulatedWorld {
  /// The administrator looks at the cluster, and asks for what is to be done next.
  mutating func administer() throws {
    schedule.add(.administer, at: delay(100_000_000, isHealed ? 300_000_000 : 1_000_000_000))
    try tellRemoved()
    try leaveJointMembership()
    while let step = administrator.steps.first, isDone(step) {
      administrator.steps.removeFirst()
      administrator.asked = nil
      finish(step)
    }
    guard let step = administrator.steps.first, administrator.asked == nil else { return }
    let candidates = present.filter { members[$0].running != nil && members[$0].pausedUntil <= now }
    guard !candidates.isEmpty else { return }
    let member = candidates[Int(random.below(UInt64(candidates.count)))]
    guard let sink = members[member].running?.sink else { return }
    let token = nextOperation
    nextOperation += 1
    administrator.asked = (token, member)
    if case .remove(let id) = step { administrator.leaving.insert(id) }
    trace("the administrator asks \(name(member)): \(step)")
    let command: ClusterCommand =
      switch step {
      case .add(let id, let isLearner):
        .addMember(
          ClusterMember(
            id: id, name: "", peerURLs: ["http://m\(id)"], clientURLs: [], isLearner: isLearner))
      case .promote(let id): .promoteMember(id)
      case .remove(let id): .removeMember(id)
      }
    try pump(member) { $0.change(command, token: token, sink: sink) }
  }

  /// The members as the one says that has applied most.
  private var roster: [ClusterMember]? {
    present.compactMap { members[$0].running?.status }
      .filter { !$0.members.isEmpty }
      .max { $0.appliedIndex < $1.appliedIndex }?.members
  }

  private func isDone(_ step: SimulatedAdministrator.Step) -> Bool {
    guard let roster else { return false }
    let member = roster.first { $0.id == step.member }
    switch step {
    case .add: return member != nil
    // Lost meanwhile: nothing is left to promote.
    case .promote: return member?.isLearner != true
    case .remove: return member == nil
    }
  }

  private mutating func finish(_ step: SimulatedAdministrator.Step) {
    trace("the administrator is done with: \(step)")
    report.membershipChanges += 1
    guard let position = members.firstIndex(where: { $0.id == step.member }) else { return }
    switch step {
    case .add:
      // Who there is, it asks the others at its first start.
      members[position].cluster = roster
      members[position].isPresent = true
      schedule.add(.restart(member: position), at: delay(10_000_000, 1_000_000_000))
    case .promote: break
    case .remove: members[position].isPresent = false
    }
  }

  /// An answer for the administrator. False if it is for somebody else.
  mutating func administratorHears(_ reply: Reply) -> Bool {
    guard let asked = administrator.asked, asked.token == reply.token else { return false }
    administrator.asked = nil
    if case .failed(let error) = reply.outcome {
      trace("the administrator hears: \(error)")
      if !error.leavesNothing { becomeUncertain() }
    }
    return true
  }

  /// A member ended: what it was asked may or may not happen.
  mutating func abandonAdministration(at member: Int) {
    guard administrator.asked?.member == member else { return }
    administrator.asked = nil
    becomeUncertain()
  }

  private mutating func becomeUncertain() {
    administrator.uncertainUntil = now.advanced(by: ReplicaSettings().requestTimeout * 2)
  }

  // MARK: Plans

  /// Plans the addition of a new member, which gets its place now.
  mutating func planAddition(isLearner: Bool) -> [SimulatedAdministrator.Step] {
    let id = NodeID(administrator.nextID)
    administrator.nextID += 1
    var member = Self.makeMember(id, swarm, at: now, &random)
    member.cluster = []
    member.isPresent = false
    members.append(member)
    return [.add(id, isLearner: isLearner)]
  }

  /// Plans the replacement of a member that will not come back.
  mutating func replace(_ id: NodeID) {
    administrator.steps.removeAll { $0.member == id && $0 != .remove(id) }
    if administrator.steps.contains(.remove(id)) || !isMember(id) { return }
    let isLearner = roster?.first { $0.id == id }?.isLearner == true
    // Two may be lost at once: the cluster takes no new member while one is missing, so removals come first.
    let place = administrator.steps.firstIndex { if case .remove = $0 { false } else { true } }
    administrator.steps.insert(.remove(id), at: place ?? administrator.steps.count)
    if isLearner { return }
    // There may be one learner at a time.
    let hasLearner =
      roster?.contains(where: \.isLearner) == true
      || administrator.steps.contains { if case .add = $0 { true } else { false } }
    let addition = planAddition(isLearner: !hasLearner && random.oneIn(3))
    administrator.steps += addition
    promoteNewcomers()
  }

  private func isMember(_ id: NodeID) -> Bool {
    members.contains { $0.id == id && $0.isPresent }
  }

  /// What was added as a learner in place of a voter becomes one.
  private mutating func promoteNewcomers() {
    guard case .add(let id, isLearner: true)? = administrator.steps.last else { return }
    administrator.steps.append(.promote(id))
  }

  /// Draws a change of the members, if none is under way.
  mutating func planChange(_ fault: Swarm.Fault) {
    guard administrator.isIdle, isWhole, let roster else { return }
    let voters = roster.filter { !$0.isLearner }
    let learners = roster.filter(\.isLearner)
    let victim = roster[Int(random.below(UInt64(roster.count)))]
    switch fault {
    case .addMember:
      guard roster.count < options.memberCount + 2 else { return }
      let isLearner = learners.isEmpty && random.oneIn(2)
      administrator.steps = planAddition(isLearner: isLearner)
      if random.oneIn(2) { promoteNewcomers() }
      if !isLearner, let learner = learners.first, random.oneIn(2) {
        administrator.steps.append(.promote(learner.id))
      }
    case .removeMember:
      guard voters.count > 1 || victim.isLearner, roster.count >= options.memberCount else { return }
      administrator.steps = [.remove(victim.id)]
    case .replaceMember:
      guard voters.count > 1 else { return }
      let addition = planAddition(isLearner: learners.isEmpty && random.oneIn(2))
      administrator.steps = [.remove(victim.id)] + addition
      promoteNewcomers()
    default: break
    }
  }

  // MARK: Joint memberships

  /// Asks the leader, as a follower may, for several changes at once. (The product's own commands change one member
  /// at a time; Raft and its messages know more.) Voters that lose their vote get it back from the leader, one by
  /// one, because the cluster's own list still has them as voters.
  mutating func requestJointMembership() throws {
    guard isWhole, let leader, let membership = members[leader].running?.core.membership,
      !membership.isJoint
    else { return }
    var steps: [MembershipChange.Step] = []
    if let learner = membership.learners.first { steps.append(.addVoter(learner)) }
    var voters = membership.voters
    while !voters.isEmpty, steps.count < 2, voters.count > 1 {
      steps.append(.addLearner(voters.remove(at: Int(random.below(UInt64(voters.count))))))
    }
    guard steps.count == 2 else { return }
    report.membershipChanges += 1
    let change = MembershipChange(steps, transition: random.oneIn(2) ? .automatic : .explicitJoint)
    trace("the leader is asked for \(steps)")
    try propose(change, to: leader)
    // A second wish on the heels of the first must wait.
    if random.oneIn(2), let other = voters.first {
      try propose(MembershipChange([.addLearner(other)]), to: leader)
    }
  }

  private mutating func leaveJointMembership() throws {
    guard let leader, let membership = members[leader].running?.core.membership, membership.isJoint,
      !membership.leavesAutomatically, isHealed || random.oneIn(4)
    else { return }
    try propose(.leaveJoint, to: leader)
  }

  private mutating func propose(_ change: MembershipChange, to leader: Int) throws {
    let others = members[leader].running!.roster.members.filter { $0.id != members[leader].id }
    guard let sender = others.first, members[leader].pausedUntil <= now else { return }
    let term = members[leader].running!.status.term
    let message = Message(
      from: sender.id, to: members[leader].id, term: term,
      body: .proposal(.init(context: 0, content: .membershipChange(change))))
    try pump(leader) { $0.receive(.raft(message), from: sender.id) }
  }

  // MARK: What may be lost

  /// Whether every member that takes part runs or will run again: what an operator makes sure of before he changes
  /// who takes part, since a smaller membership may need each of its voters.
  private var isWhole: Bool {
    members.allSatisfy { !$0.isDamaged && !($0.isGone && $0.isPresent) }
  }

  /// How many voters' disks may be lost now without losing what they promised together; zero while anything is
  /// changing or missing, because a membership that isn't committed may need each of its voters.
  var losableVoters: Int {
    guard administrator.isIdle, now >= administrator.uncertainUntil else { return 0 }
    var membership: Membership?
    for position in present {
      guard let running = members[position].running, !members[position].isDamaged else { return 0 }
      let own = running.core.membership
      guard !own.isJoint, membership == nil || membership == own else { return 0 }
      membership = own
    }
    guard let membership else { return 0 }
    let isSettled = present.allSatisfy { membership.contains(members[$0].id) }
      && membership.members.count == present.count
    return isSettled ? (membership.voters.count - 1) / 2 : 0
  }
}
