import Primitives
import Testing

@testable import Raft

@Suite struct CodingTests {
  static let messages: [Message] = {
    let bodies: [Message.Body] = [
      .preVoteRequest(.init(candidacy: Term(8), lastIndex: LogIndex(100), lastTerm: Term(6))),
      .voteRequest(
        .init(candidacy: Term(7), lastIndex: LogIndex(100), lastTerm: Term(6), isTransfer: true)),
      .preVoteResponse(.init(candidacy: Term(8), isGranted: true)),
      .voteResponse(.init(candidacy: Term(7), isGranted: false)),
      .append(
        .init(
          previousIndex: LogIndex(41), previousTerm: Term(5), commit: LogIndex(40),
          entries: [
            Entry(index: LogIndex(42), term: Term(6), payload: [1, 2, 3]),
            Entry(index: LogIndex(43), term: Term(7)),
            Entry(index: LogIndex(44), term: Term(7), kind: .membership, payload: [9]),
          ])),
      .appendAccepted(LogIndex(44)),
      .appendRejected(
        .init(rejectedIndex: LogIndex(41), hintIndex: LogIndex(30), hintTerm: Term(4))),
      .heartbeat(.init(commit: LogIndex(40), round: 77)),
      .heartbeatResponse(round: 77),
      .commit(LogIndex(41)),
      .readRequest(batch: .max),
      .readResponse(batch: 3, index: LogIndex(41)),
      .readResponse(batch: 3, index: nil),
      .proposal(.init(context: 5, content: .payloads([[1], [], [2, 3]]))),
      .proposal(
        .init(
          context: 6,
          content: .membershipChange(
            MembershipChange(
              [.addVoter(NodeID(4)), .addLearner(NodeID(5)), .remove(NodeID(1))],
              transition: .explicitJoint, context: [7, 7])))),
      .proposalRefused(context: 5),
      .campaignNow,
    ]
    return bodies.map { Message(from: NodeID(1), to: NodeID(.max), term: Term(7), body: $0) }
  }()

  @Test(arguments: messages) func aMessageComesBackAsItWas(message: Message) throws {
    var bytes: [UInt8] = []
    message.encode(into: &bytes)
    #expect(bytes.count == message.encodedSize)
    #expect(try bytes.withUnsafeBytes { try Message.decode($0) } == message)
  }

  @Test(arguments: messages) func aShortenedOrLengthenedMessageIsRefused(message: Message) {
    var bytes: [UInt8] = []
    message.encode(into: &bytes)
    // A membership change ends with bytes whose length is what is left.
    var endsOpen = false
    if case .proposal(let proposal) = message.body, case .membershipChange = proposal.content {
      endsOpen = true
    }
    for count in 0..<(endsOpen ? 40 : bytes.count) {
      #expect(throws: RaftDecodingError.self) {
        try bytes.withUnsafeBytes { try Message.decode(.init(rebasing: $0[..<count])) }
      }
    }
    if !endsOpen {
      bytes.append(0)
      #expect(throws: RaftDecodingError.self) {
        try bytes.withUnsafeBytes { try Message.decode($0) }
      }
    }
  }

  @Test func whatALaterVersionWroteIsRefused() {
    var bytes: [UInt8] = []
    Self.messages[0].encode(into: &bytes)
    bytes[0] = 2
    #expect(throws: RaftDecodingError(.unsupportedVersion(2), offset: 0)) {
      try bytes.withUnsafeBytes { try Message.decode($0) }
    }
  }

  /// A count of 2^32 entries must not reserve memory for them.
  @Test func aLargeCountIsCheckedAgainstTheBytesPresent() {
    var bytes: [UInt8] = []
    Self.messages[4].encode(into: &bytes)
    bytes.store(littleEndian: UInt32.max, at: 4)
    #expect(throws: RaftDecodingError.self) { try bytes.withUnsafeBytes { try Message.decode($0) } }
  }

  @Test func termsThatFallAlongTheEntriesAreRefused() {
    let entries = [
      Entry(index: LogIndex(2), term: Term(5)), Entry(index: LogIndex(3), term: Term(4)),
    ]
    let message = Message(
      from: NodeID(1), to: NodeID(2), term: Term(7),
      body: .append(
        .init(previousIndex: LogIndex(1), previousTerm: Term(4), commit: .zero, entries: entries)))
    var bytes: [UInt8] = []
    message.encode(into: &bytes)
    #expect(throws: RaftDecodingError.self) { try bytes.withUnsafeBytes { try Message.decode($0) } }
  }

  /// Seeded fuzzing: random bytes, and real messages with random damage, are refused or read, and what is
  /// read is written back as the same bytes.
  @Test func noBytesTrapTheDecoders() throws {
    var random = RandomSource(seed: 1)
    var corpus: [[UInt8]] = Self.messages.map {
      var bytes: [UInt8] = []
      $0.encode(into: &bytes)
      return bytes
    }
    corpus.append([])
    var accepted = 0
    for _ in 0..<60_000 {
      var bytes = corpus[Int(random.below(UInt64(corpus.count)))]
      switch random.below(4) {
      case 0:
        bytes = (0..<Int(random.below(120))).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        if bytes.count > 2, !random.oneIn(4) {
          bytes[0] = 1
          bytes[1] = UInt8(random.below(17))
        }
      case 1: bytes.removeLast(Int(random.below(UInt64(bytes.count + 1))))
      case 2:
        for _ in 0...random.below(3) where bytes.count >= 8 {
          let values: [UInt64] = [0, 1, .max, 1 << 63, (1 << 63) - 1, 0xFFFF_FFFF]
          bytes.store(
            littleEndian: values[Int(random.below(6))],
            at: Int(random.below(UInt64(bytes.count - 7))))
        }
      default:
        for _ in 0...random.below(4) where !bytes.isEmpty {
          bytes[Int(random.below(UInt64(bytes.count)))] = UInt8(truncatingIfNeeded: random.next())
        }
      }
      if let message = try? bytes.withUnsafeBytes({ try Message.decode($0) }) {
        accepted += 1
        var again: [UInt8] = []
        message.encode(into: &again)
        #expect(again == bytes)
      }
      _ = try? MembershipEntry.decode(bytes)
      _ = try? bytes.withUnsafeBytes { try SnapshotMetadata.decode($0) }
      _ = try? bytes.withUnsafeBytes { try Membership.decode($0) }
    }
    #expect(accepted > 1000)
  }

  @Test func membershipsComeBackAsTheyWere() throws {
    let membership = Membership(
      voters: [NodeID(3), NodeID(1)], votersOutgoing: [NodeID(2), NodeID(1)],
      learners: [NodeID(9)], learnersNext: [NodeID(2)], leavesAutomatically: true)
    var bytes: [UInt8] = []
    membership.encode(into: &bytes)
    #expect(try bytes.withUnsafeBytes { try Membership.decode($0) } == membership)

    let metadata = SnapshotMetadata(index: LogIndex(5), term: Term(2), membership: membership)
    bytes = []
    metadata.encode(into: &bytes)
    #expect(try bytes.withUnsafeBytes { try SnapshotMetadata.decode($0) } == metadata)

    let entry = MembershipEntry(membership: membership, context: [1, 2])
    bytes = []
    entry.encode(into: &bytes)
    #expect(try MembershipEntry.decode(bytes) == entry)
  }
}
