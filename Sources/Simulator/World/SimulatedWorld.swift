import MVCC
import Persistence
import Primitives
import Raft
import Replica
import SimulatedStorage
import Verification

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
/// A run has two parts. First faults, of the kinds that the seed's `Swarm` has, while clients write, read, watch
/// and hold leases. Never more faults than Raft promises to survive, so every violation is a bug. Then
/// everything is healed, and within a bounded time the cluster must serve again, all members must agree to
/// the byte, and everything acknowledged must be there.
///
/// ## What is checked
/// After each event (`SafetyChecks`, `LeaseChecks`, `SimulatedWorld+Promises`, `+Memberships`): one leader a term, with
/// the votes of a quorum; one change of the members at a time; equal state
/// hashes at equal applied indexes; nothing applied is ever un-applied on a member; commit and revision only
/// rise; a reply never names a revision that its member has not published, nor an older one than was known;
/// a vote or acknowledgement that leaves is on its sender's disk; no lease ends before its time.
/// At the end (`SimulatedWorld+End`): liveness, agreement, no lease outlives its time, and the library that
/// checks real processes, too, `Verification`: the clients' history is linearizable, and every watch stream
/// kept its guarantees.
public struct SimulatedWorld {
  /// A member's place in the world; the process in it comes and goes.
  struct Member {
    let id: NodeID
    /// Whom it asks to let it in at its first start; nil for a founder.
    var cluster: [ClusterMember]?
    /// Whether it takes part or is about to: its addition is decided and its removal is not.
    var isPresent = true
    /// It will not run any more: it was removed and has stopped, or its disk was lost.
    var isGone = false
    /// Snapshots that rotted, by path.
    var rotten: Set<String> = []
    /// Its disk is damaged in a way that may keep it from starting.
    var isDamaged = false
    var disk: SimulatedDisk
    var clock: SimulatedClock
    /// Nil while it is down.
    var running: Running?
    /// Rises at each start, so that what an earlier life asked for finds nobody.
    var life = 0
    /// It stands still until then.
    var pausedUntil = Instant.origin
    /// A disk error was put in: the member may stop itself, or fail to start.
    var mayFail = false
  }

  /// A living process. A class, so that its core is changed in place.
  final class Running {
    var core: ReplicaCore
    let files: ReplicaDisk
    /// Whom it speaks with, and those that it no longer speaks with, from when on.
    var roster: ClusterRoster
    var lettingGo: [NodeID: Instant] = [:]
    /// Those that it doesn't know, and that have called and said where they listen.
    var introduced: Set<NodeID> = []
    let sink = SimulatedSink()
    /// The published view and status, as this member's readers see them.
    var view: StoreView?
    var status = ReplicaStatus()
    /// The log write under way, for a crash to tear.
    var logJob: DiskJob?
    /// When the background thread is free again.
    var backgroundFreeAt = Instant.origin

    init(core: ReplicaCore, files: ReplicaDisk, roster: ClusterRoster) {
      self.core = core
      self.files = files
      self.roster = roster
    }
  }

  enum Event {
    case wake(member: Int, life: Int)
    case deliver(from: Int, to: Int, message: PeerMessage)
    case logDone(member: Int, life: Int, job: DiskJob)
    case background(member: Int, life: Int, task: BackgroundTask)
    case client(Int)
    case arrival(client: Int, operation: UInt64, life: Int)
    case clientTimeout(Int, operation: UInt64)
    case watcher(Int)
    case catchUp(watcher: Int, token: UInt64, view: StoreView)
    case fault
    case crash(member: Int, life: Int)
    case restart(member: Int)
    case heal(partition: Int)
    case freeDisk(member: Int)
    case administer
    case jointMembership
    case backup
  }

