import Primitives
import Testing

@testable import HTTP2

/// The client's side: opening streams, reading responses, and the end.
@Suite struct ClientRoleTests {
  typealias F = FrameBuilder
  let head = HeaderTemplate([
    HeaderField(":method", "POST"), HeaderField(":scheme", "http"), HeaderField(":path", "/a"),
  ])

  @Test("A request and its answer, with an informational response before it")
  func exchange() {
    let peer = Transcript(.client)
    #expect(peer.connection.openStream(head, endStream: true, tag: 7) == StreamID(1))
    #expect(peer.takeOutput() == ["HEADERS 1 end"])
    #expect(
      peer.receive(
        F.headers(1, [(":status", "103")]), F.headers(1, [(":status", "200")]), F.data(1, 4),
        F.headers(1, [("grpc-status", "0")], end: true))
        == ["headers 1 :status=200", "data 1 4", "trailers 1"])
    #expect(peer.connection.eventTag == 7)
    #expect(peer.connection.streamCount == 0)
  }

  @Test("No more streams than the server takes, and none after GOAWAY")
  func limits() {
    let peer = Transcript(.client)
    _ = peer.receive(F.settings([(3, 2)]))
    #expect(peer.connection.openStream(head, endStream: true, tag: 1) != nil)
    #expect(peer.connection.openStream(head, endStream: true, tag: 3) != nil)
    #expect(peer.connection.openStream(head, endStream: true) == nil)
    // The server has seen stream 1 alone: 3 was not processed and may be sent again elsewhere.
    let goAway = F.frame(FrameType.goAway, F.bigEndian(UInt32(1)) + F.bigEndian(UInt32(0)))
    #expect(peer.receive(goAway) == ["goaway 1 NO_ERROR", "reset 3 REFUSED_STREAM"])
    #expect(peer.connection.eventTag == 3)
    #expect(peer.connection.openStream(head, endStream: true) == nil)
    #expect(peer.receive(F.headers(1, [(":status", "200")], end: true)).count == 1)
    _ = peer.takeOutput()
    #expect(peer.connection.isDrained)
  }

  @Test(
    "What a server must not do",
    arguments: [
      (F.headers(2, [(":status", "200")]), "failed PROTOCOL_ERROR"),
      (F.headers(3, [(":status", "200")]), "failed PROTOCOL_ERROR"),
      (F.headers(1, [("a", "b")]), "reset 1 PROTOCOL_ERROR"),
      (F.headers(1, [(":status", "20")]), "reset 1 PROTOCOL_ERROR"),
      (F.headers(1, [(":status", "100")], end: true), "reset 1 PROTOCOL_ERROR"),
      (F.data(1, 1), "reset 1 PROTOCOL_ERROR"),
      (F.settings([(2, 1)]), "failed PROTOCOL_ERROR"),
      (F.frame(FrameType.pushPromise, flags: 4, stream: 1, [0, 0, 0, 2]), "failed PROTOCOL_ERROR"),
    ])
  func violations(bytes: [UInt8], expected: String) {
    let peer = Transcript(.client)
    _ = peer.connection.openStream(head, endStream: true)
    #expect(peer.receive(bytes).last == expected)
  }

  @Test("Heads shrink to a byte a field from the second request on")
  func compression() {
    let peer = Transcript(.client)
    _ = peer.connection.openStream(head, endStream: true)
    peer.connection.output.removeAll()
    _ = peer.connection.openStream(head, endStream: true)
    #expect(peer.connection.output.count == FrameHeader.size + 3)
  }

  @Test("A head larger than a frame is split")
  func splitHead() {
    let peer = Transcript(.client)
    let large = HeaderField("x", String(repeating: "\u{1}", count: 40_000), indexing: .plain)
    _ = peer.connection.openStream(head, extra: [large], endStream: true)
    #expect(peer.takeOutput() == ["HEADERS 1 end", "CONTINUATION 1", "CONTINUATION 1"])
  }
}

/// Random bytes and random orders of valid frames: the machine may refuse, never trap, and its books must
/// balance.
@Suite struct FuzzTests {
  typealias F = FrameBuilder

  @Test("Random frames, cut at random places", arguments: 0..<60)
  func randomFrames(seed: UInt64) {
    var random = RandomSource(seed: seed)
    let role: HTTP2Connection.Role = seed % 3 == 2 ? .client : .server
    var limits = HTTP2Limits()
    limits.maxConcurrentStreams = 20
    limits.streamReceiveWindow = 5_000
    limits.connectionReceiveWindow = 100_000
    let peer = Transcript(role, limits: limits)
    let head = HeaderTemplate([HeaderField(":status", "200"), HeaderField("a", "b")])
    let request = HeaderTemplate([HeaderField(":method", "GET")])
    var nextStream: UInt32 = 1
    for _ in 0..<3_000 {
      let stream = UInt32(random.below(UInt64(nextStream + 2)))
      var bytes: [UInt8]
      switch random.below(14) {
      case 0...3:
        bytes = F.headers(nextStream, end: random.oneIn(2))
        nextStream += 2
      case 4: bytes = F.data(stream, Int(random.below(300)), end: random.oneIn(3))
      case 5: bytes = F.windowUpdate(random.oneIn(2) ? 0 : stream, UInt32(random.below(5_000)) + 1)
      case 6: bytes = F.reset(stream)
      case 7: bytes = F.settings([(UInt16(random.below(7)), UInt32(random.below(70_000)))])
      case 8: bytes = F.headers(stream, [(":status", "200")], end: random.oneIn(2))
      case 9: bytes = F.frame(FrameType.ping, [UInt8](repeating: 1, count: 8))
      case 10:
        bytes = F.frame(
          UInt8(random.below(11)), flags: UInt8(truncatingIfNeeded: random.next()), stream: stream,
          (0..<random.below(40)).map { _ in UInt8(truncatingIfNeeded: random.next()) })
      default:
        bytes = []
        let id = StreamID(stream)
        switch random.below(5) {
        case 0:
          if role == .client { _ = peer.connection.openStream(request, endStream: random.oneIn(2)) }
          peer.connection.sendHeaders(id, head, endStream: random.oneIn(4))
        case 1:
          let data = [UInt8](repeating: 2, count: Int(random.below(30_000)))
          data.withUnsafeBytes { _ = peer.connection.sendData(id, $0, endStream: random.oneIn(3)) }
        case 2: peer.connection.sendTrailers(id, head)
        case 3: peer.connection.reset(id, .cancel)
        default: _ = peer.takeOutput()
        }
      }
      // A flipped bit now and then.
      if random.oneIn(40), !bytes.isEmpty {
        bytes[Int(random.below(UInt64(bytes.count)))] ^= 1 << UInt8(random.below(8))
      }
      let cut = Int(random.below(UInt64(bytes.count + 1)))
      _ = peer.receive(Array(bytes[..<cut]))
      _ = peer.receive(Array(bytes[cut...]))
      peer.connection.validate()
      if peer.connection.isFailed { break }
    }
  }

  @Test("Pure noise behind the preface", arguments: 0..<20)
  func noise(seed: UInt64) {
    var random = RandomSource(seed: seed &+ 1_000)
    for _ in 0..<300 {
      let peer = Transcript()
      let bytes = (0..<random.below(200)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      _ = peer.receive(bytes)
      peer.connection.validate()
    }
  }
}
