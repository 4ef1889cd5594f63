import Primitives
import Raft
import Testing

@testable import Replica

@Suite struct PeerMessageTests {
  static let messages: [PeerMessage] = [
    .raft(
      Message(
        from: NodeID(1), to: NodeID(2), term: Term(7),
        body: .append(
          Message.Append(
            previousIndex: LogIndex(4), previousTerm: Term(6), commit: LogIndex(4),
            entries: [Entry(index: LogIndex(5), term: Term(7), payload: [1, 2, 3])])))),
    .forward(payload: [9, 8, 7]),
    .forwardRefused(firstSequence: 1 << 40),
    .leaseQuery(id: 3, lease: LeaseID(-5), renew: true),
    .leaseAnswer(id: 3, time: LeaseTime(granted: 60, remaining: 59)),
    .leaseAnswer(id: 4, time: nil),
    .snapshotChunk(
      SnapshotChunk(
        term: Term(7), index: LogIndex(100), snapshotTerm: Term(6), offset: 1 << 20,
        fileBytes: 3 << 20, fileChecksum: 0xDEAD_BEEF, bytes: [5, 5, 5])),
    .snapshotProgress(index: LogIndex(100), offset: 2 << 20, accepted: true),
    .clusterRequest(id: 7, command: ClusterCommand.promoteMember(NodeID(3)).encode()),
    .clusterAnswer(id: 7, .accepted(index: LogIndex(12), term: Term(3))),
    .clusterAnswer(id: 8, .refused(.memberNotFound)),
    .stateQuestion(index: LogIndex(1 << 40)),
    .stateAnswer(index: LogIndex(12), revision: Revision(9), hash: 0xFFFF_0000_1234_5678),
    .stateVerdict(index: LogIndex(12), hash: 1, lastAgreed: Revision(4)),
  ]

  @Test(arguments: messages)
  func everyMessageComesBackAsItWas(message: PeerMessage) throws {
    var bytes: [UInt8] = []
    message.encode(into: &bytes)
    let decoded = try bytes.withUnsafeBytes { try PeerMessage.decode($0) }
    #expect(decoded == message)
  }

  @Test func noBytesTrapTheDecoder() {
    var random = RandomSource(seed: 4)
    var accepted = 0
    for _ in 0..<20_000 {
      var bytes: [UInt8] = []
      PeerMessageTests.messages[Int(random.below(UInt64(PeerMessageTests.messages.count)))]
        .encode(into: &bytes)
      for _ in 0...random.below(3) where !bytes.isEmpty {
        switch random.below(3) {
        case 0: bytes[Int(random.below(UInt64(bytes.count)))] = UInt8(random.below(256))
        case 1: bytes.removeLast(Int(random.below(UInt64(bytes.count))))
        default: bytes.append(UInt8(random.below(256)))
        }
      }
      if (try? bytes.withUnsafeBytes { try PeerMessage.decode($0) }) != nil { accepted += 1 }
    }
    // Most damage to free bytes is another valid message; all of it being refused would mean that the
    // test refuses everything.
    #expect(accepted > 0)
  }
}
