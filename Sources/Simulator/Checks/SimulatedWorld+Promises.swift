import Persistence
import Primitives
import Raft
import Replica
import SimulatedStorage

// A vote and an acknowledgement promise that something is on the sender's disk. Waiting until a broken
// promise costs data takes luck: the right crash, then the right election. So the promise itself is
// checked when it leaves, against what the disk would hold after a crash at this very moment.

extension SimulatedWorld {
  /// Checks what a message promises, before it is sent.
  mutating func checkPromise(in message: PeerMessage, from position: Int) throws {
    guard case .raft(let message) = message else { return }
    switch message.body {
    case .append(let append):
      for entry in append.entries {
        sentTerms[message.term, default: [:]][entry.index] = entry.term
      }
      try checkChanges(in: append, term: message.term)
    case .voteRequest(let request):
      try noteVote(of: message.from, for: message.from, in: request.candidacy)
    case .voteResponse(let vote) where vote.isGranted:
      try noteVote(of: message.from, for: message.to, in: message.term)
      let log = try durableLog(of: position)
      let state = log.hardState
      guard state.term > message.term || (state.term == message.term && state.vote == message.to)
      else {
        throw Violation(
          "member \(message.from) sent a vote for \(message.to) in term \(message.term) that is not on "
            + "its disk, which has term \(state.term)", now)
      }
    case .appendAccepted(let index):
      // Reading a log back costs more than the rest of an event: look at some.
      guard options.checksEveryPromise || random.oneIn(8) else { return }
      let log = try durableLog(of: position)
      guard log.lastIndex >= index else {
        throw Violation(
          "member \(message.from) acknowledged entry \(index), but its disk ends at \(log.lastIndex)",
          now)
      }
      for entry in log.entries where entry.index <= index {
        if let sent = sentTerms[message.term]?[entry.index], sent != entry.term {
          throw Violation(
            "member \(message.from) acknowledged entry \(index), but where its leader has sent an entry "
              + "\(entry.index) of term \(sent), its disk has one of term \(entry.term)", now)
        }
      }
    default:
      break
    }
  }

  /// Nobody votes twice in a term, not even after a crash.
  private mutating func noteVote(of voter: NodeID, for candidate: NodeID, in term: Term) throws {
    if let other = votes[term]?[voter], other != candidate {
      throw Violation(
        "member \(voter) voted for \(other) and for \(candidate) in term \(term)", now)
    }
    votes[term, default: [:]][voter] = candidate
  }

  /// What a leader calls committed is on the disks of a quorum, and of the leader's own term: entries of earlier terms
  /// are committed along with it, never by counting.
  mutating func checkCommit(
    _ status: ReplicaStatus, after last: ReplicaStatus, by membership: Membership
  ) throws {
    guard status.role == .leader, last.role == .leader, status.term == last.term,
      status.commitIndex > last.commitIndex, options.checksEveryPromise || random.oneIn(16)
    else { return }
    var holders: Set<NodeID> = []
    for position in members.indices where membership.isVoter(members[position].id) {
      if members[position].isGone, members[position].isPresent {
        // It is lost, and may have acknowledged the entry before.
        holders.insert(members[position].id)
        continue
      }
      guard let log = try? recoverLog(of: position), log.lastIndex >= status.commitIndex else { continue }
      // Another's entry may stand there still.
      if let first = log.entries.first, status.commitIndex >= first.index,
        log.entries[Int(status.commitIndex - first.index)].term != status.term
      {
        continue
      }
      holders.insert(members[position].id)
    }
    guard membership.isQuorum(holders) else {
      throw Violation(
        "entry \(status.commitIndex) is called committed in term \(status.term), but only \(holders.sorted()) "
          + "have one of that term on disk, of \(membership)", now)
    }
  }

  /// The log that a member would find after a crash at this moment.
  func durableLog(of position: Int) throws -> RecoveredLog {
    do {
      return try recoverLog(of: position)
    } catch {
      throw Violation(
        "member \(members[position].id) could not read its log after a crash: \(error)", now)
    }
  }

  func recoverLog(of position: Int) throws -> RecoveredLog {
    let identity = LogIdentity(clusterID: cluster, memberID: members[position].id)
    let image = members[position].disk.durableImage()
    var catalog = try SnapshotCatalog.open(
      directory: "/data/snap", clusterID: cluster, fileSystem: image)
    let snapshot = try catalog.newest(image).reader?.file
    return try WriteAheadLog.recover(
      directory: "/data/wal", identity: identity, snapshotIndex: snapshot?.index ?? .zero,
      snapshotTerm: snapshot?.term ?? .zero, fileSystem: image,
      settings: LogSettings(segmentBytes: swarm.bounds.segmentBytes, preparedSegments: 1)
    ).recovered
  }
}
