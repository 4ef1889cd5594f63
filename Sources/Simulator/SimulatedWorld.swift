import MVCC
import Persistence
import Primitives
import Raft
import Replica
import SimulatedStorage

/// A store cluster on a simulated clock, network and disk, and the clients that use and check it.
///
/// ## The problem
/// The bugs that lose data need a crash between two particular instants, a message that overtakes another
/// and a disk that lies, all at once. No test on a real machine meets them twice.
///
/// ## The design
/// The world is a queue of events in simulated time. What runs in it is the shipped code: `ReplicaCore` with
/// its Raft, log and state machine, `ReplicaDisk`, the formats on disk. Only threads, clock, network and disk
/// are replaced: an effect of a core becomes an event after a drawn delay. All draws come from one seed, and
/// nothing else is random, so a seed *is* a run, to be replayed, narrowed down and kept as a test.
///
/// A run has two parts. First faults: crashes that lose unsynced bytes, partitions, lost and delayed
/// messages, slow disks, while clients write and read. Never more faults than Raft promises to survive, so
/// every violation is a bug. Then everything is healed, and within a bounded time the cluster must serve
/// again, all members must agree to the byte, and everything acknowledged must be there.
///
/// ## What is checked
/// After each event: one leader a term; equal state hashes at equal applied indexes; nothing applied is ever
/// un-applied on a member; a reply never names a revision that its member has not published. For each
/// client operation: revisions respect real time, which with the store's own revisions is linearizability:
/// an operation that began after another ended sees at least its revision. At the end: liveness, agreement,
/// and every acknowledged put readable at its revision.
public struct SimulatedWorld {
  /// A member's place in the world; the member in it comes and goes.
  struct Member {
    let id: NodeID
    let disk: SimulatedDisk
    /// Nil while it is down.
    var running: Running?
    /// Rises at each start, so that what an earlier life asked for finds nobody.
    var life = 0
    /// The highest applied index that any life has published.
    var published: ReplicaStatus?
  }

  struct Running {
    var core: ReplicaCore
    let files: ReplicaDisk
    let sink: SimulatedSink
    /// The published view and status, as this member's readers see them.
    var view: StoreView?
    var status = ReplicaStatus()
    /// The log write under way, for a crash to tear.
    var logJob: DiskJob?
    /// When the background thread is free again.
    var backgroundFreeAt = Instant.origin
  }

  enum Event {
    case wake(member: Int, life: Int)
    case deliver(from: Int, to: Int, message: PeerMessage)
    case logDone(member: Int, life: Int, job: DiskJob)
    case background(member: Int, life: Int, task: BackgroundTask)
    case client(Int)
    case clientTimeout(Int, operation: UInt64)
    case fault
    case crash(member: Int, life: Int)
    case restart(member: Int)
    case heal(partition: Int)
  }

  let options: SimulationOptions
  var random: RandomSource
  var now = Instant(nanoseconds: 1_000_000_000)
  var schedule = Schedule<Event>()
  var members: [Member]
  let founders: [ClusterMember]
  let cluster: UInt64 = 0xC1
  var clients: [SimulatedClient]
  var checks: SafetyChecks
  /// Pairs that can't reach each other: (from, to).
  var blocked: [Int: [(from: Int, to: Int)]] = [:]
  var nextPartition = 0
  var faultsEnd: Instant
  var report = SimulationReport()
  var isHealed = false
  /// The newest revision that any client has been told of.
  var newestKnown = Revision(1)
  /// The terms of the entries that each leader has sent, by the leader's term.
  var sentTerms: [Term: [LogIndex: Term]] = [:]
  /// The next client operation's number, which also makes its value unlike any other.
  var nextOperation: UInt64 = 1

  public init(seed: UInt64, options: SimulationOptions = SimulationOptions()) {
    self.options = options
    random = RandomSource(seed: seed)
    report.seed = seed
    founders = (0..<options.memberCount).map { position in
      ClusterMember(
        id: NodeID(UInt64(position + 1)), name: "", peerURLs: ["http://m\(position + 1)"],
        clientURLs: [])
    }
    var diskRandom = random.split()
    members = founders.map { Member(id: $0.id, disk: SimulatedDisk(seed: diskRandom.next())) }
    clients = (0..<options.clientCount).map { SimulatedClient(number: $0) }
    checks = SafetyChecks()
    faultsEnd = now.advanced(by: options.faultyTime)
  }

  /// Runs the seed to its end.
  ///
  /// - Throws: `Violation`, the first that a check found.
  public mutating func run() throws -> SimulationReport {
    for position in members.indices { try start(position) }
    for client in clients.indices {
      schedule.add(.client(client), at: now.advanced(byNanoseconds: random.below(500_000_000)))
    }
    if options.hasFaults { schedule.add(.fault, at: delay(200_000_000, 2_000_000_000)) }
    try advance(until: faultsEnd)
    try healAndSettle()
    return report
  }

  private mutating func advance(until end: Instant) throws {
    while let (time, event) = schedule.next(before: end) {
      now = time
      report.events += 1
      try handle(event)
    }
    now = end
  }

