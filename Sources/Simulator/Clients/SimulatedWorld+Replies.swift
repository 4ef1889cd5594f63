import MVCC
import Primitives
import Replica
import Verification

// What clients are told, and what must be true of it at once.

extension SimulatedWorld {
  mutating func receive(_ reply: Reply, from member: Int) throws {
    switch reply.outcome {
    case .watching, .watchBehind, .watchCompacted, .watchesLost, .events, .progress:
      return try receiveWatch(reply, from: member)
    default: break
    }
    if administratorHears(reply) || receiveBackup(reply) { return }
    guard
      let client = clients.firstIndex(where: {
        $0.running?.number == reply.token && $0.running?.member == member
      }), let running = clients[client].running
    else { return }
    switch (reply.outcome, running.operation) {
    case (.applied(let result, _), _):
      try receive(result, client, running)
    case (.readable(let view, _), .request(let request)):
      guard view.revision >= running.mustSee else {
        throw Violation(
          "a stale read: it saw revision \(view.revision), but \(running.mustSee) was known before it "
            + "began", now)
      }
      answerRead(client, view, request)
    case (.leaseTime(let time), .renew(let id)):
      if time == nil {
        try leases.denied(id, at: now)
        clients[client].lease = nil
      } else if checks.newestLeaderTerm == running.leaderTerm,
        members[member].running?.status.term == running.leaderTerm
      {
        leases.renewed(id, start: running.start)
      }
      finish(client, .refused)
    case (.failed(let error), _):
      report.failed += 1
      finish(client, error.leavesNothing ? .refused : .unknown, isServed: false)
    default:
      throw Violation("an answer of the wrong kind: \(reply.outcome)", now)
    }
  }

  private mutating func receive(
    _ result: CommandResult, _ client: Int, _ running: SimulatedClient.Running
  ) throws {
    let member = running.member
    guard let view = members[member].running?.view, view.revision >= result.revision else {
      throw Violation(
        "an answer names revision \(result.revision), which its member has not published", now)
    }
    if case .error(let error) = result.body {
      try checkRefusal(error, running)
      return finish(client, .refused)
    }
    guard result.revision >= running.mustSee else {
      throw Violation(
        "\(running.operation) was answered with revision \(result.revision), but \(running.mustSee) "
          + "was known before it began", now)
    }
    newestKnown = max(newestKnown, result.revision)
    switch running.operation {
    case .request(let request):
      guard let response = ModelResponse(result.body, to: request) else {
        throw Violation("\(request) was answered with \(result.body)", now)
      }
      if case .endLease(let lease) = request { leases.revoked(LeaseID(lease)) }
      finish(client, .answered(response, revision: result.revision.rawValue))
    case .grant(let id, let seconds):
      clients[client].lease = SimulatedClient.Lease(id: id, seconds: seconds)
      leases.granted(
        id, seconds: seconds, start: running.start,
        appliedIndex: members[member].running!.status.appliedIndex)
      // Its end, whenever that is, may take a revision.
      _ = history.begin(.endLease(id.rawValue), client: -1, at: running.start.nanoseconds)
      finish(client, .refused)
    case .compact:
      report.compactions += 1
      finish(client, .refused)
    case .renew:
      throw Violation("a renewal was answered like a command", now)
    }
  }

  /// An error of the store's own must have a reason.
  private func checkRefusal(_ error: ApplyError, _ running: SimulatedClient.Running) throws {
    switch (error, running.operation) {
    case (.leaseNotFound, .request), (.compacted, .compact), (.compacted, .request): return
    case (.noSpace, .request(let request)) where swarm.bounds.quotaBytes != nil && request.hasPuts: return
    case (.noSpace, .grant) where swarm.bounds.quotaBytes != nil: return
    default:
      throw Violation("\(running.operation) was refused with \(error)", now)
    }
  }

  mutating func answerRead(_ client: Int, _ view: StoreView, _ request: ModelRequest) {
    guard let response = view.answer(request) else {
      // The revision was compacted meanwhile.
      return finish(client, .refused)
    }
    if case .range(let records, _) = response {
      for record in records { clients[client].seen[record.key] = record }
    }
    if case .range(_, _, isSerializable: false) = request {
      newestKnown = max(newestKnown, view.revision)
    }
    finish(client, .answered(response, revision: view.revision.rawValue))
  }

  // MARK: Ends

  mutating func finish(_ client: Int, _ outcome: ModelOutcome, isServed: Bool = true) {
    guard let running = clients[client].running else { return }
    if let call = running.call { history.finish(call, outcome, at: now.nanoseconds) }
    trace("client \(client) hears: \(outcome)")
    clients[client].running = nil
    if isServed { clients[client].completed += 1 }
    schedule.add(
      .client(client), at: isServed ? delay(5_000_000, 120_000_000) : delay(10_000_000, 300_000_000))
  }

  /// The member went away, or never answered.
  mutating func giveUp(_ client: Int, _ operation: UInt64) {
    guard clients[client].running?.number == operation else { return }
    report.unknown += 1
    finish(client, .unknown, isServed: false)
  }

  mutating func abandonOperations(at member: Int) {
    abandonAdministration(at: member)
    for client in clients.indices where clients[client].running?.member == member {
      giveUp(client, clients[client].running!.number)
    }
  }
}

extension ReplicaError {
  /// Whether the error says that nothing was done, now or later.
  var leavesNothing: Bool {
    switch self {
    case .timedOut, .timedOutLeaderFailed: false
    default: true
    }
  }
}
