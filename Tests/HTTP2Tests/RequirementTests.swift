import Testing

@testable import HTTP2

/// What RFC 9113 and RFC 7541 demand of a server beyond single frames (`ConnectionTests`): what follows from
/// several frames, what must be ignored, what we must not send. `Docs/Testing.md` has the table of demands and tests.
@Suite struct RequirementTests {
  typealias F = FrameBuilder

  static let head = HeaderTemplate([HeaderField(":status", "200")])

  private func answer(_ peer: Transcript, _ stream: UInt32, _ count: Int) {
    peer.connection.sendHeaders(StreamID(stream), Self.head)
    [UInt8](repeating: 0, count: count).withUnsafeBytes {
      _ = peer.connection.sendData(StreamID(stream), $0, endStream: true)
    }
  }

  @Test("4.1 flags that a frame's kind doesn't have are ignored")
  func undefinedFlags() {
    let peer = Transcript()
    let block = F.block(F.requestFields)
    #expect(peer.receive(F.frame(FrameType.headers, flags: 0x04 | 0xD2, stream: 1, block)).count == 1)
    #expect(peer.receive(F.frame(FrameType.data, flags: 0xF6, stream: 1, [97])) == ["data 1 1"])
    #expect(peer.receive(F.frame(FrameType.ping, flags: 0xFE, [UInt8](repeating: 1, count: 8))) == [])
    #expect(peer.receive(F.frame(FrameType.settings, flags: 0xFE)) == ["settings"])
    #expect(peer.receive(F.frame(FrameType.windowUpdate, flags: 0xFF, stream: 1, [0, 0, 0, 1])) == [])
    #expect(peer.receive(F.frame(FrameType.resetStream, flags: 0xFF, stream: 1, [0, 0, 0, 8])) == ["reset 1 CANCEL"])
    #expect(peer.takeOutput() == ["PING ack", "SETTINGS ack"])
  }

  @Test("4.2 no frame is larger than the peer takes: DATA", arguments: [16_384, 20_000])
  func largestData(size: Int) {
    let peer = Transcript()
    _ = peer.receive(F.settings([(5, UInt32(size)), (4, 1 << 20)]), F.headers(1, end: true))
    _ = peer.takeOutput()
    answer(peer, 1, 50_000)
    let sizes = peer.takeOutput().filter { $0.hasPrefix("DATA") }.compactMap { Int($0.split(separator: " ")[2]) }
    #expect(sizes.max() == size)
    #expect(sizes.reduce(0, +) == 50_000)
  }

  @Test("4.2, 6.10 no frame is larger than the peer takes: a long head goes in CONTINUATIONs, one after the other")
  func largestHead() {
    let peer = Transcript()
    _ = peer.receive(F.headers(1, end: true))
    _ = peer.takeOutput()
    let long = String(repeating: "~", count: 20_000)
    peer.connection.sendHeaders(
      StreamID(1), HeaderTemplate([HeaderField(":status", "200"), HeaderField("x", long, indexing: .plain)]))
    let lines = peer.takeOutput()
    #expect(lines.first == "HEADERS 1")
    #expect(lines.count >= 2)
    #expect(lines.dropFirst().allSatisfy { $0 == "CONTINUATION 1" })
  }

  /// A head that puts `x: y` into the compression table, and one that refers to it.
  static let storing = F.block(F.requestFields) + [0x40, 1, 0x78, 1, 0x79]
  static let referring = F.block(F.requestFields) + [0xBE]

  /// What was done with the stream of the head that stores.
  static let fates: [(String, @Sendable (Transcript) -> Void)] = [
    ("refused", { peer in _ = peer.receive(F.headers(1), F.headers(3)) }),
    ("malformed", { peer in
      _ = peer.receive(F.frame(FrameType.headers, flags: 5, stream: 1, F.block([("a", "b")]) + [0x40, 1, 0x7A, 1, 0x7A]))
    }),
    ("reset", { peer in
      _ = peer.receive(F.headers(5))
      peer.connection.reset(StreamID(5), .cancel)
    }),
    ("closed", { peer in
      _ = peer.receive(F.headers(5, end: true))
    }),
  ]

