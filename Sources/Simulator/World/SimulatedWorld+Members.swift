import MVCC
import Persistence
import Primitives
import Raft
import Replica
import SimulatedStorage

// Members: their starts, what they do with what reaches them, and their ends.

extension SimulatedWorld {
  mutating func start(_ position: Int) throws {
    members[position].life += 1
    let identity = ClusterIdentity(cluster: cluster, member: members[position].id)
    let (recovered, files): (RecoveredReplica, ReplicaDisk)
    do {
      (recovered, files) = try RecoveredReplica.open(
        directory: "/data", identity: identity,
        founders: members[position].cluster ?? founders,
        isJoining: members[position].cluster != nil, fileSystem: members[position].disk,
        logSettings: LogSettings(
          segmentBytes: swarm.bounds.segmentBytes, preparedSegments: 1, compressionThreshold: 4096))
    } catch {
      if members[position].isDamaged { return lose(position, because: "\(error)") }
      guard members[position].mayFail, !isHealed else {
        throw Violation("member \(members[position].id) can't read its own files: \(error)", now)
      }
      trace("\(name(position)) can't start: \(error)")
      members[position].disk.killProcess()
      schedule.add(.restart(member: position), at: delay(100_000_000, 2_000_000_000))
      return
    }
    members[position].isDamaged = false
    let roster = recovered.roster
    // What the product's start says: it was removed, and knows it.
    if roster.removed.contains(identity.member) { return try stopped(position, .removed) }
    trace("\(name(position)) starts, life \(members[position].life)")
    var settings = ReplicaSettings()
    settings.name = "m\(position + 1)"
    // All members know one level, which is never told: the entries that tell it would make the seeds known to find
    // planted bugs find them no more.
    settings.levels = .first ... .first
    settings.snapshotCount = swarm.bounds.snapshotCount
    settings.snapshotChunkBytes = swarm.bounds.snapshotChunkBytes
    settings.raftLimits = swarm.bounds.raft
    settings.quotaBytes = swarm.bounds.quotaBytes
    let core = ReplicaCore(
      identity: identity, settings: settings, recovered: recovered,
      now: members[position].clock.reading(at: now),
      sequenceBase: UInt64(members[position].life) << 32, random: random.split())
    members[position].running = Running(core: core, files: files, roster: roster)
    if members[position].disk.capacity == .max { members[position].mayFail = false }
    try pump(position) { _ in }
  }

  /// Lets a member take in something, draw its conclusions, and turns its effects into events.
  mutating func pump(_ position: Int, _ input: (inout ReplicaCore) -> Void) throws {
    guard let running = members[position].running else { return }
    let reading = members[position].clock.reading(at: now)
    // One access for all: a read of one property through the class would copy the whole core.
    let (effects, next) = withUnsafeMutablePointer(to: &running.core) { core in
      core.pointee.advance(to: reading)
      input(&core.pointee)
      core.pointee.pump()
      return (core.pointee.takeEffects(), Conclusion(core.pointee))
    }
    let life = members[position].life
    if let (view, status) = effects.published {
      note(status, after: running.status, position)
      try checkElection(status, of: next.membership, by: members[position].id)
      try checkCommit(status, after: running.status, by: next.membership)
      try checkQuota(status, of: position)
      running.view = view
      running.status = status
      try checks.published(status, view, by: members[position].id, life: life, at: now)
      try leases.check(view, of: members[position].id, at: now)
    }
    if let roster = effects.members { adopt(roster, running) }
    for delivery in effects.deliveries { delivery.sink.deliver(delivery.replies) }
    if let job = effects.log {
      running.logJob = job
      schedule.add(.logDone(member: position, life: life, job: job), at: diskDelay())
    }
    for (to, message) in effects.sends {
      try checkPromise(in: message, from: position)
      try send(message, from: position, to: to)
    }
    for task in effects.background {
      // One thread: each task begins when the last has ended.
      let start = max(now, running.backgroundFreeAt)
      let end = start.advanced(byNanoseconds: 100_000 + random.below(20_000_000))
      running.backgroundFreeAt = end
      schedule.add(.background(member: position, life: life, task: task), at: end)
    }
    let deadline = members[position].clock.instant(of: next.deadline)
    let wakeAt = next.hasMaintenance ? now : max(deadline, now)
    let replies = running.sink.take()
    schedule.addWake(
      .wake(member: position, life: life), at: wakeAt.advanced(byNanoseconds: 1), key: position)
    if let failure = next.failure { return try stopped(position, failure) }
    for reply in replies { try receive(reply, from: position) }
  }

