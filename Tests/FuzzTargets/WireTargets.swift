import EtcdWire
import HTTP2
import Primitives
import Raft
import Replica

// MARK: HTTP/2

/// A connection's output and end must not depend on how the network cuts its input.
func fuzzConnection(_ bytes: [UInt8]) {
  let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + frame(4, 0, 0, [])
  let whole = converse(preface + bytes, cut: .max)
  let cut = converse(preface + bytes, cut: 1 + bytes.count % 7)
  invariant(whole == cut, "the same bytes, cut differently, had another outcome")
}

private func converse(_ bytes: [UInt8], cut: Int) -> [UInt8] {
  let connection = HTTP2Connection(role: .server)
  connection.start()
  var output: [UInt8] = []
  var held: [UInt8] = []
  var rest = bytes[...]
  let head = HeaderTemplate([HeaderField(":status", "200")])
  while !rest.isEmpty {
    held += rest.prefix(cut)
    rest = rest.dropFirst(cut)
    let used = held.withUnsafeBytes { bytes in
      var input = HTTP2Connection.Input(bytes)
      while let event = connection.nextEvent(&input) {
        if case .headers(let stream, _) = event {
          _ = connection.headers.copyFields()
          connection.sendHeaders(stream, head)
          [1, 2, 3].withUnsafeBytes { _ = connection.sendData(stream, $0, endStream: true) }
        }
      }
      return input.offset
    }
    held.removeFirst(used)
  }
  output += connection.output.bytes
  invariant(output.count <= HTTP2Limits().maxOutputBytes, "the output grew beyond its bound")
  return output
}

private func frame(_ type: UInt8, _ flags: UInt8, _ stream: UInt32, _ payload: [UInt8]) -> [UInt8] {
  let length = payload.count
  return [UInt8(length >> 16 & 0xFF), UInt8(length >> 8 & 0xFF), UInt8(length & 0xFF), type, flags]
    + withUnsafeBytes(of: stream.bigEndian) { Array($0) } + payload
}

func connectionSeeds() -> [[UInt8]] {
  let block: [UInt8] =
    [0x83, 0x86, 0x44, 0x02, 0x2F, 0x61, 0x41, 0x01, 0x78, 0x40, 0x01, 0x61, 0x01, 0x62]
  return [
    frame(1, 5, 1, block), frame(1, 4, 1, block) + frame(0, 1, 1, [0, 0, 0, 0, 1, 9]),
    frame(1, 0, 1, Array(block[..<5])) + frame(9, 4, 1, Array(block[5...])),
    frame(4, 0, 0, [0, 4, 0, 0, 0, 1]) + frame(8, 0, 0, [0, 0, 0, 9]) + frame(6, 0, 0, Array(1...8)),
    frame(1, 4, 1, block) + frame(3, 0, 1, [0, 0, 0, 8]) + frame(7, 0, 0, [UInt8](repeating: 0, count: 8)),
    frame(1, 0x2D, 3, [1, 0, 0, 0, 0, 9] + block + [0]) + frame(2, 0, 3, [0, 0, 0, 1, 1]),
  ]
}

// MARK: Requests

/// What a reader took it must write so that it is taken again and written the same.
func fuzzRequests(_ bytes: [UInt8]) {
  func roundTrip<Message: WireMessage>(_ type: Message.Type) {
    bytes.withUnsafeBytes { bytes in
      guard let message = try? Message(bytes) else { return }
      let once = message.encoded()
      let twice = once.withUnsafeBytes { (try? Message($0))?.encoded() }
      invariant(twice == once, "\(type) was written in a form that reads differently")
    }
  }
  roundTrip(RangeRequest.self)
  roundTrip(PutRequest.self)
  roundTrip(DeleteRangeRequest.self)
  roundTrip(TxnRequest.self)
  roundTrip(CompactionRequest.self)
  roundTrip(LeaseGrantRequest.self)
  roundTrip(LeaseRevokeRequest.self)
  roundTrip(LeaseKeepAliveRequest.self)
  roundTrip(EtcdWire.WatchRequest.self)
  roundTrip(RangeResponse.self)
  roundTrip(TxnResponse.self)
  roundTrip(WatchResponse.self)
}