  let options: SimulationOptions
  let swarm: Swarm
  var random: RandomSource
  var now = Instant(nanoseconds: 1_000_000_000)
  var schedule = Schedule<Event>()
  var members: [Member]
  let founders: [ClusterMember]
  let cluster: UInt64 = 0xC1
  var clients: [SimulatedClient]
  var watchers: [SimulatedWatcher] = []
  var administrator: SimulatedAdministrator
  var checks = SafetyChecks()
  var leases: LeaseChecks
  /// What the clients of the model's requests saw.
  var history = History()
  /// Pairs that can't reach each other: (from, to).
  var blocked: [Int: [(from: Int, to: Int)]] = [:]
  /// Pairs whose messages are held back until the instant.
  var clogged: [Int: (from: Int, to: Int, until: Instant)] = [:]
  var nextPartition = 0
  let faultsEnd: Instant
  var report = SimulationReport()
  var isHealed = false
  /// A snapshot that the administrator took, and its token while it is on its way.
  var backup: [UInt8]?
  var backupToken: UInt64?
  /// The newest revision that any client has been told of.
  var newestKnown = Revision(1)
  /// The terms of the entries that each leader has sent, by the leader's term.
  var sentTerms: [Term: [LogIndex: Term]] = [:]
  /// The newest change of the members that each leader has sent, by its term.
  var lastChanges: [Term: LogIndex] = [:]
  /// For whom each member voted, by term.
  var votes: [Term: [NodeID: NodeID]] = [:]
  /// The next client operation's number, which also makes its value unlike any other.
  var nextOperation: UInt64 = 1

  public init(seed: UInt64, options: SimulationOptions = SimulationOptions()) {
    self.options = options
    var random = RandomSource(seed: seed)
    var swarm = Swarm()
    if options.hasFaults {
      var swarmRandom = random.split()
      swarm = Swarm(&swarmRandom)
      for fault in options.required where !swarm.has(fault) { swarm.weights.append((fault, 3)) }
      options.adjustSwarm?(&swarm)
    }
    report.seed = seed
    founders = (0..<options.memberCount).map { position in
      ClusterMember(
        id: NodeID(UInt64(position + 1)), name: "", peerURLs: ["http://m\(position + 1)"],
        clientURLs: [])
    }
    members = []
    for founder in founders {
      members.append(Self.makeMember(founder.id, swarm, at: now, &random))
    }
    administrator = SimulatedAdministrator(nextID: UInt64(options.memberCount + 1))
    clients = (0..<options.clientCount).map { SimulatedClient(number: $0) }
    leases = LeaseChecks(drift: swarm.clockDrift * 2, isOn: !swarm.has(.clockJump))
    faultsEnd = now.advanced(by: options.faultyTime)
    self.random = random
    self.swarm = swarm
  }

  static func makeMember(
    _ id: NodeID, _ swarm: Swarm, at now: Instant, _ random: inout RandomSource
  ) -> Member {
    var own = random.split()
    let disk = SimulatedDisk(seed: own.next())
    let drift = Int64(own.below(swarm.clockDrift * 2 + 1)) - Int64(swarm.clockDrift)
    // Monotonic clocks begin anywhere.
    let reading = Instant(nanoseconds: 1_000_000_000 + own.below(1_000_000_000_000))
    return Member(
      id: id, disk: disk, clock: SimulatedClock(at: now, reading: reading, drift: drift))
  }

  /// Runs the seed to its end.
  ///
  /// - Throws: `Violation`, the first that a check found.
  public mutating func run() throws -> SimulationReport {
    trace("swarm: \(swarm)")
    for position in members.indices { try start(position) }
    for client in clients.indices {
      schedule.add(.client(client), at: now.advanced(byNanoseconds: random.below(500_000_000)))
    }
    drawWatchers()
    if options.hasFaults { schedule.add(.fault, at: delay(200_000_000, 2_000_000_000)) }
    schedule.add(.administer, at: delay(100_000_000, 1_000_000_000))
    schedule.add(.backup, at: delay(2_000_000_000, options.faultyTime.wholeNanoseconds))
    try advance(until: faultsEnd)
    try healAndSettle()
    return report
  }

