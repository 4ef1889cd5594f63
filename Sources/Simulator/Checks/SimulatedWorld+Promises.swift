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
    case .voteResponse(let vote) where vote.isGranted:
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
      if let entry = log.entries.first(where: { $0.index == index }),
        let sent = sentTerms[message.term]?[index], sent != entry.term
      {
        throw Violation(
          "member \(message.from) acknowledged entry \(index) of term \(sent), but its disk has one of "
            + "term \(entry.term) there", now)
      }
    default:
      break
    }
  }

  /// The log that a member would find after a crash at this moment.
  private func durableLog(of position: Int) throws -> RecoveredLog {
    let identity = LogIdentity(clusterID: cluster, memberID: members[position].id)
    do {
      let image = members[position].disk.durableImage()
      var catalog = try SnapshotCatalog.open(
        directory: "/data/snap", clusterID: cluster, fileSystem: image)
      let snapshot = try catalog.newest(image).reader?.file
      return try WriteAheadLog.recover(
        directory: "/data/wal", identity: identity, snapshotIndex: snapshot?.index ?? .zero,
        snapshotTerm: snapshot?.term ?? .zero, fileSystem: image,
        settings: LogSettings(segmentBytes: options.segmentBytes, preparedSegments: 1)
      ).recovered
    } catch {
      throw Violation(
        "member \(members[position].id) could not read its log after a crash: \(error)", now)
    }
  }
}
