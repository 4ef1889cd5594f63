import Persistence
import Primitives
import Raft
import Replica
import SimulatedStorage

// What goes wrong.

extension SimulatedWorld {
  mutating func injectFault() throws {
    schedule.add(.fault, at: delay(200_000_000, swarm.longestCalm))
    report.faults += 1
    let fault = swarm.draw(&random)
    trace("fault: \(fault.rawValue)")
    let parts = present
    guard !parts.isEmpty else { return }
    let victim = parts[Int(random.below(UInt64(parts.count)))]
    switch fault {
    case .crash: crash(victim)
    case .crashAll: for position in parts { crash(position) }
    case .crashLeader: if let leader { crash(leader) }
    case .kill: kill(victim)
    case .pause: pause(victim)
    case .pauseLeader: if let leader { pause(leader) }
    case .isolate: block(between: [victim], and: parts.filter { $0 != victim })
    case .split:
      let side = parts.filter { _ in random.oneIn(2) }
      block(between: side, and: parts.filter { !side.contains($0) })
    case .oneWay, .pair, .clog:
      guard parts.count > 1 else { return }
      let others = parts.filter { $0 != victim }
      let other = others[Int(random.below(UInt64(others.count)))]
      if fault == .clog { return clog(victim, other) }
      block(fault == .pair ? [(victim, other), (other, victim)] : [(victim, other)])
    case .clockJump:
      members[victim].clock.leap(by: 10_000_000 + random.below(5_000_000_000), at: now)
    case .fullDisk: fillDisk(victim)
    case .rot: rotNewestSnapshot(victim)
    case .rotSnapshots: rotAllSnapshots(victim)
    case .rotLog: try damageLog(victim, isMisdirected: false)
    case .misdirect: try damageLog(victim, isMisdirected: true)
    case .loseDisk: loseDisks(victim)
    case .duel: duel()
    case .addMember, .removeMember, .replaceMember: planChange(fault)
    case .joint: try requestJointMembership()
    case .transfer:
      guard let leader else { return }
      let target = members[victim].id
      report.transfers += 1
      try pump(leader) { $0.transferLeadership(to: target) }
    }
  }

  /// The member that leads in the highest term, as far as is known outside.
  var leader: Int? {
    members.indices.filter { members[$0].running?.status.role == .leader }
      .max { members[$0].running!.status.term < members[$1].running!.status.term }
  }

  private mutating func pause(_ position: Int) {
    guard members[position].running != nil else { return }
    report.pauses += 1
    members[position].pausedUntil = delay(100_000_000, 6_000_000_000)
  }

  /// The leader dies where two others can't hear each other: with luck, both stand for the same term.
  private mutating func duel() {
    guard let leader else { return }
    let rivals = present.filter { $0 != leader && members[$0].running != nil }
    crash(leader)
    guard rivals.count >= 2 else { return }
    let first = Int(random.below(UInt64(rivals.count)))
    let second = (first + 1 + Int(random.below(UInt64(rivals.count - 1)))) % rivals.count
    block([(rivals[first], rivals[second]), (rivals[second], rivals[first])])
  }

  // MARK: Partitions

  private mutating func block(between left: [Int], and right: [Int]) {
    block(left.flatMap { one in right.flatMap { [(one, $0), ($0, one)] } })
  }

  private mutating func block(_ pairs: [(from: Int, to: Int)]) {
    report.partitions += 1
    blocked[nextPartition] = pairs
    schedule.add(.heal(partition: nextPartition), at: delay(200_000_000, 6_000_000_000))
    nextPartition += 1
  }

  private mutating func clog(_ from: Int, _ to: Int) {
    report.partitions += 1
    let end = delay(100_000_000, 3_000_000_000)
    clogged[nextPartition] = (from, to, end)
    schedule.add(.heal(partition: nextPartition), at: end)
    nextPartition += 1
  }

  // MARK: Disks

  /// Performs disk work, of which one operation fails now and then.
  mutating func withDiskErrors<Value>(
    _ position: Int, oneIn odds: UInt64?, _ work: (ReplicaDisk) -> Value
  ) -> Value {
    let running = members[position].running!
    guard !isHealed, let odds, random.oneIn(odds) else { return work(running.files) }
    report.diskFaults += 1
    members[position].mayFail = true
    let isSync = random.oneIn(2)
    members[position].disk.setFault { operation in
      switch operation {
      case .syncData, .syncDirectory:
        isSync ? PersistenceError(.io, "Input/output error") : nil
      case .write, .allocate, .rename:
        isSync ? nil : PersistenceError(.io, "Input/output error")
      default: nil
      }
    }
    defer { members[position].disk.setFault(nil) }
    return work(running.files)
  }

  private mutating func fillDisk(_ position: Int) {
    report.diskFaults += 1
    members[position].mayFail = true
    let disk = members[position].disk
    disk.capacity = disk.usedBytes + random.below(UInt64(swarm.bounds.segmentBytes) * 2)
    schedule.add(.freeDisk(member: position), at: delay(500_000_000, 8_000_000_000))
  }
}
