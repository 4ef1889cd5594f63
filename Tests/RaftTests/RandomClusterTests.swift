import Primitives
import Testing

@testable import Raft

/// Random schedules: messages are lost, repeated and reordered, members crash and lose what they had not
/// synced, the membership changes, snapshots replace logs. Whatever happens, no promise of Raft breaks
/// (``Cluster`` checks them); and when the faults end, the cluster makes progress again.
@Suite struct RandomClusterTests {
  @Test(arguments: UInt64(1)...60)
  func randomSchedulesAreSafeAndThenLive(seed: UInt64) throws {
    var schedule = Schedule(seed: seed)
    try schedule.run(steps: 4000)
    try schedule.heal()
  }

  @Test func membersWithTinyLimitsAreSafeAndThenLive() throws {
    for seed in UInt64(1000)..<1020 {
      var settings = Settings()
      settings.limits.appendBytes = 100
      settings.limits.inFlightMessages = 2
      settings.limits.inFlightBytes = 200
      settings.limits.uncommittedBytes = 400
      settings.limits.tailBytes = 100
      settings.limits.committedBytesPerReady = 64
      settings.limits.waitingReads = 3
      settings.limits.readRoundsInFlight = 1
      var schedule = Schedule(seed: seed, settings: settings)
      try schedule.run(steps: 3000)
      try schedule.heal()
    }
  }

  @Test func equalSeedsGiveEqualRuns() throws {
    func trace() throws -> [String] {
      var schedule = Schedule(seed: 7)
      schedule.cluster.traces = true
      try schedule.run(steps: 1500)
      return schedule.cluster.trace
    }
    #expect(try trace() == trace())
  }

  #if PLANTED_BUGS
    /// Test the tester: some schedule finds each planted bug, by a broken promise or, in a process of
    /// its own, by a broken invariant.
    @Test(arguments: [
      PlantedBugs.unsyncedVote, .staleReadIndex, .stalePersisted, .countUnpersistedSelf,
      .unsyncedAppend,
    ])
    func plantedBugsAreFound(bug: PlantedBugs) async throws {
      await #expect(processExitsWith: .failure) { [rawBug = bug.rawValue as UInt32] in
        var settings = Settings()
        settings.plantedBugs = PlantedBugs(rawValue: rawBug)
        // One entry per message: more states to be cut off in.
        settings.limits.appendBytes = 1
        for seed in UInt64(1)..<1000 {
          var schedule = Schedule(seed: seed, settings: settings, isHarsh: true)
          try schedule.run(steps: 3000)
        }
      }
    }

    /// The same schedules without a bug: what the test above finds is the bug, not the schedule.
    @Test(arguments: UInt64(1)...40)
    func harshSchedulesAreSafe(seed: UInt64) throws {
      var schedule = Schedule(seed: seed, isHarsh: true)
      try schedule.run(steps: 3000)
    }
  #endif
}

/// Draws what happens next.
struct Schedule {
  let cluster: Cluster
  var random: RandomSource
  var nextPayload = 0
  var nextRead: UInt64 = 0
  /// Pairs that can't hear each other.
  var cut: Set<NodeID> = []
  /// Crashes and elections come more often.
  let isHarsh: Bool
  var changesMembership: Bool

  init(seed: UInt64, settings: Settings = Settings(), isHarsh: Bool = false) {
    random = RandomSource(seed: seed)
    cluster = Cluster(seed: random.next())
    cluster.settings = settings
    self.isHarsh = isHarsh
    changesMembership = !isHarsh && seed % 2 == 0
    let founders = [NodeID(1), NodeID(2), NodeID(3)]
    for id in founders { cluster.add(id, membership: Membership(voters: founders)) }
    if changesMembership {
      cluster.add(NodeID(4), membership: Membership())
      cluster.add(NodeID(5), membership: Membership())
    }
  }

  mutating func run(steps: Int) throws {
    for step in 0..<steps {
      let member = cluster.members[Int(random.below(UInt64(cluster.members.count)))]
      try perform(random.below(1000), on: member)
      if let core = member.core {
        core.validate()
        try cluster.drain(member)
      }
      if step % 64 == 0 { try cluster.checkLogs() }
    }
  }

