import Primitives
import Raft

extension ReplicaCore {
  /// Takes a message of another member.
  public mutating func receive(_ message: PeerMessage, from peer: NodeID) {
    guard failure == nil else { return }
    lastHeard[peer] = now
    switch message {
    case .raft(let message):
      // A connection speaks for one member; a message that claims another sender is dropped.
      guard message.from == peer, message.to == identity.member else { return }
      raft.receive(message)
    case .forward(let payload):
      receiveForwarded(payload, from: peer)
    case .forwardRefused(let sequence):
      receiveForwardRefused(firstSequence: sequence)
    case .leaseQuery(let id, let lease, let renew):
      receiveLeaseQuery(id: id, lease: lease, renew: renew, from: peer)
    case .leaseAnswer(let id, let time):
      if peer == leader { leaseQueries.answer(id, time, into: &effects) }
    case .clusterRequest(let id, let command):
      receiveClusterRequest(id: id, command: command, from: peer)
    case .clusterAnswer(let id, let answer):
      receiveClusterAnswer(id: id, answer)
    case .stateQuestion(let index): receiveStateQuestion(index: index, from: peer)
    case .stateAnswer(let index, let revision, let hash):
      receiveStateAnswer(index: index, revision: revision, hash: hash, from: peer)
    case .stateVerdict(let index, let hash, let lastAgreed):
      receiveStateVerdict(index: index, hash: hash, lastAgreed: lastAgreed, from: peer)
    case .snapshotChunk(let chunk):
      receiveSnapshotChunk(chunk, from: peer)
    case .snapshotProgress(let index, let offset, let accepted):
      receiveSnapshotProgress(index: index, offset: offset, accepted: accepted, from: peer)
    }
  }

  /// Hands leadership to the connected voter that has come farthest, if this member leads and there is one.
  public mutating func handOverLeadership() {
    let best = raft.peerStatus.filter { $0.isVoter && isConnected($0.id) }
      .max { $0.match < $1.match }
    if role == .leader, let best { raft.transferLeadership(to: best.id) }
  }

  public mutating func transferLeadership(to target: NodeID) {
    raft.transferLeadership(to: target)
  }
}