  private mutating func handle(_ event: Event) throws {
    switch event {
    case .wake(let member, let life):
      guard isAlive(member, life) else { return }
      try pump(member) { _ in }
    case .deliver(let from, let to, let message):
      guard members[to].running != nil, !isBlocked(from, to) else { return }
      let sender = members[from].id
      try pump(to) { $0.receive(message, from: sender) }
    case .logDone(let member, let life, let job):
      guard isAlive(member, life) else { return }
      members[member].running!.logJob = nil
      let result = members[member].running!.files.perform(job)
      try pump(member) { $0.logWritten(result) }
    case .background(let member, let life, let task):
      guard isAlive(member, life) else { return }
      let result = members[member].running!.files.perform(task)
      try pump(member) { $0.backgroundFinished(result) }
    case .client(let client):
      try startOperation(client)
    case .clientTimeout(let client, let operation):
      giveUp(client, operation)
    case .fault:
      if !isHealed { try injectFault() }
    case .crash(let member, let life):
      if !isHealed, isAlive(member, life) { crash(member, downFor: 1_000_000...30_000_000) }
    case .restart(let member):
      if members[member].running == nil { try start(member) }
    case .heal(let partition):
      blocked[partition] = nil
    }
  }

  func isAlive(_ member: Int, _ life: Int) -> Bool {
    members[member].running != nil && members[member].life == life
  }

  /// A time that lies between `least` and `most` nanoseconds ahead.
  mutating func delay(_ least: UInt64, _ most: UInt64) -> Instant {
    now.advanced(byNanoseconds: least + random.below(most - least + 1))
  }

  // MARK: Members

  mutating func start(_ position: Int) throws {
    members[position].life += 1
    let identity = ClusterIdentity(cluster: cluster, member: members[position].id)
    let (recovered, files): (RecoveredReplica, ReplicaDisk)
    do {
      (recovered, files) = try RecoveredReplica.open(
        directory: "/data", identity: identity, founders: founders,
        fileSystem: members[position].disk,
        logSettings: LogSettings(
          segmentBytes: options.segmentBytes, preparedSegments: 1, compressionThreshold: 4096))
    } catch {
      throw Violation("member \(members[position].id) can't read its own files: \(error)", now)
    }
    var settings = ReplicaSettings()
    settings.name = "m\(position + 1)"
    settings.snapshotCount = options.snapshotCount
    #if PLANTED_BUGS
      settings.plantedBugs = options.plantedBugs
    #endif
    let core = ReplicaCore(
      identity: identity, settings: settings, recovered: recovered, now: now,
      sequenceBase: UInt64(members[position].life) << 32, random: random.split())
    members[position].running = Running(core: core, files: files, sink: SimulatedSink())
    try pump(position) { _ in }
  }

  /// Lets a member take in something, draw its conclusions, and turns its effects into events.
  mutating func pump(_ position: Int, _ input: (inout ReplicaCore) -> Void) throws {
    guard var running = members[position].running else { return }
    // Taken out so that the core is changed in place.
    members[position].running = nil
    running.core.advance(to: now)
    input(&running.core)
    running.core.pump()
    let effects = running.core.takeEffects()
    let life = members[position].life
    if let (view, status) = effects.published {
      running.view = view
      running.status = status
      try checks.published(status, by: members[position].id, life: life, at: now)
    }
    for delivery in effects.deliveries { delivery.sink.deliver(delivery.replies) }
    if let job = effects.log {
      running.logJob = job
      schedule.add(.logDone(member: position, life: life, job: job), at: diskDelay())
    }
    for (to, message) in effects.sends {
      try checkPromise(in: message, from: position)
      send(message, from: position, to: to)
    }
    for task in effects.background {
      // One thread: each task begins when the last has ended.
      let start = max(now, running.backgroundFreeAt)
      let end = start.advanced(byNanoseconds: 100_000 + random.below(20_000_000))
      running.backgroundFreeAt = end
      schedule.add(.background(member: position, life: life, task: task), at: end)
    }
    let wakeAt = running.core.hasMaintenance ? now : max(running.core.nextDeadline, now)
    let failure = running.core.failure
    let replies = running.sink.take()
    members[position].running = running
    schedule.addWake(
      .wake(member: position, life: life), at: wakeAt.advanced(byNanoseconds: 1), key: position)
    if let failure {
      throw Violation("member \(members[position].id) stopped by itself: \(failure)", now)
    }
    for reply in replies { try receive(reply, from: position) }
  }

  private mutating func diskDelay() -> Instant {
    // Mostly a fast disk; now and then a stall, which must not cost more than time.
    if options.hasFaults, !isHealed, random.oneIn(options.diskStallOdds) {
      return delay(20_000_000, options.longestDiskStall.wholeNanoseconds)
    }
    return delay(60_000, 600_000)
  }

  // MARK: Network

  func isBlocked(_ from: Int, _ to: Int) -> Bool {
    blocked.values.contains { $0.contains { $0.from == from && $0.to == to } }
  }

