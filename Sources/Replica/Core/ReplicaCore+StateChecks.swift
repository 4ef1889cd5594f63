import MVCC
import Primitives
import Raft

// Comparing states between members: see `StateAgreement`.

extension ReplicaCore {
  /// Takes note of the state after an entry.
  mutating func noteState(at index: LogIndex) {
    let mark = StateAgreement.Mark(index: index, revision: store.revision, hash: store.stateHash)
    agreement.applied(mark)
    if let waiting = agreement.waiting, waiting.index <= index {
      agreement.stopWaiting()
      if let mark = agreement.mark(at: waiting.index) { answerState(mark, to: waiting.from) }
    }
  }

  /// The leader asks when it is time, and draws the conclusions from the round before.
  mutating func checkStates() {
    guard let interval = settings.stateCheckInterval else { return }
    guard role == .leader, leadsWithAppliedTerm else { return agreement.stopAsking() }
    guard now >= nextStateCheck else { return }
    nextStateCheck = now.advanced(by: interval)
    conclude(isLast: true)
    guard failure == nil, let own = agreement.mark(at: raft.applied) else { return }
    agreement.ask(own, leader: identity.member)
    for member in cluster.members where member.id != identity.member && isConnected(member.id) {
      effects.sends.append((member.id, .stateQuestion(index: own.index)))
    }
  }

  mutating func receiveStateQuestion(index: LogIndex, from peer: NodeID) {
    guard peer == leader else { return }
    if let mark = agreement.mark(at: index) {
      answerState(mark, to: peer)
    } else if index > raft.applied {
      agreement.wait(for: index, from: peer)
    }
  }

  private mutating func answerState(_ mark: StateAgreement.Mark, to peer: NodeID) {
    effects.sends.append(
      (peer, .stateAnswer(index: mark.index, revision: mark.revision, hash: mark.hash)))
  }

  mutating func receiveStateAnswer(
    index: LogIndex, revision: Revision, hash: UInt64, from peer: NodeID
  ) {
    guard role == .leader else { return }
    agreement.answered(.init(index: index, revision: revision, hash: hash), by: peer)
    conclude(isLast: false)
  }

  private mutating func conclude(isLast: Bool) {
    let voters = cluster.members.filter { !$0.isLearner }.map(\.id)
    switch agreement.verdict(voters: voters, isLast: isLast) {
    case .agreed, .open: break
    case .undecided:
      agreement.stopAsking()
      raiseCorruption()
    case .diverged(let members, let right):
      for member in members where member != identity.member {
        effects.sends.append(
          (
            member,
            .stateVerdict(
              index: right.index, hash: right.hash, lastAgreed: agreement.lastAgreed)
          ))
        effects.warnings.append(
          "member \(member) has another state than the majority at revision \(right.revision) "
            + "(log index \(right.index)): it is told to stop")
      }
      let isOwn = members.contains(identity.member)
      agreement.stopAsking()
      if isOwn, let own = agreement.mark(at: right.index) {
        failDiverged(own, lastAgreed: agreement.lastAgreed)
      }
    }
  }

  /// The leader says that the majority's state is another one.
  mutating func receiveStateVerdict(
    index: LogIndex, hash: UInt64, lastAgreed: Revision, from peer: NodeID
  ) {
    guard peer == leader, let own = agreement.mark(at: index), own.hash != hash else { return }
    failDiverged(own, lastAgreed: lastAgreed)
  }

  private mutating func failDiverged(_ own: StateAgreement.Mark, lastAgreed: Revision) {
    fail(
      ReplicaFailure(
        "this member's state differs from the majority's at revision \(own.revision) (log index "
          + "\(own.index)); they last agreed at revision \(lastAgreed). It stops, so that nobody reads what "
          + "is wrong: remove it with 'etcdctl member remove', empty its data directory and add it anew"))
  }

  private mutating func raiseCorruption() {
    if cluster.has(.corrupt) { return }
    effects.warnings.append(
      "the members' states differ, and none has a majority: CORRUPT is raised, and everything is refused")
    setOwnAlarm(Alarm(.corrupt, member: identity.member), isActive: true)
  }
}
