import EtcdServer
import Glibc
import MVCC
import Persistence
import Primitives
import Raft
import Replica

/// Three members on one thread: the shipped cores, with real files, whose messages are encoded and decoded on the way.
/// Everything that a request causes has happened when `submit` or `requestRead` returns, so it can be counted.
///
/// What isn't here is the kernel's part, the checksum of frames between members, and the change of threads.
final class CountedCluster: ReplicaFront, @unchecked Sendable {
  // One thread uses it.
  private var cores: [ReplicaCore] = []
  private var disks: [ReplicaDisk] = []
  private var now = Instant(nanoseconds: 1_000_000_000)
  private var leader: Int?
  private var published: [(view: StoreView, status: ReplicaStatus)?] = [nil, nil, nil]
  let tokens = LoginTokens()

  init(directory: String) throws {
    let founders = (1...3).map {
      ClusterMember(
        id: NodeID(UInt64($0)), name: "m\($0)", peerURLs: ["http://m\($0)"], clientURLs: [])
    }
    for founder in founders {
      let identity = ClusterIdentity(cluster: 1, member: founder.id)
      let (recovered, disk) = try RecoveredReplica.open(
        directory: "\(directory)/\(founder.name)", identity: identity, founders: founders,
        fileSystem: LinuxFileSystem())
      cores.append(
        ReplicaCore(
          identity: identity, settings: ReplicaSettings(), recovered: recovered, now: now,
          sequenceBase: 1, random: RandomSource(seed: founder.id.rawValue)))
      disks.append(disk)
    }
    while leader == nil {
      now = now.advanced(by: .milliseconds(100))
      for index in cores.indices { cores[index].advance(to: now) }
      settle()
      leader = published.firstIndex { $0?.status.role == .leader }
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
        for (to, message) in effects.sends { carry(message, to: to, from: member) }
        if let job = effects.log { cores[member].logWritten(disks[member].perform(job)) }
        if let new = effects.published { published[member] = new }
        for delivery in effects.deliveries { delivery.sink.deliver(delivery.replies) }
        for task in effects.background {
          cores[member].backgroundFinished(disks[member].perform(task))
        }
      }
    }
  }

  private func carry(_ message: PeerMessage, to: NodeID, from member: Int) {
    var bytes: [UInt8] = []
    message.encode(into: &bytes)
    guard let received = try? bytes.withUnsafeBytes({ try PeerMessage.decode($0) }) else {
      fatalError("a member's message that the other can't read")
    }
    cores[Int(to.rawValue) - 1].receive(received, from: NodeID(UInt64(member + 1)))
  }

  private func act(_ input: (inout ReplicaCore) -> Void) {
    input(&cores[leader!])
    settle()
  }

  private var current: (view: StoreView, status: ReplicaStatus) { published[leader!]! }

  // MARK: ReplicaFront

  var identity: ClusterIdentity {
    ClusterIdentity(cluster: 1, member: NodeID(UInt64(leader!) + 1))
  }
  var view: StoreView { current.view }
  var status: ReplicaStatus { current.status }
  var isAuthEnabled: Bool { false }
  var restrictions: Restrictions { [] }

  func submit(_ batch: ProposalBatch) { act { $0.submit(batch) } }
  func requestRead(token: UInt64, sink: any ReplySink) {
    act { $0.requestRead(token: token, sink: sink) }
  }
  func watch(_ request: WatchRequest, token: UInt64, sink: any ReplySink) {
    act { $0.watch(request, token: token, sink: sink) }
  }
  func cancelWatch(_ id: WatcherID) { act { $0.cancelWatch(id) } }
  func requestProgress(token: UInt64, sink: any ReplySink) {
    act { $0.requestProgress(token: token, sink: sink) }
  }
  func keepAlive(lease: LeaseID, token: UInt64, sink: any ReplySink) {
    act { $0.queryLease(lease, renew: true, token: token, sink: sink) }
  }
  func leaseTime(lease: LeaseID, token: UInt64, sink: any ReplySink) {
    act { $0.queryLease(lease, renew: false, token: token, sink: sink) }
  }
  func transferLeadership(to member: NodeID) { act { $0.transferLeadership(to: member) } }
  func exportSnapshot(token: UInt64, sink: any ReplySink) {
    act { $0.exportSnapshot(token: token, sink: sink) }
  }
  func change(_ command: ClusterCommand, token: UInt64, sink: any ReplySink) {
    act { $0.change(command, token: token, sink: sink) }
  }
}
