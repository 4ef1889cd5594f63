import Foundation
import Primitives
import TestKit

#if canImport(Glibc)
  import Glibc
#endif

/// Draws faults from a seed and makes them, one after the other, until the time is up.
///
/// Each fault ends before the next begins, and after each the cluster must take writes again: a run that was
/// stuck from its first fault on would prove nothing. Belongs to one thread, which it blocks.
final class FaultInjector {
  let cluster: FaultedCluster
  let recorder: Recorder
  let admin = Operator()
  private let options: FaultRunOptions
  private var random: RandomSource
  /// For what a fault draws by itself.
  var own: RandomSource
  private let started = Recorder.now()
  /// How often each fault was made.
  private(set) var made: [Fault: Int] = [:]
  /// Faults that this machine can't make, and why.
  private(set) var skipped: [Fault: String] = [:]
  private(set) var smallDisk: SmallDisk?
  /// The disks of the other members, which can forget and fail.
  private(set) var lossyDisks: [Int: LossyDisk] = [:]
  /// The member whose data lies on the small disk.
  let smallDiskMember = 0
  /// How long the cluster took at worst to take writes again after a fault.
  private(set) var slowestRecovery = 0.0

  init(_ options: FaultRunOptions, recorder: Recorder, random: RandomSource) throws {
    self.options = options
    self.recorder = recorder
    self.random = random
    own = self.random.split()
    cluster = try FaultedCluster(options, random: own.split())
    let needsLossy = options.faults.contains { $0.needsLossyDisk }
    if SmallDisk.obstacle == nil, options.faults.contains(.fullDisk) {
      smallDisk = try SmallDisk(in: options.folder, name: "small", mebibytes: 700)
    }
    if LossyDisk.obstacle == nil, needsLossy {
      for member in cluster.members.indices.dropFirst() {
        lossyDisks[member] = try LossyDisk(at: "\(options.folder)/lossy\(member)")
      }
    }
    for fault in Fault.allCases {
      if fault == .fullDisk, let obstacle = SmallDisk.obstacle { skipped[fault] = obstacle }
      if fault.needsLossyDisk, let obstacle = LossyDisk.obstacle { skipped[fault] = obstacle }
    }
    if let smallDisk { cluster.place(smallDiskMember, on: smallDisk.path) }
    for (member, disk) in lossyDisks { cluster.place(member, on: disk.path) }
  }

  func say(_ what: String) {
    guard options.isVerbose else { return }
    report(String(format: "%8.2f s  %@", Double(Recorder.now() - started) / 1e9, what))
  }

  // MARK: The schedule

  /// Starts the cluster and waits until it serves.
  func begin() throws {
    try cluster.startAll()
    try awaitService(of: Array(cluster.members.indices), seconds: 60)
  }

  /// Makes faults for as long as the options say.
  func makeFaults() throws {
    let end = started + UInt64(options.seconds * 1e9)
    var bag: [Fault] = []
    while Recorder.now() < end {
      // Every fault comes as often as any other.
      if bag.isEmpty { bag = options.faults.filter { skipped[$0] == nil }.shuffled(using: &random) }
      guard let fault = bag.popLast() else { throw FaultRunFailure("no fault can be made on this machine") }
      try make(fault)
      if fault.isWeather, random.oneIn(3),
        let other = options.faults.filter(\.combines).randomElement(using: &random)
      {
        try make(other)
      }
      try repairNetwork()
      try expectProgress(after: fault)
      pause(0.2, 1.2)
    }
  }

  private func make(_ fault: Fault) throws {
    say(fault.rawValue)
    made[fault, default: 0] += 1
    switch fault {
    case .killLeader: try kill([leader()])
    case .killOne: try kill([any()])
    case .killAll: try kill(Array(cluster.members.indices))
    case .pauseLeader: try freeze(leader())
    case .pauseOne: try freeze(any())
    case .isolateLeader: try isolate(leader())
    case .isolateOne: try isolate(any())
    case .divide: try divide()
    case .oneWay: try cutOneWay()
    case .pair: try cutPair()
    case .loss: try losePackets()
    case .slow: try slowDown()
    case .rollingRestart: try restartInTurn()
    case .transfer: try transferLeadership()
    case .replace: try replaceMember(any())
    case .fullDisk: try fillDisk()
    case .losePower: try losePower(oneIn(2) ? [leader()] : [any()])
    case .loseAllPower: try losePower(Array(cluster.members.indices))
    case .slowDisk: try slowDisk()
    case .failSync: try failSync()
    }
  }

  /// Ends whatever is under way, and waits until every member serves.
  func heal() throws {
    say("everything is healed")
    try repairNetwork()
    smallDisk?.clear()
    for disk in lossyDisks.values {
      disk.delaySyncs(.zero)
      disk.failSyncs(false)
    }
    for member in cluster.members.indices where cluster.members[member].isPaused { cluster.goOn(member) }
    try cluster.startAll()
    try awaitService(of: Array(cluster.members.indices), seconds: 60)
    try cluster.verifyAlive()
  }

  // MARK: What faults are made of

  func any() -> Int { Int(random.below(UInt64(cluster.members.count))) }
  func leader() -> Int { admin.leader(among: cluster.running) ?? any() }
  func oneIn(_ n: UInt64) -> Bool { random.oneIn(n) }
  func below(_ n: Int) -> Int { Int(random.below(UInt64(n))) }
  func shuffledMembers() -> [Int] { cluster.members.indices.shuffled(using: &random) }

  /// Lets the fault, or the calm, go on for a while.
  func pause(_ least: Double, _ most: Double) {
    let share = Double(random.below(1_000)) / 1_000
    usleep(UInt32((least + share * (most - least)) * 1e6))
  }

  func repairNetwork() throws { try cluster.network.apply(Weather()) }

  func awaitService(of members: [Int], seconds: Double) throws {
    for member in members {
      let isServed = try waitUntil(seconds: seconds, every: 0.1) {
        try cluster.verifyAlive()
        return admin.serves(member)
      }
      guard isServed else {
        throw FaultRunFailure("m\(member) doesn't serve after \(seconds) s", log: cluster.log(of: member))
      }
    }
  }

  private func expectProgress(after fault: Fault) throws {
    let repaired = Recorder.now()
    let before = recorder.newestRevision
    let isProgress = try waitUntil(seconds: 30, every: 0.02) {
      try cluster.verifyAlive()
      return recorder.newestRevision > before
    }
    let took = Double(Recorder.now() - repaired) / 1e9
    slowestRecovery = max(slowestRecovery, took)
    guard isProgress else {
      let logs = cluster.members.indices.map { "m\($0):\n\(cluster.log(of: $0))" }.joined(separator: "\n")
      throw FaultRunFailure("no write was taken within 30 s after \(fault.rawValue) was repaired", log: logs)
    }
  }
}
