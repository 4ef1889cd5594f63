import EtcdServer
import EtcdWire
import MVCC
import Primitives
import Replica
import Synchronization

/// A replica of one that applies what it is given at once: the services' tests without threads and disks.
///
/// It follows `ReplicaCore`'s contract for watches, so that joining the past to the present is tested too.
final class SynchronousFront: ReplicaFront {
  private struct State: ~Copyable {
    var store = Store()
    var registry = WatchRegistry()
    var sinks: [WatcherID: any ReplySink] = [:]
    var index = LogIndex.zero
    var view: StoreView
    var leases: [LeaseID: Int64] = [:]
    var hasLeader = true
    var alarms: [Alarm] = []
    var restrictions: Restrictions = []
    var quotaLeft = UInt64.max

    init() { view = store.publish() }
  }

  let identity = ClusterIdentity(
    cluster: 0xCDF8_1818_E326_2832, member: NodeID(0x8E9E_05C5_2164_694D))
  private let term = Term(2)
  private let state = Mutex(State())

  let tokens = LoginTokens()
  var isAuthEnabled: Bool { view.isAuthEnabled }
  var view: StoreView { state.withLock { $0.view } }

  var status: ReplicaStatus {
    state.withLock { state in
      var status = ReplicaStatus()
      status.role = .leader
      status.term = term
      status.leader = state.hasLeader ? identity.member : nil
      status.appliedIndex = state.index
      status.commitIndex = state.index
      status.alarms = state.alarms
      status.stateBytes = UInt64(state.store.allocatedBytes)
      status.members = [
        ClusterMember(
          id: identity.member, name: "one", peerURLs: ["http://localhost:2380"],
          clientURLs: ["http://localhost:2379"])
      ]
      return status
    }
  }

  func setLeader(_ hasLeader: Bool) { state.withLock { $0.hasLeader = hasLeader } }

  func submit(_ batch: ProposalBatch) {
    var deliveries: [(any ReplySink, [Reply])] = []
    state.withLock { state in
      state.index = state.index.next
      var payload: [UInt8] = []
      CommandBatch.Header(
        count: UInt32(batch.tokens.count), proposer: identity.member, firstSequence: 1
      ).append(to: &payload)
      payload += batch.commands
      let entry = state.store.apply(payload, at: state.index, term: term, wantsResults: true)
      tokens.apply(entry.authEffects, now: ReplicaService.now)
      state.view = state.store.publish()
      for effect in entry.leaseEffects {
        switch effect {
        case .granted(let id, let seconds): state.leases[id] = seconds
        case .revoked(let id): state.leases[id] = nil
        case .checkpointed: break
        }
      }
      deliveries.append(
        (
          batch.sink,
          zip(batch.tokens, entry.results).map {
            Reply(token: $0, outcome: .applied($1, term: term))
          }
        ))
      for delivery in state.registry.match(entry.events, in: state.view) {
        // One for each loop, with the loop's watchers, as `WatchTable` does it.
        let watchers = Dictionary(grouping: delivery.watchers.filter { state.sinks[$0] != nil }) {
          ObjectIdentifier(state.sinks[$0]!)
        }
        for group in watchers.values {
          let part = WatchDelivery(watchers: group, events: delivery.events)
          deliveries.append((state.sinks[group[0]]!, [Reply(token: 0, outcome: .events([part]))]))
        }
      }
    }
    for (sink, replies) in deliveries { sink.deliver(replies) }
  }

  func requestRead(token: UInt64, sink: any ReplySink) {
    let view = view
    sink.deliver([Reply(token: token, outcome: .readable(view, term: term))])
  }

  func watch(_ request: Replica.WatchRequest, token: UInt64, sink: any ReplySink) {
    let outcome: Reply.Outcome = state.withLock { state in
      let current = state.store.revision
      let start = request.startRevision
      if start > .zero, start < state.store.compactRevision {
        return .watchCompacted(state.store.compactRevision)
      }
      if start > .zero, start <= current { return .watchBehind(state.view) }
      let id = state.registry.register(
        request.range, filter: request.filter, wantsPrevious: request.wantsPrevious)
      state.sinks[id] = sink
      return .watching(id, after: start > current ? Revision(start.rawValue - 1) : current)
    }
    sink.deliver([Reply(token: token, outcome: outcome)])
  }

  func cancelWatch(_ id: WatcherID) {
    state.withLock { state in
      if state.sinks.removeValue(forKey: id) != nil { state.registry.cancel(id) }
    }
  }

  func requestProgress(token: UInt64, sink: any ReplySink) {
    let revision = view.revision
    sink.deliver([Reply(token: token, outcome: .progress(revision))])
  }

  func keepAlive(lease: LeaseID, token: UInt64, sink: any ReplySink) {
    leaseTime(lease: lease, token: token, sink: sink)
  }

  func leaseTime(lease: LeaseID, token: UInt64, sink: any ReplySink) {
    let seconds = state.withLock { $0.leases[lease] }
    let time = seconds.map { LeaseTime(granted: $0, remaining: $0) }
    sink.deliver([Reply(token: token, outcome: .leaseTime(time))])
  }

  func transferLeadership(to member: NodeID) {}

  /// There are no files here.
  func exportSnapshot(token: UInt64, sink: any ReplySink) {
    sink.deliver([Reply(token: token, outcome: .failed(.diskFailed))])
  }

  var quotaLeft: UInt64 { state.withLock { $0.quotaLeft } }
  func setQuotaLeft(_ bytes: UInt64) { state.withLock { $0.quotaLeft = bytes } }
  var restrictions: Restrictions { state.withLock { $0.restrictions } }

  func restrict(_ restrictions: Restrictions) { state.withLock { $0.restrictions = restrictions } }

  /// Knows alarms; of its members, which never change, it refuses everything.
  func change(_ command: ClusterCommand, token: UInt64, sink: any ReplySink) {
    guard case .setAlarm(let alarm, let isActive, _) = command else {
      return sink.deliver([Reply(token: token, outcome: .failed(.notEnoughStartedMembers))])
    }
    state.withLock { state in
      state.alarms.removeAll { $0 == alarm }
      if isActive { state.alarms.append(alarm) }
    }
    sink.deliver([Reply(token: token, outcome: .done)])
  }
}
