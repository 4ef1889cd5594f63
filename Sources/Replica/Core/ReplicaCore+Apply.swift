import MVCC
import Primitives
import Raft

// From committed entries to results and events.

extension ReplicaCore {
  mutating func apply(_ entry: Entry) {
    hasApplied = true
    switch entry.kind {
    case .membership:
      // Raft acts on it when it is appended.
      if let command = ClusterCommand.carried(by: entry) { applyChange(command) }
    case .normal:
      if entry.payload.first == ClusterCommand.marker {
        if let command = ClusterCommand.carried(by: entry) {
          applyChange(command)
          levelsChanged(by: command, term: entry.term)
        }
      } else if !entry.payload.isEmpty {
        applyCommands(entry)
      }
    }
    raft.applied(through: entry.index)
    noteState(at: entry.index)
    changesApplied(at: entry.index, term: entry.term)
    if role == .leader, !leadsWithAppliedTerm, entry.term == raft.term {
      leadsWithAppliedTerm = true
      startLeases()
    }
  }

  private mutating func applyCommands(_ entry: Entry) {
    var waiting: PendingProposals.Entry?
    if let header = CommandBatch.header(of: entry.payload), header.proposer == identity.member {
      waiting = pending.take(header.firstSequence)
    }
    let applied = store.apply(
      entry.payload, at: entry.index, term: entry.term, wantsResults: waiting != nil)
    if let waiting { answer(waiting, with: applied.results) }
    for effect in applied.leaseEffects { note(effect) }
    if !applied.authEffects.isEmpty { effects.auth += applied.authEffects }
    if !applied.events.isEmpty {
      unmatchedEvents = EventBatch(
        after: unmatchedEvents?.after ?? applied.events.after, through: applied.events.through)
    }
  }

  private mutating func answer(_ waiting: PendingProposals.Entry, with results: [CommandResult]) {
    invariant(results.count == waiting.count, "an entry gave fewer results than it has commands")
    counters.proposalsApplied += UInt64(waiting.count)
    let term = raft.term
    var position = 0
    for part in waiting.parts {
      let delivery = effects.deliveryPosition(of: part.sink, expecting: part.tokens.count)
      for token in part.tokens {
        effects.deliveries[delivery].replies.append(
          Reply(token: token, outcome: .applied(results[position], term: term)))
        position += 1
      }
    }
  }

  /// Tells the cluster this member's name and client URLs, until an applied entry shows that it knows.
  mutating func publishAttributesIfDue() {
    guard let due = publishAttributesAt, now >= due, leader != nil else { return }
    if let own = cluster.members.first(where: { $0.id == identity.member }),
      own.name == settings.name, own.clientURLs == settings.clientURLs
    {
      publishAttributesAt = nil
      return
    }
    publishAttributesAt = now.advanced(by: settings.requestTimeout)
    let command = ClusterCommand.publish(
      id: identity.member, name: settings.name, clientURLs: settings.clientURLs)
    // Not answered for: if it is lost, the next attempt follows.
    _ = raft.forward([command.encode()], context: 0)
  }
}
