import EtcdWire
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

/// Questions about leases that this leader may answer once a quorum has said that it still leads.
///
/// A leader that was deposed and doesn't know it yet has missed what its successor granted: it would tell
/// a client that its lease is gone, or promise it time that the successor doesn't give. So the answer waits
/// for a round of ReadIndex, which all questions that wait share.
struct UnconfirmedLeaseQueries {
  enum Asker {
    case client(token: UInt64, sink: any ReplySink)
    case member(NodeID, id: UInt64)
  }

  struct Query {
    let lease: LeaseID
    let renew: Bool
    let asker: Asker
  }

  private var waiting: [Query] = []
  private var round: (context: UInt64, queries: [Query])?
  private var confirmed: [(index: LogIndex, queries: [Query])] = []
  /// Apart from the contexts of clients' reads, which count from one.
  private var nextContext: UInt64 = 1 << 63
  private var count = 0

  /// Takes a question; false where too many wait.
  mutating func append(_ query: Query) -> Bool {
    guard count < ReplicaLimits.pendingLeaseQueries else { return false }
    waiting.append(query)
    count += 1
    return true
  }

  /// Starts a round for all that wait, if none runs; returns its context.
  mutating func startRound() -> UInt64? {
    guard round == nil, !waiting.isEmpty else { return nil }
    let context = nextContext
    nextContext += 1
    round = (context, waiting)
    waiting = []
    return context
  }

  mutating func roundConfirmed(context: UInt64, index: LogIndex) {
    guard let running = round, running.context == context else { return }
    confirmed.append((index, running.queries))
    round = nil
  }

  /// The questions that may be answered from a state in which `applied` is.
  mutating func take(through applied: LogIndex) -> [Query] {
    guard let first = confirmed.first, first.index <= applied else { return [] }
    confirmed.removeFirst()
    count -= first.queries.count
    return first.queries
  }

  /// The questions of the round with this context, which failed.
  mutating func takeFailed(context: UInt64) -> [Query] {
    guard let running = round, running.context == context else { return [] }
    round = nil
    count -= running.queries.count
    return running.queries
  }

  /// All that wait, in whatever state.
  mutating func takeAll() -> [Query] {
    let all = confirmed.flatMap(\.queries) + (round?.queries ?? []) + waiting
    confirmed = []
    round = nil
    waiting = []
    count = 0
    return all
  }
}

extension ReplicaCore {
  /// Renews a lease, or (`renew` false) asks for its time. Answered by `.leaseTime`.
  public mutating func queryLease(
    _ lease: LeaseID, renew: Bool, token: UInt64, sink: any ReplySink
  ) {
    if role == .leader {
      return confirmAndAnswer(
        .init(lease: lease, renew: renew, asker: .client(token: token, sink: sink)))
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
    guard role == .leader else { return }
    confirmAndAnswer(.init(lease: lease, renew: renew, asker: .member(peer, id: id)))
  }

  private mutating func confirmAndAnswer(_ query: UnconfirmedLeaseQueries.Query) {
    guard leadsWithAppliedTerm else { return refuse([query], .notLeader) }
    if !unconfirmedLeaseQueries.append(query) { refuse([query], .tooManyRequests) }
  }

  mutating func startLeaseRound() {
    if let context = unconfirmedLeaseQueries.startRound() { raft.requestRead(context: context) }
  }

  mutating func leaseRoundFailed(context: UInt64) {
    refuse(unconfirmedLeaseQueries.takeFailed(context: context), .notLeader)
  }

  mutating func refuseLeaseQueries() { refuse(unconfirmedLeaseQueries.takeAll(), .notLeader) }

  private mutating func refuse(_ queries: [UnconfirmedLeaseQueries.Query], _ error: ReplicaError) {
    for case .client(let token, let sink) in queries.map(\.asker) {
      effects.deliver(Reply(token: token, outcome: .failed(error)), to: sink)
    }
  }

  /// Answers what a quorum has confirmed and this state is new enough for.
  mutating func answerLeaseQueries() {
    while role == .leader, leadsWithAppliedTerm {
      let queries = unconfirmedLeaseQueries.take(through: raft.applied)
      if queries.isEmpty { return }
      for query in queries {
        let time = leaseTime(query.lease, renew: query.renew)
        switch query.asker {
        case .client(let token, let sink):
          effects.deliver(Reply(token: token, outcome: .leaseTime(time)), to: sink)
        case .member(let peer, let id):
          effects.sends.append((peer, .leaseAnswer(id: id, time: time)))
        }
      }
    }
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
    #if PLANTED_BUGS
      if PlantedBug.staleLeaseRevoke.isPlanted, role != .leader, leases.isRunning {
        return expireThroughSuccessor()
      }
    #endif
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

  #if PLANTED_BUGS
    private mutating func expireThroughSuccessor() {
      let expired = leases.takeExpired(
        now: now, limit: ReplicaLimits.leasesPerExpiry, retry: settings.electionTimeout)
      if expired.isEmpty { return }
      var payload: [UInt8] = []
      CommandBatch.Header(count: 1, proposer: identity.member, firstSequence: nextSequence)
        .append(to: &payload)
      nextSequence &+= 1
      CommandBatch.appendLeaseExpire(term: raft.term, leases: expired, to: &payload)
      _ = raft.forward([payload], context: 0)
    }
  #endif

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
  /// Compacts what the operator does not want to keep.
  mutating func compactByItself() {
    guard autoCompaction != nil, role == .leader, leadsWithAppliedTerm,
      let revision = autoCompaction!.tick(now, revision: store.revision.rawValue),
      revision > store.compactRevision.rawValue
    else { return }
    var request = CompactionRequest()
    request.revision = revision
    let body = request.encoded()
    proposeOwn { payload in
      body.withUnsafeBytes { CommandBatch.append(.compact, body: $0, to: &payload) }
    }
  }

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
