import TestKit

extension FaultInjector {
  /// A member's disk has no room for a while. The member may refuse writes or stop, saying why; the others
  /// go on, and it comes back when there is room.
  func fillDisk() throws {
    guard let smallDisk else { return }
    try smallDisk.fill()
    defer { smallDisk.clear() }
    if oneIn(2) { cluster.kill(smallDiskMember) }
    if cluster.members[smallDiskMember].process == nil { try cluster.start(smallDiskMember) }
    pause(2, 5)
    let ended = cluster.members[smallDiskMember].process.map { !$0.isRunning } ?? true
    if ended {
      let log = cluster.log(of: smallDiskMember)
      guard log.lowercased().contains("space") || log.contains("ENOSPC") else {
        throw FaultRunFailure("a full disk ended m\(smallDiskMember), which doesn't say why", log: log)
      }
      cluster.kill(smallDiskMember)
    }
    smallDisk.clear()
    if ended { try cluster.start(smallDiskMember) }
    try awaitService(of: [smallDiskMember], seconds: 60)
  }

  /// Members are killed, and those on a disk of ours lose some of what they hadn't synced.
  func losePower(_ members: [Int]) throws {
    // With syncs that take a while, something is always under way.
    for member in members { lossyDisks[member]?.delaySyncs(.milliseconds(5 + below(100))) }
    pause(0.1, 0.6)
    for member in members { cluster.kill(member) }
    for member in members {
      guard let disk = lossyDisks[member] else { continue }
      disk.delaySyncs(.zero)
      let lost = disk.losePower(&own)
      say("m\(member) lost \(lost.pages) pages and \(lost.directories) directories' changes")
    }
    pause(0.05, 1)
    for member in members { try cluster.start(member) }
  }

  /// A disk whose syncs take longer than heartbeats, now and then than elections.
  func slowDisk() throws {
    guard let member = lossyDisks.keys.sorted().randomElement(using: &own), let disk = lossyDisks[member] else {
      return
    }
    disk.delaySyncs(.milliseconds(20 + below(1_500)))
    pause(1, 5)
    disk.delaySyncs(.zero)
  }

  /// A sync that fails leaves nobody knowing what is on the disk: the member must stop, and say so.
  func failSync() throws {
    guard let member = lossyDisks.keys.sorted().randomElement(using: &own), let disk = lossyDisks[member] else {
      return
    }
    disk.failSyncs(true)
    let isOver = cluster.awaitEnd(of: member, seconds: 15)
    disk.failSyncs(false)
    guard isOver else {
      throw FaultRunFailure("m\(member) goes on 15 s after its disk began to fail", log: cluster.log(of: member))
    }
    pause(0, 1)
    try cluster.start(member)
  }
}