  private mutating func perform(_ draw: UInt64, on member: Cluster.Member) throws {
    switch draw {
    case 0..<500: try deliverSome()
    case 500..<640: member.core?.tick()
    case 640..<790: try cluster.sync(member)
    case 790..<850: propose(at: member)
    case 850..<890:
      nextRead += 1
      guard member.core != nil else { return }
      cluster.readFloors[nextRead] = LogIndex(UInt64(cluster.decided.count))
      member.core!.requestRead(context: nextRead)
    case 890..<910: cluster.answerLogRead(member)
    case 910..<925:
      guard !cluster.transfers.isEmpty else { return }
      cluster.finish(cluster.transfers.removeFirst(), succeeds: !random.oneIn(4))
      for member in cluster.members { try cluster.drain(member) }
    case 925..<935:
      guard let core = member.core else { return }
      let keep = random.below(8)
      cluster.takeSnapshot(
        member, keepFrom: LogIndex(core.applied.rawValue > keep ? core.applied.rawValue - keep : 1))
    case 935..<950:
      // Members crash and come back; of the writes under way any number may have got to disk.
      if member.core == nil {
        cluster.start(member)
      } else if isHarsh || random.oneIn(3) {
        cluster.crash(member, synced: Int(random.below(UInt64(member.writes.count + 1))))
      }
    case 950..<956:
      if cut.contains(member.id) { cut.remove(member.id) } else { cut.insert(member.id) }
    case 956..<962: cut.removeAll()
    case 962..<968: member.core?.campaign()
    case 968..<974:
      let target = cluster.members[Int(random.below(UInt64(cluster.members.count)))].id
      member.core?.transferLeadership(to: target)
    case 974..<980:
      let peer = cluster.members[Int(random.below(UInt64(cluster.members.count)))].id
      member.core?.reportUnreachable(peer)
    case 980..<990: changeMembership(at: member)
    default:
      // A whole election time-out for one member, so that terms move on.
      for _ in 0..<(isHarsh ? 20 : 8) { member.core?.tick() }
    }
  }

  private mutating func deliverSome() throws {
    guard !cluster.network.isEmpty else { return }
    // Mostly in order, as on a stream, sometimes not.
    let place = random.oneIn(4) ? Int(random.below(UInt64(cluster.network.count))) : 0
    let message = cluster.network[place]
    if !random.oneIn(30) { cluster.network.remove(at: place) }
    if random.oneIn(20) || cut.contains(message.from) || cut.contains(message.to) { return }
    // What is sent arrives as bytes.
    var bytes: [UInt8] = []
    message.encode(into: &bytes)
    if bytes.count != message.encodedSize {
      throw Cluster.Violation(description: "the encoded size of \(text(message)) is wrong")
    }
    let received = try bytes.withUnsafeBytes { try Message.decode($0) }
    if received != message {
      throw Cluster.Violation(description: "\(text(message)) changed on the wire")
    }
    cluster.deliver(received)
    try cluster.drain(cluster.member(message.to))
  }

  private mutating func propose(at member: Cluster.Member) {
    var payloads: [[UInt8]] = []
    for _ in 0...random.below(3) {
      nextPayload += 1
      payloads.append(Array("p\(nextPayload)".utf8))
    }
    _ = member.core?.forward(payloads, context: UInt64(nextPayload))
  }

  private mutating func changeMembership(at member: Cluster.Member) {
    guard changesMembership, let core = member.core else { return }
    if core.membership.isJoint {
      _ = member.core!.propose(.leaveJoint)
      return
    }
    var steps: [MembershipChange.Step] = []
    for _ in 0...random.below(2) {
      let id = NodeID(1 + random.below(5))
      switch random.below(3) {
      case 0: steps.append(.addLearner(id))
      case 1 where core.membership.voters.count > 2: steps.append(.remove(id))
      default: steps.append(.addVoter(id))
      }
    }
    _ = member.core!.forward(
      MembershipChange(steps, transition: random.oneIn(4) ? .explicitJoint : .automatic),
      context: 0)
  }

  /// Ends all faults and runs until a new entry is applied by every member of the membership.
  mutating func heal() throws {
    cut.removeAll()
    for member in cluster.members where member.core == nil { cluster.start(member) }
    let goal = Array("the end".utf8)
    for round in 0..<3000 {
      for member in cluster.members where round % 5 == 0 { member.core!.tick() }
      for member in cluster.members {
        while !member.writes.isEmpty { try cluster.sync(member) }
        while !member.logReads.isEmpty { cluster.answerLogRead(member) }
        try cluster.drain(member)
      }
      let transfers = cluster.transfers
      cluster.transfers = []
      for transfer in transfers { cluster.finish(transfer, succeeds: true) }
      let messages = cluster.network
      cluster.network = []
      for message in messages {
        cluster.deliver(message)
        try cluster.drain(cluster.member(message.to))
      }
      guard let leader = cluster.members.first(where: { $0.core!.role == .leader }) else {
        continue
      }
      if round % 50 == 0 { _ = leader.core!.propose([goal]) }
      if leader.core!.membership.isJoint, round % 50 == 25 { _ = leader.core!.propose(.leaveJoint) }
      let involved = cluster.members.filter { leader.core!.membership.contains($0.id) }
      if involved.allSatisfy({ $0.applied.contains { $0.payload == goal } }) {
        try cluster.checkLogs()
        return
      }
    }
    throw Cluster.Violation(
      description: "no progress after the faults ended:\n"
        + cluster.members.map {
          "\($0.id) \($0.core!.role) term \($0.core!.term) last \($0.core!.lastIndex) "
            + "commit \($0.core!.commit) \(text($0.core!.membership)) \($0.core!.peerStatus)"
        }.joined(separator: "\n"))
  }
}
