import Primitives
import Raft
import Replica

// Who decides. Quorums are counted here anew, from the membership as the leader has it, so that a mistake in Raft's
// own counting shows at the first decision and not only when two quorums happen to miss each other.

extension Membership {
  /// Whether these members are a quorum: a majority of the voters, and while the membership is joint of the
  /// outgoing ones, too.
  func isQuorum(_ holders: Set<NodeID>) -> Bool {
    func isMajority(_ list: [NodeID]) -> Bool { list.count { holders.contains($0) } > list.count / 2 }
    return isMajority(voters) && (votersOutgoing.isEmpty || isMajority(votersOutgoing))
  }
}

extension SimulatedWorld {
  /// A new leader has the votes of a quorum.
  mutating func checkElection(_ status: ReplicaStatus, of membership: Membership, by member: NodeID) throws {
    guard status.role == .leader, !checks.isKnownLeader(of: status.term) else { return }
    var voters: Set<NodeID> = [member]
    for (voter, candidate) in votes[status.term] ?? [:] where candidate == member { voters.insert(voter) }
    guard membership.isQuorum(voters) else {
      throw Violation(
        "member \(member) leads term \(status.term) with the votes of \(voters.sorted()), which are no quorum of "
          + "\(membership)", now)
    }
  }

  /// A leader changes the members only when its own term has begun for all, and the last change is committed.
  /// (Ongaro, "bug in single-server membership changes", raft-dev, 2015.)
  mutating func checkChanges(in append: Message.Append, term: Term) throws {
    for entry in append.entries where entry.kind == .membership {
      // The term of what is committed, as far as the leader's own messages tell it.
      var committed = sentTerms[term]?[append.commit]
      if append.commit <= append.previousIndex, append.previousTerm < term { committed = append.previousTerm }
      if entry.term == term, append.commit < entry.index, let committed, committed < term {
        throw Violation(
          "the leader of term \(term) changes the members with entry \(entry.index) before it has committed "
            + "an entry of its own term", now)
      }
      if let last = lastChanges[term], last < entry.index, append.commit < last {
        throw Violation(
          "the leader of term \(term) changes the members with entry \(entry.index) before the change in entry "
            + "\(last) is committed", now)
      }
      lastChanges[term] = max(lastChanges[term] ?? .zero, entry.index)
    }
  }

  /// The state stays within its quota, but for what was under way when the alarm went up.
  func checkQuota(_ status: ReplicaStatus, of position: Int) throws {
    guard let quota = swarm.bounds.quotaBytes, status.stateBytes > quota + Self.quotaSlack else { return }
    throw Violation(
      "member \(members[position].id) holds \(status.stateBytes) bytes, with a quota of \(quota)", now)
  }

  /// What clients may have under way, and what views hold that readers still have.
  static let quotaSlack: UInt64 = 96 << 10
}
