import Primitives
import Raft
import Replica

// Between members.

extension SimulatedWorld {
  func isBlocked(_ from: Int, _ to: Int) -> Bool {
    blocked.values.contains { $0.contains { $0.from == from && $0.to == to } }
  }

  mutating func send(_ message: PeerMessage, from: Int, to: NodeID) {
    guard let target = members.firstIndex(where: { $0.id == to }) else { return }
    report.messages += 1
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
