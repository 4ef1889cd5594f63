import MVCC
import Primitives
import Raft

// The cluster's feature level: see `FeatureLevel`.

extension ReplicaCore {
  /// Tells the cluster which levels this member knows, until an applied entry shows that it has heard; and again
  /// to each new leader while the cluster isn't at this member's level, since that leader may have missed it.
  mutating func announceLevelsIfDue() {
    guard leader != nil, now >= nextAnnouncement, settings.levels.upperBound > .first else {
      return
    }
    let isKnown = cluster.levels(of: identity.member) == settings.levels
    let isHeard = announcedTerm == raft.term || cluster.level >= settings.levels.upperBound
    if isKnown && isHeard { return }
    nextAnnouncement = now.advanced(by: settings.requestTimeout)
    // Not answered for: if it is lost, the next attempt follows.
    _ = raft.forward(
      [ClusterCommand.announceLevels(id: identity.member, settings.levels).encode()], context: 0)
  }

  /// Raises the cluster's level to what all members know.
  mutating func raiseLevel() {
    guard role == .leader, leadsWithAppliedTerm, lastChange <= raft.applied,
      let common = cluster.commonLevel, common > cluster.level, settings.levels.contains(common)
    else { return }
    if case .accepted(let index, _) = raft.propose([ClusterCommand.setLevel(common).encode()]) {
      lastChange = index
    }
  }

  /// An entry about levels was applied.
  mutating func levelsChanged(by command: ClusterCommand, term: Term) {
    if case .announceLevels(let id, let levels) = command, id == identity.member,
      levels == settings.levels
    {
      announcedTerm = term
    }
    stopIfLevelIsUnknown()
  }

  /// Stops where the cluster has left this release behind. Also after a snapshot from the leader.
  mutating func stopIfLevelIsUnknown() {
    guard cluster.level > settings.levels.upperBound,
      let refusal = settings.levels.refusal(of: cluster.level)
    else { return }
    fail(refusal)
  }
}
