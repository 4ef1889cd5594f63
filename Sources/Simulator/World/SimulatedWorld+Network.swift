import Primitives
import Raft
import Replica

// Between members.

extension SimulatedWorld {
  func isBlocked(_ from: Int, _ to: Int) -> Bool {
    blocked.values.contains { $0.contains { $0.from == from && $0.to == to } }
  }

  mutating func send(_ message: PeerMessage, from: Int, to: NodeID) throws {
    guard let target = members.firstIndex(where: { $0.id == to }), speaks(from, with: to) else {
      return
    }
    report.messages += 1
    // Members exchange values here; some go by way of their bytes.
    if report.messages % 16 == 0 { try checkCoding(of: message) }
    let isFaulty = !isHealed && options.hasFaults
    if isFaulty, case .raft(let message) = message { aimAt(message.body, from: from) }
    if isFaulty, let odds = swarm.lossOneIn, random.oneIn(odds) { return }
    var arrival = delay(50_000, 2_000_000)
    if isFaulty, let odds = swarm.delayOneIn, random.oneIn(odds) {
      arrival = delay(5_000_000, swarm.longestDelay)
    }
    for clog in clogged.values where clog.from == from && clog.to == target && clog.until > now {
      // Nothing gets through before; then everything does, in the order of sending.
      arrival = max(arrival, clog.until)
    }
    schedule.add(.deliver(from: from, to: target, message: message), at: arrival)
    // TCP never repeats a message, but Raft must bear it.
    if isFaulty, let odds = swarm.duplicateOneIn, random.oneIn(odds), case .raft = message {
      schedule.add(
        .deliver(from: from, to: target, message: message), at: delay(1_000_000, 500_000_000))
    }
  }

  private func checkCoding(of message: PeerMessage) throws {
    var bytes: [UInt8] = []
    message.encode(into: &bytes)
    let decoded = try? bytes.withUnsafeBytes { try PeerMessage.decode($0) }
    if decoded != message { throw Violation("a message doesn't survive its encoding: \(message)", now) }
  }

  /// How long a member that was removed is still spoken to, as in the product's transport.
  private static let removedGrace = Duration.seconds(2)

  /// Whether a member has a connection to another: to those that it knows, and for a while to those that left.
  private func speaks(_ from: Int, with other: NodeID) -> Bool {
    guard let running = members[from].running else { return false }
    if running.roster.members.contains(where: { $0.id == other }) || running.introduced.contains(other) {
      return true
    }
    guard let since = running.lettingGo[other] else { return false }
    return now < since.advanced(by: Self.removedGrace)
  }

  /// Whether a member takes what another sends: not from those that were removed.
  func lets(_ sender: NodeID, in running: Running) -> Bool {
    if running.roster.removed.contains(sender) { return false }
    if !running.roster.members.contains(where: { $0.id == sender }) { running.introduced.insert(sender) }
    return true
  }

  func adopt(_ roster: ClusterRoster, _ running: Running) {
    running.introduced = running.introduced.filter { id in
      !roster.removed.contains(id) && !roster.members.contains { $0.id == id }
    }
    for member in running.roster.members
    where !roster.members.contains(where: { $0.id == member.id }) {
      running.lettingGo[member.id] = now
    }
    running.roster = roster
  }

  /// A member that dials one which knows of its removal hears of it.
  mutating func tellRemoved() throws {
    for position in members.indices
    where !members[position].isPresent && members[position].running != nil {
      let id = members[position].id
      let knowing = members.indices.filter {
        members[$0].running?.roster.removed.contains(id) == true && !isBlocked($0, position)
          && !isBlocked(position, $0) && members[$0].pausedUntil <= now
      }
      guard !knowing.isEmpty, members[position].pausedUntil <= now else { continue }
      try pump(position) { $0.removedFromCluster() }
    }
  }

  /// Crashes a member right after it has promised something: a vote, or that it holds entries. If what it
  /// promised was not on its disk, this is when it shows.
  private mutating func aimAt(_ body: Message.Body, from member: Int) {
    guard let odds = swarm.aimedCrashOneIn else { return }
    let isHit: Bool
    switch body {
    case .voteResponse(let vote): isHit = vote.isGranted && random.oneIn(odds)
    case .appendAccepted: isHit = random.oneIn(odds * 150)
    default: isHit = false
    }
    guard isHit else { return }
    schedule.add(
      .crash(member: member, life: members[member].life), at: delay(1_000, 60_000))
  }
}
