import Primitives
import TestKit
import Testing

@testable import Raft

/// Interactions of a few members, message by message: `Golden/*.txt`, readable as documentation.
@Suite struct TranscriptTests {
  @Test(arguments: GoldenRunner().files) func transcript(file: String) throws {
    let world = TranscriptWorld()
    try GoldenRunner().run(file) { try world.perform($0) }
  }
}

#if PLANTED_BUGS
  /// The bug that random schedules find too rarely: an entry of an earlier term, on a majority of disks, is
  /// not committed for that. (Ongaro and Ousterhout, 2014, figure 8.)
  @Suite struct EarlierTermTests {
    static let script = [
      "cluster 1 2 3 append-bytes=1", "campaign 1", "stabilize",
      // Entry 2 of term 1 is on member 1 only.
      "propose 1 x", "ready 1", "sync 1", "drop", "crash 1",
      // Entry 2 of term 2 is on member 2 only.
      "tick 3 times=10", "campaign 2", "ready 2", "deliver to=3", "deliver to=2", "sync 2",
      "deliver to=3", "sync 3", "deliver to=2", "sync 2", "drop", "crash 2",
      // Member 1 leads in term 3, and brings its entry 2 to member 3: now it is on a majority of disks.
      "restart 1", "campaign 1", "ready 1", "deliver to=3", "deliver to=1", "sync 1",
      "campaign 1", "ready 1", "deliver to=3", "deliver to=1", "sync 1", "deliver to=3", "sync 3",
      "deliver to=1", "sync 1", "deliver to=3", "deliver to=1", "deliver to=3", "sync 3",
      "deliver to=1", "drop", "crash 1",
      // Yet member 2 can still be elected, and replace it.
      "restart 2", "tick 3 times=10", "campaign 2", "stabilize 2 3", "campaign 2", "stabilize 2 3",
    ]

    func run(_ settings: Settings) throws -> String {
      let world = TranscriptWorld(settings: settings)
      for line in Self.script { _ = try world.perform(GoldenCommand(text: line)) }
      return try world.perform(GoldenCommand(text: "log 3"))
    }

    @Test func anEntryOfAnEarlierTermMayBeReplacedOnAMajority() throws {
      #expect(
        try run(Settings()) == "first 1, in memory from 1\n1/1 no-op\n2/2 no-op\n3/4 no-op")
    }

    @Test func committingItByCountingIsFound() {
      var settings = Settings()
      settings.plantedBugs = .commitOldTerm
      #expect(throws: Cluster.Violation.self) { try run(settings) }
    }
  }
#endif

/// What the transcripts' commands mean. Members are named by number; where several may be given and none is,
/// all are meant.
final class TranscriptWorld {
  private var cluster = Cluster(seed: 1)
  private let settings: Settings

  init(settings: Settings = Settings()) { self.settings = settings }

  func perform(_ command: GoldenCommand) throws -> String {
    cluster.trace = []
    cluster.traces = !command.has("quietly")
    switch command.name {
    case "cluster": try makeCluster(command)
    case "join": cluster.add(id(command, 0), membership: Membership())
    case "tick": try tick(command)
    case "campaign":
      for member in try members(command) { member.core?.campaign() }
    case "propose": try propose(command)
    case "forward":
      let outcome = cluster.member(id(command, 0)).core!.forward(
        [Array(command.bareArguments[1].utf8)], context: UInt64(command.integer("context") ?? 1))
      cluster.trace.append("\(outcome)")
    case "change": change(command)
    case "read":
      cluster.member(id(command, 0)).core!.requestRead(
        context: UInt64(command.integer("context") ?? 1))
    case "transfer":
      let done = cluster.member(id(command, 0)).core!.transferLeadership(
        to: NodeID(UInt64(command.integer("to")!)))
      if !done { cluster.trace.append("refused") }
    case "unreachable":
      cluster.member(id(command, 0)).core!.reportUnreachable(
        NodeID(UInt64(command.integer("peer")!)))
    case "ready":
      for member in try members(command) { try cluster.drain(member) }
    case "sync":
      for member in try members(command) {
        while !member.writes.isEmpty { try cluster.sync(member) }
        try cluster.drain(member)
      }
    case "sync-one":
      for member in try members(command) {
        try cluster.sync(member)
        try cluster.drain(member)
      }
    case "deliver": try deliver(command, drops: false)
    case "drop": try deliver(command, drops: true)
    case "stabilize": try stabilize(command)
    case "crash":
      for member in try members(command) { cluster.crash(member) }
    case "restart":
      for member in try members(command) { cluster.start(member) }
    case "snapshot":
      cluster.takeSnapshot(
        cluster.member(id(command, 0)),
        keepFrom: LogIndex(UInt64(command.integer("keep-from") ?? .max)))
    case "answer-log-read":
      for member in try members(command) {
        while !member.logReads.isEmpty { cluster.answerLogRead(member) }
        try cluster.drain(member)
      }
    case "transfer-snapshots":
      let transfers = cluster.transfers
      cluster.transfers = []
      for transfer in transfers { cluster.finish(transfer, succeeds: !command.has("failing")) }
      for member in cluster.members { try cluster.drain(member) }
    case "log": return log(command)
    case "status": return status(command)
    default: throw GoldenError(message: "no command \(command.name)")
    }
    try cluster.checkLogs()
    return cluster.trace.joined(separator: "\n")
  }

