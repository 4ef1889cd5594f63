import MVCC
import Primitives
import Raft

// Lease deadlines: kept on the leader, asked for from anywhere.

/// Questions about leases that this follower has sent to the leader.
struct LeaseQueries {
  private struct Waiting {
    let token: UInt64
    let sink: any ReplySink
    let deadline: Instant
  }
  private var waiting: [UInt64: Waiting] = [:]
  /// Ids in order of asking; answered ones are skipped.
  private var order: [UInt64] = []
  private var nextID: UInt64 = 1

  mutating func insert(token: UInt64, sink: any ReplySink, deadline: Instant) -> UInt64? {
    guard waiting.count < ReplicaLimits.pendingLeaseQueries else { return nil }
    let id = nextID
    nextID += 1
    waiting[id] = Waiting(token: token, sink: sink, deadline: deadline)
    order.append(id)
    return id
  }

  mutating func answer(_ id: UInt64, _ time: LeaseTime?, into effects: inout Effects) {
    guard let query = waiting.removeValue(forKey: id) else { return }
    effects.deliver(Reply(token: query.token, outcome: .leaseTime(time)), to: query.sink)
  }

  mutating func giveUpExpired(now: Instant, into effects: inout Effects) {
    var passed = 0
    while passed < order.count {
      if let query = waiting[order[passed]] {
        guard query.deadline <= now else { break }
        effects.deliver(Reply(token: query.token, outcome: .failed(.timedOut)), to: query.sink)
        waiting[order[passed]] = nil
      }
      passed += 1
    }
    order.removeFirst(passed)
  }

  /// The leader changed: nobody will answer.
  mutating func failAll(into effects: inout Effects) {
    for id in order {
      guard let query = waiting[id] else { continue }
      effects.deliver(
        Reply(token: query.token, outcome: .failed(.timedOutLeaderFailed)), to: query.sink)
    }
    waiting = [:]
    order = []
  }
}

extension ReplicaCore {
  /// Renews a lease, or (`renew` false) asks for its time. Answered by `.leaseTime`.
  public mutating func queryLease(
    _ lease: LeaseID, renew: Bool, token: UInt64, sink: any ReplySink
  ) {
    if role == .leader {
      guard leadsWithAppliedTerm else {
        return effects.deliver(Reply(token: token, outcome: .failed(.notLeader)), to: sink)
      }
      effects.deliver(
        Reply(token: token, outcome: .leaseTime(leaseTime(lease, renew: renew))), to: sink)
      return
    }
    guard let leader else {
      return effects.deliver(Reply(token: token, outcome: .failed(.noLeader)), to: sink)
    }
    guard
      let id = leaseQueries.insert(
        token: token, sink: sink, deadline: now.advanced(by: settings.electionTimeout * 2))
    else {
      return effects.deliver(Reply(token: token, outcome: .failed(.tooManyRequests)), to: sink)
    }
    effects.sends.append((leader, .leaseQuery(id: id, lease: lease, renew: renew)))
  }

  mutating func receiveLeaseQuery(id: UInt64, lease: LeaseID, renew: Bool, from peer: NodeID) {
    // A member that doesn't lead stays silent: the asker times out or learns of the new leader.
    guard role == .leader, leadsWithAppliedTerm else { return }
    effects.sends.append((peer, .leaseAnswer(id: id, time: leaseTime(lease, renew: renew))))
  }

  private mutating func leaseTime(_ lease: LeaseID, renew: Bool) -> LeaseTime? {
    renew ? leases.renew(lease, now: now) : leases.time(of: lease, now: now)
  }

  mutating func startLeases() {
    leases.start(
      store.publish().leases().map { ($0.id, $0.granted, $0.remaining) }, now: now,
      grace: settings.electionTimeout)
    nextLeaseCheckpoint = now.advanced(by: ReplicaSettings.leaseCheckpointInterval)
  }

  mutating func note(_ effect: LeaseEffect) {
    switch effect {
    case .granted(let id, let seconds): leases.granted(id, seconds: seconds, now: now)
    case .revoked(let id): leases.revoked(id)
    case .checkpointed: break
    }
  }

  /// Proposes the end of leases whose time is over, and now and then what is left of the long ones.
  mutating func expireLeases() {
    guard role == .leader, leadsWithAppliedTerm, leases.isRunning else { return }
    let expired = leases.takeExpired(
      now: now, limit: ReplicaLimits.leasesPerExpiry, retry: settings.electionTimeout)
    if !expired.isEmpty {
      counters.leasesExpired += UInt64(expired.count)
      let term = raft.term
      proposeOwn { CommandBatch.appendLeaseExpire(term: term, leases: expired, to: &$0) }
    }
    if now >= nextLeaseCheckpoint { checkpointLeases() }
  }

  private mutating func checkpointLeases() {
    nextLeaseCheckpoint = now.advanced(by: ReplicaSettings.leaseCheckpointInterval)
    let interval = ReplicaSettings.leaseCheckpointInterval.components.seconds
    var remaining = leases.remaining(longerThan: interval, now: now)[...]
    while !remaining.isEmpty {
      let batch = remaining.prefix(ReplicaLimits.leasesPerCheckpoint)
      remaining = remaining.dropFirst(batch.count)
      proposeOwn { CommandBatch.appendLeaseCheckpoint(Array(batch), to: &$0) }
    }
  }

  /// Proposes a command that no client waits for. If it is lost, the clock offers it again.
  private mutating func proposeOwn(_ appendCommand: (inout [UInt8]) -> Void) {
    var payload: [UInt8] = []
    CommandBatch.Header(count: 1, proposer: identity.member, firstSequence: nextSequence)
      .append(to: &payload)
    nextSequence &+= 1
    appendCommand(&payload)
    _ = raft.propose([payload])
  }
}

extension ReplicaSettings {
  /// How often the remaining time of long leases is written to the log, so that a new leader doesn't give
  /// them their whole time again. etcd's interval.
  static let leaseCheckpointInterval = Duration.seconds(300)
}