  /// What the world wants to know of a core after it drew its conclusions.
  private struct Conclusion {
    let deadline: Instant
    let hasMaintenance: Bool
    let failure: ReplicaFailure?
    let membership: Membership

    init(_ core: borrowing ReplicaCore) {
      deadline = core.nextDeadline
      hasMaintenance = core.hasMaintenance
      failure = core.failure
      membership = core.membership
    }
  }

  private mutating func note(_ status: ReplicaStatus, after last: ReplicaStatus, _ position: Int) {
    if status.lastIndex < last.lastIndex {
      report.truncations += 1
      trace("\(name(position))'s log is cut back from \(last.lastIndex) to \(status.lastIndex)")
    }
    report.snapshots += Int(status.counters.snapshotsTaken - last.counters.snapshotsTaken)
    if status.role != last.role {
      trace("\(name(position)) is \(status.role) in term \(status.term)")
      if status.role == .leader, swarm.has(.joint), random.oneIn(4) {
        // Before it has committed anything.
        schedule.add(.jointMembership, at: delay(1_000, 1_000_000))
      }
    }
  }

  private mutating func diskDelay() -> Instant {
    // Stalls stay below Raft's own patience with its disk, so that they cost no more than time.
    if !isHealed, let odds = swarm.stallOneIn, random.oneIn(odds) {
      return delay(20_000_000, swarm.longestStall)
    }
    return delay(60_000, 600_000)
  }

  // MARK: Ends

  /// A member has stopped itself. It may, if its disk failed it or it was removed.
  private mutating func stopped(_ position: Int, _ failure: ReplicaFailure) throws {
    if failure.description == ReplicaFailure.removed.description {
      guard administrator.leaving.contains(members[position].id) else {
        throw Violation("member \(members[position].id) believes that it was removed", now)
      }
      trace("\(name(position)) was removed, and stops")
      members[position].isGone = true
      members[position].disk.killProcess()
      return end(position, 1...1)
    }
    guard members[position].mayFail else {
      throw Violation("member \(members[position].id) stopped by itself: \(failure)", now)
    }
    trace("\(name(position)) stops: \(failure)")
    if random.oneIn(2) {
      crash(position)
    } else {
      kill(position)
    }
  }

  /// The power fails.
  mutating func crash(
    _ position: Int, downFor: ClosedRange<UInt64> = 20_000_000...4_000_000_000
  ) {
    guard let running = members[position].running else { return }
    trace("\(name(position)) loses power")
    report.crashes += 1
    let disk = members[position].disk
    if let job = running.logJob, random.oneIn(2) {
      // The write under way gets through in part.
      disk.failPower(after: Int(random.below(UInt64(job.operations.count) + 1)))
      _ = running.files.perform(job)
    }
    disk.crash()
    end(position, downFor)
  }

  /// The process dies; what it had written stays, and a write under way gets through in part.
  mutating func kill(_ position: Int) {
    guard let running = members[position].running else { return }
    trace("\(name(position)) is killed")
    report.crashes += 1
    if let job = running.logJob, random.oneIn(2) {
      _ = running.files.perform(
        DiskJob(ticket: job.ticket, operations: Array(job.operations.prefix(1))))
    }
    members[position].disk.killProcess()
    end(position, 20_000_000...1_000_000_000)
  }

  mutating func end(_ position: Int, _ downFor: ClosedRange<UInt64>) {
    members[position].running = nil
    members[position].pausedUntil = .origin
    abandonOperations(at: position)
    breakStreams(at: position)
    for other in members.indices where other != position {
      // Their connections are reset, sooner or later.
      if random.oneIn(2), members[other].running != nil, members[other].pausedUntil <= now {
        let dead = members[position].id
        members[other].running!.core.connectionLost(to: dead)
      }
    }
    guard !members[position].isGone else { return }
    schedule.add(.restart(member: position), at: delay(downFor.lowerBound, downFor.upperBound))
  }

  /// All that a member had on disk is gone or can't be used: it won't come back, and is replaced by a new one.
  mutating func lose(_ position: Int, because reason: String) {
    trace("\(name(position)) is lost: \(reason)")
    report.membersLost += 1
    members[position].isGone = true
    if members[position].running != nil { end(position, 1...1) }
    members[position].disk = SimulatedDisk(seed: random.next())
    replace(members[position].id)
  }
}