  private func makeCluster(_ command: GoldenCommand) throws {
    cluster = Cluster(seed: 1)
    cluster.settings = settings
    if let bytes = command.integer("append-bytes") { cluster.settings.limits.appendBytes = bytes }
    if let count = command.integer("in-flight") {
      cluster.settings.limits.inFlightMessages = count
    }
    if let bytes = command.integer("tail-bytes") { cluster.settings.limits.tailBytes = bytes }
    if let bytes = command.integer("uncommitted-bytes") {
      cluster.settings.limits.uncommittedBytes = bytes
    }
    if let rounds = command.integer("read-rounds") {
      cluster.settings.limits.readRoundsInFlight = rounds
    }
    let voters = command.bareArguments.map { NodeID(UInt64($0)!) }
    let learners = command.value("learners").map { $0.split(separator: ",") } ?? []
    let membership = Membership(
      voters: voters, learners: learners.map { NodeID(UInt64($0)!) })
    for id in membership.members { cluster.add(id, membership: membership) }
  }

  private func tick(_ command: GoldenCommand) throws {
    for member in try members(command) {
      let times = command.has("until-time-out") ? 40 : command.integer("times") ?? 1
      for _ in 0..<times {
        member.core?.tick()
        if command.has("until-time-out"), member.core?.hasReady == true { break }
      }
    }
  }

  private func propose(_ command: GoldenCommand) throws {
    let payloads = command.bareArguments.dropFirst().map { Array($0.utf8) }
    let outcome = cluster.member(id(command, 0)).core!.propose(payloads)
    if case .accepted = outcome { return }
    cluster.trace.append("\(outcome)")
  }

  private func change(_ command: GoldenCommand) {
    var steps: [MembershipChange.Step] = []
    for word in command.arguments.dropFirst() {
      let parts = word.split(separator: "=")
      guard parts.count == 2, let number = UInt64(parts[1]) else { continue }
      switch parts[0] {
      case "voter": steps.append(.addVoter(NodeID(number)))
      case "learner": steps.append(.addLearner(NodeID(number)))
      case "remove": steps.append(.remove(NodeID(number)))
      default: break
      }
    }
    let outcome = cluster.member(id(command, 0)).core!.propose(
      MembershipChange(steps, transition: command.has("explicit") ? .explicitJoint : .automatic))
    if case .accepted = outcome { return }
    cluster.trace.append("\(outcome)")
  }

  /// Delivers (or drops) what is in the network now, all or from `from=` and to `to=` only.
  private func deliver(_ command: GoldenCommand, drops: Bool) throws {
    let from = command.integer("from").map { NodeID(UInt64($0)) }
    let to = command.integer("to").map { NodeID(UInt64($0)) }
    let messages = cluster.network
    cluster.network = []
    var touched: [NodeID] = []
    for message in messages {
      if from ?? message.from == message.from, to ?? message.to == message.to {
        if drops { continue }
        cluster.deliver(message)
        if !touched.contains(message.to) { touched.append(message.to) }
      } else {
        cluster.network.append(message)
      }
    }
    for id in touched { try cluster.drain(cluster.member(id)) }
  }

  /// Lets the members given write and talk among themselves until all is quiet. Messages to others wait.
  private func stabilize(_ command: GoldenCommand) throws {
    let some = try members(command)
    for _ in 0..<100 {
      var isQuiet = true
      for member in some {
        try cluster.drain(member)
        while !member.writes.isEmpty {
          isQuiet = false
          try cluster.sync(member)
          try cluster.drain(member)
        }
      }
      let messages = cluster.network
      cluster.network = []
      for message in messages {
        if some.contains(where: { $0.id == message.to }),
          some.contains(where: { $0.id == message.from })
        {
          isQuiet = false
          cluster.deliver(message)
          try cluster.drain(cluster.member(message.to))
        } else {
          cluster.network.append(message)
        }
      }
      if isQuiet { return }
    }
    throw GoldenError(message: "never quiet")
  }

  private func log(_ command: GoldenCommand) -> String {
    let core = cluster.member(id(command, 0)).core!
    var lines = ["first \(core.firstIndex), in memory from \(core.log.tailFirst)"]
    var index = core.log.tailFirst
    while index <= core.lastIndex {
      lines.append(text(core.log[index]))
      index = index.next
    }
    return lines.joined(separator: "\n")
  }

  private func status(_ command: GoldenCommand) -> String {
    let some = (try? members(command)) ?? []
    return some.map { member in
      guard let core = member.core else { return "\(member.id) is down" }
      var line =
        "\(core.id) \(core.role) term \(core.term), log through \(core.lastIndex), "
        + "durable \(core.persistedIndex), committed \(core.commit); \(text(core.membership))"
      guard core.role == .leader else { return line }
      for peer in core.peerStatus {
        line += "\n  \(peer.id) \(peer.state) match \(peer.match) next \(peer.next)"
        if !peer.isActive { line += ", not heard" }
      }
      return line
    }.joined(separator: "\n")
  }

  private func id(_ command: GoldenCommand, _ place: Int) -> NodeID {
    NodeID(UInt64(command.bareArguments[place])!)
  }

  private func members(_ command: GoldenCommand) throws -> [Cluster.Member] {
    let ids = command.bareArguments.compactMap { UInt64($0) }
    return ids.isEmpty ? cluster.members : ids.map { cluster.member(NodeID($0)) }
  }
}