func requestSeeds() -> [[UInt8]] {
  var seeds: [[UInt8]] = []
  for fields in 1...5 as ClosedRange<UInt32> {
    var message: [UInt8] = []
    for field in 1...fields {
      message.append(field: field, int64: Int64(field) * 300)
    }
    seeds.append(message)
  }
  seeds.append(putRequest("key", "value"))
  seeds.append(transaction())
  var watch: [UInt8] = []
  putRequest("key", "").withUnsafeBytes { watch.append(field: 1, encoded: $0) }
  seeds.append(watch)
  return seeds
}

func putRequest(_ key: String, _ value: String, lease: Int64 = 0) -> [UInt8] {
  var put: [UInt8] = []
  Array(key.utf8).withUnsafeBytes { put.append(field: 1, bytes: $0) }
  Array(value.utf8).withUnsafeBytes { put.append(field: 2, bytes: $0) }
  put.append(field: 3, int64: lease)
  return put
}

/// If key a was created at 0: put a, get a; else delete everything.
func transaction() -> [UInt8] {
  func nested(_ field: UInt32, _ content: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    content.withUnsafeBytes { bytes.append(field: field, encoded: $0) }
    return bytes
  }
  let key: [UInt8] = [0x1A, 1, 0x61]
  return nested(1, [0x10, 1] + key + [0x28, 0]) + nested(2, nested(2, putRequest("a", "b")))
    + nested(2, nested(1, [0x0A, 1, 0x61])) + nested(3, nested(3, [0x0A, 1, 0, 0x12, 1, 0]))
}

// MARK: Peers

func fuzzPeerMessage(_ bytes: [UInt8]) {
  guard let message = bytes.withUnsafeBytes({ try? PeerMessage.decode($0) }) else { return }
  var encoded: [UInt8] = []
  message.encode(into: &encoded)
  let again = encoded.withUnsafeBytes { try? PeerMessage.decode($0) }
  invariant(again == message, "a peer message doesn't read as it was written")
}

func peerMessageSeeds() -> [[UInt8]] {
  let vote = Message.VoteRequest(candidacy: Term(3), lastIndex: LogIndex(9), lastTerm: Term(2))
  let entries = [
    Entry(index: LogIndex(5), term: Term(2), payload: [1, 2, 3]),
    Entry(index: LogIndex(6), term: Term(2), payload: []),
  ]
  let bodies: [Message.Body] = [
    .preVoteRequest(vote), .voteRequest(vote),
    .voteResponse(.init(candidacy: Term(3), isGranted: true)),
    .append(
      .init(previousIndex: LogIndex(4), previousTerm: Term(2), commit: LogIndex(4), entries: entries)),
    .appendAccepted(LogIndex(6)),
    .appendRejected(.init(rejectedIndex: LogIndex(6), hintIndex: LogIndex(3), hintTerm: Term(1))),
    .heartbeat(.init(commit: LogIndex(4), round: 7)), .heartbeatResponse(round: 7),
    .commit(LogIndex(5)), .readRequest(batch: 4), .readResponse(batch: 4, index: LogIndex(5)),
    .proposal(.init(context: 1, content: .payloads([[1], [2, 3]]))),
    .proposal(.init(context: 1, content: .membershipChange(MembershipChange([.addVoter(NodeID(4))])))),
    .campaignNow,
  ]
  let messages: [PeerMessage] =
    bodies.map { .raft(Message(from: NodeID(1), to: NodeID(2), term: Term(3), body: $0)) }
    + [
      .forward(payload: [1, 2]), .forwardRefused(firstSequence: 3),
      .leaseQuery(id: 1, lease: LeaseID(2), renew: true),
      .leaseAnswer(id: 1, time: LeaseTime(granted: 5, remaining: 4)),
      .snapshotProgress(index: LogIndex(3), offset: 5, accepted: true),
      .stateQuestion(index: LogIndex(3)),
      .stateAnswer(index: LogIndex(3), revision: Revision(2), hash: 7),
      .stateVerdict(index: LogIndex(3), hash: 8, lastAgreed: Revision(1)),
    ]
  return messages.map {
    var bytes: [UInt8] = []
    $0.encode(into: &bytes)
    return bytes
  }
}