  mutating func advance(until end: Instant) throws {
    while let (time, event) = schedule.next(before: end) {
      now = time
      report.events += 1
      try handle(event)
    }
    now = end
  }

  private mutating func handle(_ event: Event) throws {
    if let member = event.member, members[member].pausedUntil > now {
      return postpone(event, member)
    }
    switch event {
    case .wake(let member, let life):
      guard isAlive(member, life) else { return }
      try pump(member) { _ in }
    case .deliver(let from, let to, let message):
      guard let running = members[to].running, !isBlocked(from, to) else { return }
      let sender = members[from].id
      guard lets(sender, in: running) else { return }
      try pump(to) { $0.receive(message, from: sender) }
    case .logDone(let member, let life, let job):
      guard isAlive(member, life) else { return }
      members[member].running!.logJob = nil
      let result = withDiskErrors(member, oneIn: swarm.diskErrorOneIn) { $0.perform(job) }
      try pump(member) { $0.logWritten(result) }
    case .background(let member, let life, let task):
      guard isAlive(member, life) else { return }
      let result = withDiskErrors(member, oneIn: swarm.backgroundErrorOneIn) { $0.perform(task) }
      if case .snapshotStored(let stored, _) = result, stored.loaded != nil {
        report.snapshotsInstalled += 1
        trace("\(name(member)) has received the snapshot at \(stored.index)")
      }
      try pump(member) { $0.backgroundFinished(result) }
    case .client(let client):
      try startOperation(client)
    case .arrival(let client, let operation, let life):
      try submitOperation(client, operation, life: life)
    case .clientTimeout(let client, let operation):
      giveUp(client, operation)
    case .watcher(let watcher):
      try attend(watcher)
    case .catchUp(let watcher, let token, let view):
      try catchUp(watcher, token: token, view: view)
    case .fault:
      if !isHealed { try injectFault() }
    case .crash(let member, let life):
      if !isHealed, isAlive(member, life) { crash(member, downFor: 1_000_000...30_000_000) }
    case .restart(let member):
      if members[member].running == nil, !members[member].isGone { try start(member) }
    case .heal(let partition):
      blocked[partition] = nil
      clogged[partition] = nil
    case .freeDisk(let member):
      members[member].disk.capacity = .max
    case .administer:
      try administer()
    case .jointMembership:
      if !isHealed { try requestJointMembership() }
    case .backup:
      try takeBackup()
    }
  }

  /// The members that take part, whether they run or not.
  var present: [Int] { members.indices.filter { members[$0].isPresent && !members[$0].isGone } }

  /// What reaches a member that stands still waits for it to go on.
  private mutating func postpone(_ event: Event, _ member: Int) {
    let end = members[member].pausedUntil
    if case .wake = event {
      schedule.addWake(event, at: end, key: member)
    } else {
      schedule.add(event, at: end)
    }
  }

  func isAlive(_ member: Int, _ life: Int) -> Bool {
    members[member].running != nil && members[member].life == life
  }

  /// A time that lies between `least` and `most` nanoseconds ahead.
  mutating func delay(_ least: UInt64, _ most: UInt64) -> Instant {
    now.advanced(byNanoseconds: least + random.below(most - least + 1))
  }

  // MARK: Telling

  func name(_ member: Int) -> String { "m\(members[member].id)" }

  func trace(_ text: @autoclosure () -> String) {
    guard let trace = options.trace else { return }
    let milliseconds = (now.nanoseconds - 1_000_000_000) / 1_000_000
    trace("\(milliseconds) ms: \(text())")
  }
}

extension SimulatedWorld.Event {
  /// The member whose process takes the event.
  fileprivate var member: Int? {
    switch self {
    case .wake(let member, _), .logDone(let member, _, _), .background(let member, _, _),
      .deliver(_, let member, _):
      member
    default: nil
    }
  }
}