  private mutating func send(_ message: PeerMessage, from: Int, to: NodeID) {
    guard let target = members.firstIndex(where: { $0.id == to }) else { return }
    report.messages += 1
    let isFaulty = options.hasFaults && !isHealed
    if isFaulty, case .raft(let message) = message { aimAt(message.body, from: from) }
    if isFaulty, random.oneIn(50) { return }
    let arrival =
      isFaulty && random.oneIn(20) ? delay(5_000_000, 300_000_000) : delay(50_000, 2_000_000)
    schedule.add(.deliver(from: from, to: target, message: message), at: arrival)
    // TCP never repeats a message, but Raft must bear it.
    if isFaulty, random.oneIn(100), case .raft = message {
      schedule.add(
        .deliver(from: from, to: target, message: message), at: delay(1_000_000, 500_000_000))
    }
  }

  // MARK: Faults

  /// Crashes a member right after it has promised something: a vote, or that it holds entries. If what it
  /// promised was not on its disk, this is when it shows.
  private mutating func aimAt(_ body: Message.Body, from member: Int) {
    let isHit: Bool
    switch body {
    case .voteResponse(let vote): isHit = vote.isGranted && random.oneIn(4)
    case .appendAccepted: isHit = random.oneIn(600)
    default: isHit = false
    }
    guard isHit else { return }
    schedule.add(
      .crash(member: member, life: members[member].life), at: delay(1_000, 60_000))
  }

  private mutating func injectFault() throws {
    schedule.add(.fault, at: delay(300_000_000, 3_000_000_000))
    switch random.below(10) {
    case 0..<5: try crashSome()
    case 5..<8: partition()
    case 8:
      // One direction only.
      let from = Int(random.below(UInt64(members.count)))
      let to = (from + 1 + Int(random.below(UInt64(members.count - 1)))) % members.count
      block([(from, to)])
    default:
      // The leader alone dies: the most interesting moment there is.
      if let leader = members.firstIndex(where: { $0.running?.status.role == .leader }) {
        crash(leader)
      }
    }
  }

  /// Crashes any number of members: what a quorum acknowledged is on a quorum's disks.
  private mutating func crashSome() throws {
    let count = random.oneIn(4) ? members.count : 1
    var candidates = Array(members.indices)
    for _ in 0..<count {
      let victim = candidates.remove(at: Int(random.below(UInt64(candidates.count))))
      crash(victim)
    }
  }

  private mutating func crash(
    _ position: Int, downFor: ClosedRange<UInt64> = 20_000_000...4_000_000_000
  ) {
    guard let running = members[position].running else { return }
    report.crashes += 1
    let disk = members[position].disk
    if let job = running.logJob, random.oneIn(2) {
      // The write under way gets through in part.
      disk.failPower(after: Int(random.below(UInt64(job.operations.count) + 1)))
      _ = running.files.perform(job)
    }
    disk.crash()
    members[position].running = nil
    abandonOperations(at: position)
    for other in members.indices where other != position {
      // Their connections are reset, sooner or later.
      if random.oneIn(2), members[other].running != nil {
        let dead = members[position].id
        members[other].running!.core.connectionLost(to: dead)
      }
    }
    schedule.add(.restart(member: position), at: delay(downFor.lowerBound, downFor.upperBound))
  }

  private mutating func partition() {
    report.partitions += 1
    let alone = Int(random.below(UInt64(members.count)))
    var pairs: [(from: Int, to: Int)] = []
    for other in members.indices where other != alone {
      pairs.append((alone, other))
      pairs.append((other, alone))
    }
    block(pairs)
  }

  private mutating func block(_ pairs: [(from: Int, to: Int)]) {
    blocked[nextPartition] = pairs
    schedule.add(.heal(partition: nextPartition), at: delay(200_000_000, 6_000_000_000))
    nextPartition += 1
  }

  // MARK: The end

  private mutating func healAndSettle() throws {
    isHealed = true
    blocked = [:]
    for position in members.indices where members[position].running == nil { try start(position) }
    // The clients go on: the cluster must serve them all again within this time.
    let served = clients.map(\.completed)
    try advance(until: now.advanced(by: options.settleTime))
    for (client, before) in zip(clients, served) where client.completed <= before {
      throw Violation(
        "no progress: client \(client.number) was not served within "
          + "\(options.settleTime.components.seconds) s after the last fault", now)
    }
    for client in clients.indices { clients[client].isStopped = true }
    try advance(until: now.advanced(by: .seconds(20)))
    try checkAgreement()
    report.simulatedSeconds = Double(now.nanoseconds - 1_000_000_000) / 1_000_000_000
    report.operations = clients.reduce(0) { $0 + $1.completed }
    report.leaders = checks.leaderCount
  }

  private func checkAgreement() throws {
    let statuses = members.map { $0.running!.status }
    guard Set(statuses.map(\.appliedIndex)).count == 1 else {
      throw Violation(
        "members stand at different indexes at rest: \(statuses.map(\.appliedIndex))", now)
    }
    guard Set(statuses.map(\.stateHash)).count == 1 else {
      throw Violation("members disagree at rest: \(statuses.map(\.stateHash))", now)
    }
    for position in members.indices {
      guard let view = members[position].running?.view else { continue }
      try checks.verifyAcknowledged(in: view, of: members[position].id, at: now)
    }
  }
}