  @Test("4.3 a header block counts for the compression state, whatever becomes of its stream", arguments: fates.indices)
  func compressionState(fate: Int) {
    var limits = HTTP2Limits()
    limits.maxConcurrentStreams = 2
    let peer = Transcript(limits: limits)
    Self.fates[fate].1(peer)
    _ = peer.receive(F.frame(FrameType.headers, flags: 5, stream: 5, Self.storing))
    _ = peer.receive(F.reset(1), F.reset(3))
    let events = peer.receive(F.frame(FrameType.headers, flags: 5, stream: 7, Self.referring))
    #expect(events.last?.hasSuffix(" x=y") == true, "\(Self.fates[fate].0): \(events)")
  }

  @Test("5.1 DATA and HEADERS on a stream that the peer has reset are stream errors")
  func afterReset() {
    for frame in [F.data(1, 1), F.headers(1, [("a", "b")], end: true)] {
      let peer = Transcript()
      _ = peer.receive(F.headers(1), F.reset(1))
      let events = peer.receive(frame)
      let output = peer.takeOutput()
      #expect(
        output == ["RST_STREAM 1 STREAM_CLOSED"] || events.last == "failed STREAM_CLOSED", "\(events) \(output)")
    }
  }

  @Test("5.1, 6.9 window updates and resets that were under way when a stream closed are ignored")
  func lateFrames() {
    let peer = Transcript()
    _ = peer.receive(F.headers(1, end: true))
    answer(peer, 1, 1)
    _ = peer.takeOutput()
    #expect(peer.receive(F.windowUpdate(1, 10), F.reset(1), F.frame(FrameType.priority, stream: 1, [0, 0, 0, 3, 1])) == [])
    #expect(peer.takeOutput() == [])
  }

  @Test("5.4.2 RST_STREAM is never answered with RST_STREAM")
  func resetIsNotAnswered() {
    let peer = Transcript()
    _ = peer.receive(F.headers(1), F.reset(1), F.reset(1))
    peer.connection.reset(StreamID(1), .cancel)
    _ = peer.receive(F.headers(3))
    peer.connection.reset(StreamID(3), .cancel)
    _ = peer.takeOutput()
    _ = peer.receive(F.reset(3))
    #expect(peer.takeOutput() == [])
  }

  @Test("5.4.1 after GOAWAY nothing more is sent, and the connection is over")
  func nothingAfterFailure() {
    let peer = Transcript()
    _ = peer.receive(F.headers(1, end: true))
    _ = peer.receive(F.data(0, 1))
    #expect(peer.takeOutput() == ["GOAWAY 1 PROTOCOL_ERROR"])
    answer(peer, 1, 10)
    peer.connection.reset(StreamID(1), .cancel)
    #expect(peer.takeOutput() == [])
    #expect(peer.connection.isFailed)
  }

  @Test("6.8 the last stream of a GOAWAY is the highest that may have been acted upon")
  func lastStream() {
    let peer = Transcript()
    _ = peer.receive(F.headers(7, end: true))
    _ = peer.receive(F.windowUpdate(0, 0))
    #expect(peer.takeOutput() == ["GOAWAY 7 PROTOCOL_ERROR"])
  }

  @Test("6.9.1 DATA for a stream that is gone counts against the connection's window, which is given back")
  func windowOfTheGone() {
    var limits = HTTP2Limits()
    limits.connectionReceiveWindow = 65_535
    limits.streamReceiveWindow = 1 << 20
    let peer = Transcript(limits: limits)
    _ = peer.receive(F.headers(1))
    peer.connection.reset(StreamID(1), .cancel)
    for _ in 0..<20 { #expect(peer.receive(F.data(1, 10_000)) == []) }
    #expect(peer.takeOutput().contains { $0.hasPrefix("WINDOW_UPDATE 0") })
    #expect(!peer.connection.isFailed)
  }

  @Test("6.10 CONTINUATION on stream 0, and behind a head that has ended")
  func strayContinuation() {
    for bytes in [
      F.frame(FrameType.continuation, flags: 4, stream: 0),
      F.headers(1) + F.frame(FrameType.continuation, flags: 4, stream: 1),
      F.headers(1, endHeaders: false) + F.frame(FrameType.continuation, flags: 4, stream: 0),
    ] {
      #expect(Transcript().receive(bytes).last == "failed PROTOCOL_ERROR")
    }
  }

  @Test("7 unknown error codes are taken like any other")
  func unknownCodes() {
    let peer = Transcript()
    _ = peer.receive(F.headers(1))
    #expect(peer.receive(F.reset(1, 0xFFFF_FFFF)) == ["reset 1 error 4294967295"])
    #expect(peer.receive(F.frame(FrameType.goAway, [0, 0, 0, 0, 0, 0, 0x12, 0x34, 7])) == ["goaway 0 error 4660"])
  }

  static let malformed: [(String, [(String, String)])] = [
    ("8.2.1 a space in a name", [("a b", "1")]), ("8.2.1 a colon in a name", [("a:b", "1")]),
    ("8.2.1 a control character in a name", [("a\u{1}", "1")]), ("8.2.1 a delete in a name", [("a\u{7f}", "1")]),
    ("8.2.1 a name beyond ASCII", [("ä", "1")]), ("8.2.1 a NUL in a value", [("a", "1\u{0}")]),
    ("8.2.1 a line feed in a value", [("a", "1\n2")]), ("8.2.1 a carriage return in a value", [("a", "1\r2")]),
    ("8.2.1 a value that begins with a tab", [("a", "\t1")]),
    ("8.2.2 keep-alive", [("keep-alive", "timeout=5")]), ("8.2.2 proxy-connection", [("proxy-connection", "close")]),
    ("8.2.2 upgrade", [("upgrade", "h2c")]), ("8.3 a method twice", [(":method", "GET")]),
    ("8.3 a scheme twice", [(":scheme", "http")]), ("8.3 an authority twice", [(":authority", "x")]),
    ("8.1.1 a length that is no number", [("content-length", "1x")]),
    ("8.1.1 two lengths", [("content-length", "1"), ("content-length", "2")]),
    ("8.1.1 a negative length", [("content-length", "-1")]),
  ]

  @Test("Malformed requests reset their stream and no other", arguments: malformed.indices)
  func malformedRequest(index: Int) {
    let (rule, fields) = Self.malformed[index]
    let isPseudo = fields[0].0.hasPrefix(":")
    let peer = Transcript()
    #expect(peer.receive(F.headers(1, isPseudo ? fields + F.requestFields : F.requestFields + fields)) == [], "\(rule)")
    #expect(peer.takeOutput() == ["RST_STREAM 1 PROTOCOL_ERROR"], "\(rule)")
    #expect(peer.receive(F.headers(3, end: true)).count == 1)
  }

  @Test("8.5 CONNECT has an authority, and neither scheme nor path")
  func connect() {
    let wrong: [[(String, String)]] = [
      [(":method", "CONNECT")], [(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")],
      [(":method", "CONNECT"), (":authority", "a:1"), (":scheme", "http")],
    ]
    for fields in wrong {
      let peer = Transcript()
      _ = peer.receive(F.headers(1, fields))
      #expect(peer.takeOutput() == ["RST_STREAM 1 PROTOCOL_ERROR"])
    }
    #expect(Transcript().receive(F.headers(1, [(":method", "CONNECT"), (":authority", "a:1")])).count == 1)
  }

  @Test("7541 4.2 a table size beyond the announced one, or an update behind a field, is a compression error")
  func tableSizeUpdates() {
    for block in [[0x3F, 0xE2, 0x1F] as [UInt8], F.block(F.requestFields) + [0x20]] {
      let peer = Transcript()
      #expect(
        peer.receive(F.frame(FrameType.headers, flags: 5, stream: 1, block)).last == "failed COMPRESSION_ERROR")
    }
  }

  @Test("7541 2.3.3, 6.1 index 0 and indexes beyond the tables are compression errors")
  func indexes() {
    for block in [[0x80], [0xBE], [0x7E, 1, 0x61], [0xFF, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]] as [[UInt8]] {
      let peer = Transcript()
      #expect(
        peer.receive(F.frame(FrameType.headers, flags: 5, stream: 1, block)).last == "failed COMPRESSION_ERROR")
    }
  }
}
