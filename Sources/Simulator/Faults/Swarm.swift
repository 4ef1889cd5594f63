import Primitives

/// Which faults one seed's world has, and how often.
///
/// A world with every fault at once mostly tests the commonest of them: a cluster that elects a leader every
/// second never gets as far as a snapshot. So each seed draws its own swarm: some kinds of fault, each at its
/// own rate, and none of the others. (Groce et al., "Swarm testing", 2012.)
///
/// Every fault here is one that Raft and the store's formats promise to survive, as long as an operator replaces the
/// members that refuse to start (`SimulatedAdministrator`). What they don't survive isn't in it: bytes that rot in the
/// only copy of a promise, as many disks lost at once as a majority needs.
struct Swarm: Sendable {
  /// What `injectFault` may do, with the weight of each; none of weight zero happens.
  var weights: [(fault: Fault, weight: UInt64)] = []
  var bounds = Bounds()
  /// The longest time between two faults.
  var longestCalm: UInt64 = 3_000_000_000

  // MARK: Network: one message in so many; nil for none

  var lossOneIn: UInt64?
  var delayOneIn: UInt64?
  var longestDelay: UInt64 = 300_000_000
  var duplicateOneIn: UInt64?

  // MARK: Disks

  /// One log write in so many stalls, for up to this long.
  var stallOneIn: UInt64?
  var longestStall: UInt64 = 1_500_000_000
  /// One log write in so many fails (EIO, or a failed fsync), which stops its member.
  var diskErrorOneIn: UInt64?
  /// One background job in so many fails.
  var backgroundErrorOneIn: UInt64?

  // MARK: Clocks

  /// How much faster or slower than the world's a member's clock may run, in parts per million.
  var clockDrift: UInt64 = 0

  /// After a member has promised something, it crashes once in so many: where a promise that wasn't kept
  /// would show.
  var aimedCrashOneIn: UInt64?

  enum Fault: String, CaseIterable, Sendable {
    /// Members lose power, some in the midst of a write.
    case crash
    /// All lose power at once.
    case crashAll
    /// The leader alone dies: the most interesting moment there is.
    case crashLeader
    /// The leader dies, and two of the others can't hear each other: both ask the rest for votes.
    case duel
    /// The process dies and the machine lives: nothing written is lost.
    case kill
    /// A member stands still for a while (SIGSTOP, a hypervisor's pause), and then goes on.
    case pause
    case pauseLeader
    /// One member can't reach the others.
    case isolate
    /// The members fall into two groups.
    case split
    /// One direction between two members is cut.
    case oneWay
    /// Two members can't reach each other, but both reach the rest.
    case pair
    /// What is sent between two members is held back, and then comes all at once.
    case clog
    /// A member's clock leaps ahead.
    case clockJump
    /// A disk has no room left for a while.
    case fullDisk
    /// Bytes of the newest snapshot rot on a stopped member.
    case rot
    /// Bytes of the log, or of every snapshot, rot on a stopped member, which may then refuse to start.
    case rotLog
    case rotSnapshots
    /// Sectors of the log lie where they don't belong: writes that went astray.
    case misdirect
    /// All that a member had on disk is gone.
    case loseDisk
    /// The leader is asked to hand over.
    case transfer
    /// A member joins, as a learner or as a voter.
    case addMember
    case removeMember
    case replaceMember
    /// Roles change several at once, through a joint membership.
    case joint
  }

  /// Draws a swarm.
  init(_ random: inout RandomSource) {
    func maybe(_ chance: UInt64, _ range: ClosedRange<UInt64>) -> UInt64? {
      guard random.oneIn(chance) else { return nil }
      return range.lowerBound + random.below(range.upperBound - range.lowerBound + 1)
    }
    for fault in Fault.allCases where random.oneIn(2) {
      weights.append((fault, 1 + random.below(4)))
    }
    if weights.isEmpty { weights = [(.crash, 1)] }
    longestCalm = 800_000_000 + random.below(5_000_000_000)
    lossOneIn = maybe(2, 10...200)
    delayOneIn = maybe(2, 5...50)
    longestDelay = 50_000_000 + random.below(1_500_000_000)
    duplicateOneIn = maybe(2, 20...200)
    stallOneIn = maybe(2, 8...100)
    longestStall = 200_000_000 + random.below(5_000_000_000)
    diskErrorOneIn = maybe(3, 200...2_000)
    backgroundErrorOneIn = maybe(3, 10...100)
    clockDrift = maybe(3, 100...20_000) ?? 0
    aimedCrashOneIn = maybe(2, 2...16)
    bounds = Bounds(&random)
  }

  /// A world without faults.
  init() {}

  func has(_ fault: Fault) -> Bool { weights.contains { $0.fault == fault } }

  func draw(_ random: inout RandomSource) -> Fault {
    var place = random.below(weights.reduce(0) { $0 + $1.weight })
    for (fault, weight) in weights {
      if place < weight { return fault }
      place -= weight
    }
    return weights[0].fault
  }
}

extension Swarm: CustomStringConvertible {
  var description: String {
    var parts = weights.map { "\($0.fault.rawValue) x\($0.weight)" }
    func add(_ name: String, _ oneIn: UInt64?) {
      if let oneIn { parts.append("\(name) 1/\(oneIn)") }
    }
    add("loss", lossOneIn)
    add("delay", delayOneIn)
    add("duplicates", duplicateOneIn)
    add("disk stalls", stallOneIn)
    add("disk errors", diskErrorOneIn)
    add("background errors", backgroundErrorOneIn)
    add("aimed crashes", aimedCrashOneIn)
    if clockDrift > 0 { parts.append("drift up to \(clockDrift) ppm") }
    parts.append(bounds.description)
    return parts.joined(separator: ", ")
  }
}
