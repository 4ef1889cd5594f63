import MVCC
import Persistence
import Primitives
import Raft
import SimulatedStorage

@testable import Replica

/// Keeps what a core answers.
final class RecordingSink: ReplySink, @unchecked Sendable {
  // Used on the test's thread alone.
  private(set) var replies: [Reply] = []
  func deliver(_ replies: [Reply]) { self.replies += replies }
}

/// A few cores that talk to each other at once and whose disks answer at once: for tests of what the cores say,
/// in a situation that the test makes step by step. Faults belong in the simulator.
final class CoreCluster {
  private(set) var cores: [ReplicaCore] = []
  private var disks: [ReplicaDisk] = []
  /// What lies under each member.
  private(set) var devices: [SimulatedDisk] = []
  private var now = Instant(nanoseconds: 1_000_000_000)
  /// Members that hear and are heard by nobody.
  var isolated: Set<Int> = []

  init(members: Int, settings: ReplicaSettings = ReplicaSettings()) throws {
    let founders = (1...members).map {
      ClusterMember(
        id: NodeID(UInt64($0)), name: "m\($0)", peerURLs: ["http://m\($0)"], clientURLs: [])
    }
    for founder in founders {
      let identity = ClusterIdentity(cluster: 1, member: founder.id)
      let device = SimulatedDisk(seed: founder.id.rawValue)
      devices.append(device)
      let (recovered, disk) = try RecoveredReplica.open(
        directory: "/data", identity: identity, founders: founders, fileSystem: device,
        logSettings: LogSettings(segmentBytes: 16 << 10, preparedSegments: 1))
      cores.append(
        ReplicaCore(
          identity: identity, settings: settings, recovered: recovered, now: now,
          sequenceBase: 1, random: RandomSource(seed: founder.id.rawValue)))
      disks.append(disk)
    }
  }

  /// The leader of the highest term.
  var leader: Int? {
    cores.indices.filter { cores[$0].role == .leader }
      .max { cores[$0].raft.term < cores[$1].raft.term }
  }

  /// Lets a core take in something, and all cores draw their conclusions until nothing is left to do.
  func act(_ member: Int, _ input: (inout ReplicaCore) -> Void) {
    input(&cores[member])
    settle()
  }

  /// Lets time pass, in ticks.
  func tick(_ count: Int, only members: [Int]? = nil) {
    for _ in 0..<count {
      now = now.advanced(by: .milliseconds(100))
      for member in members ?? Array(cores.indices) { cores[member].advance(to: now) }
      settle()
    }
  }

  private func settle() {
    var isBusy = true
    while isBusy {
      isBusy = false
      for member in cores.indices {
        cores[member].pump()
        let effects = cores[member].takeEffects()
        if effects.isEmpty { continue }
        isBusy = true
        for delivery in effects.deliveries { delivery.sink.deliver(delivery.replies) }
        for (to, message) in effects.sends {
          let target = Int(to.rawValue) - 1
          if isolated.contains(member) || isolated.contains(target) { continue }
          cores[target].receive(message, from: NodeID(UInt64(member + 1)))
        }
        if let job = effects.log { cores[member].logWritten(disks[member].perform(job)) }
        for task in effects.background {
          cores[member].backgroundFinished(disks[member].perform(task))
        }
      }
    }
  }
}
