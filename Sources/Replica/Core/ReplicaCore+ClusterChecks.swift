import Primitives
import Raft

// What etcd checks before it changes the members, in its order.
//
// Sources: etcd's documentation, "Runtime reconfiguration"; its answers, compared in
// `Tests/ConformanceTests`.

extension ReplicaCore {
  /// Whether a member was heard of within an election time-out.
  func isConnected(_ id: NodeID) -> Bool {
    if id == identity.member { return true }
    guard let heard = lastHeard[id] else { return false }
    return heard.advanced(by: settings.electionTimeout) > now
  }

  /// Why a change must not be proposed now; nil if it may.
  func check(_ command: ClusterCommand) -> ReplicaError? {
    switch command {
    case .publish, .setAlarm, .announceLevels, .setLevel: return nil
    case .addMember(let new):
      if settings.checksReconfiguration {
        if !new.isLearner, !isReadyToAddVoter { return .notEnoughStartedMembers }
        if !votingMembers.allSatisfy({ isConnected($0.id) }) { return .unhealthy }
      }
      if cluster.removed.contains(new.id) || cluster.member(new.id) != nil { return .memberExists }
      if isTaken(new.peerURLs, by: new.id) { return .peerURLExists }
      let learners = cluster.members.count { $0.isLearner }
      if new.isLearner, learners >= settings.maximumLearners { return .tooManyLearners }
      return nil
    case .removeMember(let id):
      if settings.checksReconfiguration, let error = checkRemoval(of: id) { return error }
      return cluster.member(id) == nil ? .memberNotFound : nil
    case .updateMember(let id, let peerURLs):
      if cluster.member(id) == nil { return .memberNotFound }
      return isTaken(peerURLs, by: id) ? .peerURLExists : nil
    case .promoteMember(let id):
      return checkPromotion(of: id)
    }
  }

  private var votingMembers: [ClusterMember] { cluster.members.filter { !$0.isLearner } }

  /// Whether a member has told its name. This one has started, even if the log doesn't say so yet.
  private func isStarted(_ member: ClusterMember) -> Bool {
    !member.name.isEmpty || member.id == identity.member
  }

  private func isTaken(_ urls: [String], by id: NodeID) -> Bool {
    cluster.members.contains { member in
      member.id != id && member.peerURLs.contains { urls.contains($0) }
    }
  }

  /// Whether, with one more that has not started, a majority has.
  private var isReadyToAddVoter: Bool {
    let started = votingMembers.count(where: isStarted)
    let members = votingMembers.count + 1
    // A cluster of one may grow however it came to be one.
    if started == 1 && members == 2 { return true }
    return started >= members / 2 + 1
  }

  private func checkRemoval(of id: NodeID) -> ReplicaError? {
    if cluster.member(id)?.isLearner == true { return nil }
    let rest = votingMembers.filter { $0.id != id }
    if rest.count(where: isStarted) < rest.count / 2 + 1 {
      return .notEnoughStartedMembers
    }
    // One that is down is no part of the working quorum, which its removal can only help.
    if !isConnected(id) { return nil }
    let connected = votingMembers.count { isConnected($0.id) }
    return connected - 1 < 1 + (votingMembers.count - 2) / 2 ? .unhealthy : nil
  }

  private func checkPromotion(of id: NodeID) -> ReplicaError? {
    if let peer = raft.peerStatus.first(where: { $0.id == id }) {
      let own = Double(raft.persistedIndex.rawValue)
      if Double(peer.match.rawValue) < own * ReplicaLimits.caughtUpShare {
        return .learnerNotReady
      }
    }
    if settings.checksReconfiguration {
      let started = votingMembers.count(where: isStarted) + 1
      if started < (votingMembers.count + 1) / 2 + 1 { return .notEnoughStartedMembers }
      if !votingMembers.allSatisfy({ isConnected($0.id) }) { return .unhealthy }
    }
    guard let member = cluster.member(id) else { return .memberNotFound }
    return member.isLearner ? nil : .memberNotLearner
  }
}
