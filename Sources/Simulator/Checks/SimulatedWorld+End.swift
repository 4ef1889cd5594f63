import MVCC
import Primitives
import Raft
import Replica
import SimulatedStorage
import Verification

// The end of a run: everything is healed, the cluster must serve and agree, and what the clients saw in all the time
// is looked at as a whole.

extension SimulatedWorld {
  mutating func healAndSettle() throws {
    trace("everything is healed")
    isHealed = true
    blocked = [:]
    clogged = [:]
    for position in members.indices {
      members[position].disk.capacity = .max
      members[position].pausedUntil = min(members[position].pausedUntil, now)
      if members[position].isPresent, !members[position].isGone, members[position].running == nil {
        try start(position)
      }
    }
    // The clients go on: the cluster must serve them all again within this time.
    let served = clients.map(\.completed)
    let deadline = now.advanced(by: options.settleTime)
    while zip(clients, served).contains(where: { $0.completed < $1 + 3 }) {
      guard now < deadline else {
        let client = zip(clients, served).first { $0.completed < $1 + 3 }!.0
        throw Violation(
          "no progress: client \(client.number) was not served within "
            + "\(options.settleTime.components.seconds) s after the last fault", now)
      }
      try advance(until: now.advanced(byNanoseconds: 200_000_000))
    }
    try untilMembershipSettles()
    for client in clients.indices { clients[client].isStopped = true }
    try untilAgreed(deadline: now.advanced(by: options.settleTime))
    try checkEndOfLeases()
    for watcher in watchers.indices { try checkEnd(ofWatcher: watcher) }
    try checkRestoration()
    try checkHistories()
    try checkMemory()
    report.simulatedSeconds = Double(now.nanoseconds - 1_000_000_000) / 1_000_000_000
    report.operations = clients.reduce(0) { $0 + $1.completed }
    report.leaders = checks.leaderCount
  }

  /// What the administrator had begun comes to its end: who was added votes, who was removed has stopped.
  private mutating func untilMembershipSettles() throws {
    let steps = Int64(administrator.steps.count)
    let deadline = now.advanced(by: options.settleTime + .seconds(15 * steps))
    while let reason = whatIsUnsettled {
      guard now < deadline else { throw Violation("the members don't settle: \(reason)", now) }
      try advance(until: now.advanced(byNanoseconds: 200_000_000))
    }
  }

  private var whatIsUnsettled: String? {
    if !administrator.isIdle { return "the administrator still waits for \(administrator.steps)" }
    if let down = present.first(where: { members[$0].running == nil }) { return "\(name(down)) is down" }
    if let stray = members.indices.first(where: { !members[$0].isPresent && members[$0].running != nil }) {
      return "\(name(stray)) was removed and goes on"
    }
    guard let leader, let running = members[leader].running else { return "nobody leads" }
    let membership = running.core.membership
    if membership.isJoint { return "the membership is joint: \(membership)" }
    for member in running.status.members where !member.isLearner && !membership.isVoter(member.id) {
      return "member \(member.id) has no vote in \(membership): \(running.core.peerStatus)"
    }
    return nil
  }

  /// Nobody asks for anything any more: all members must come to the same state.
  private mutating func untilAgreed(deadline: Instant) throws {
    while true {
      try advance(until: now.advanced(byNanoseconds: 300_000_000))
      let parts = present.map { members[$0] }
      let statuses = parts.compactMap { $0.running?.status }
      let isAtRest = clients.allSatisfy { $0.running == nil }
      if isAtRest, statuses.count == parts.count, Set(statuses.map(\.appliedIndex)).count == 1,
        statuses.contains(where: { $0.role == .leader })
      {
        guard Set(statuses.map(\.stateHash)).count == 1 else {
          throw Violation("members disagree at rest: \(statuses.map(\.stateHash))", now)
        }
        let memberships = parts.compactMap { $0.running?.core.membership }
        if let other = memberships.first(where: { $0 != memberships[0] }) {
          throw Violation("members disagree at rest on who they are: \(memberships[0]) and \(other)", now)
        }
        for member in parts {
          if let view = member.running?.view { try checks.verifyEqual(view, of: member.id, at: now) }
        }
        return
      }
      guard now < deadline else {
        throw Violation(
          "members stand at different indexes at rest: \(statuses.map(\.appliedIndex))", now)
      }
    }
  }

  /// Nobody renews them any more, so all leases must end: within their time, an election more if the leader
  /// changed, and what slow clocks add.
  private mutating func checkEndOfLeases() throws {
    guard members.contains(where: { ($0.running?.view?.leaseCount ?? 0) > 0 }) else { return }
    let slack = Duration.seconds(4) + .milliseconds(leases.longest * Int64(leases.drift) / 1_000)
    let deadline = now.advanced(by: .seconds(leases.longest) + slack)
    while members.contains(where: { ($0.running?.view?.leaseCount ?? 0) > 0 }) {
      guard now < deadline else {
        throw Violation("leases outlive their time, though nobody renews them", now)
      }
      try advance(until: now.advanced(byNanoseconds: 500_000_000))
    }
  }

  /// A watcher that stands must have heard of everything by now; progress vouches for it.
  private mutating func checkEnd(ofWatcher number: Int) throws {
    guard case .standing = watchers[number].state,
      let sink = members[watchers[number].member].running?.sink
    else { return }
    try pump(watchers[number].member) { $0.requestProgress(token: UInt64(number), sink: sink) }
  }

  private mutating func checkHistories() throws {
    // One last reader, who sees what the members agreed on.
    let all = ModelRequest.range(ModelRange([0], end: [0]))
    guard let view = present.first.flatMap({ members[$0].running?.view }),
      let response = view.answer(all)
    else { throw Violation("the final state can't be read", now) }
    let call = history.begin(all, client: clients.count, at: now.nanoseconds)
    history.finish(
      call, .answered(response, revision: view.revision.rawValue), at: now.nanoseconds)

    let streams = watchers.map { $0.broken + [$0.stream].compactMap { $0 } }
    do {
      let timeline = try LinearizabilityChecker.check(history, watches: Array(streams.joined()))
      for (watcher, streams) in zip(watchers, streams) {
        for stream in streams {
          try WatchChecker.check(stream, against: timeline, previousKnownAfter: watcher.compacted)
        }
      }
    } catch where error.isUndecided {
      report.undecided += 1
    } catch {
      throw Violation("\(error)", now)
    }
  }
}
