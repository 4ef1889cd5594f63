import Primitives
import Testing

@testable import HTTP2

/// What RFC 9113 demands of a server, frame by frame. Each case is what a peer sends after the preface, and
/// the code that the connection or the stream must end with.
@Suite struct ConformanceTests {
  typealias F = FrameBuilder

  struct Violation: Sendable, CustomTestStringConvertible {
    var rule: String
    var bytes: [UInt8]
    var code: HTTP2ErrorCode
    var testDescription: String { rule }
  }

  static let connectionErrors: [Violation] = [
    .init(
      rule: "4.2 a frame larger than announced",
      bytes: F.frame(0xFA, [UInt8](repeating: 0, count: 16_385)),
      code: .frameSizeError),
    .init(
      rule: "4.3 a broken header block",
      bytes: F.frame(FrameType.headers, flags: 5, stream: 1, [0xFF]),
      code: .compressionError),
    .init(
      rule: "5.1 DATA on an idle stream", bytes: F.data(1, 1), code: .protocolError),
    .init(rule: "5.1 RST_STREAM on an idle stream", bytes: F.reset(1), code: .protocolError),
    .init(
      rule: "5.1 WINDOW_UPDATE on an idle stream", bytes: F.windowUpdate(1, 1), code: .protocolError
    ),
    .init(rule: "5.1.1 an even stream", bytes: F.headers(2), code: .protocolError),
    .init(
      rule: "5.1.1 a stream number that went back", bytes: F.headers(5, end: true) + F.headers(3),
      code: .streamClosed),
    .init(
      rule: "6.1 DATA on stream 0", bytes: F.data(0, 1), code: .protocolError),
    .init(
      rule: "6.1 padding as long as the frame",
      bytes: F.headers(1) + F.frame(FrameType.data, flags: 8, stream: 1, [3, 0, 0]),
      code: .protocolError),
    .init(
      rule: "6.1 padding without its length",
      bytes: F.headers(1) + F.frame(FrameType.data, flags: 8, stream: 1), code: .protocolError),
    .init(rule: "6.2 HEADERS on stream 0", bytes: F.headers(0), code: .protocolError),
    .init(
      rule: "6.2 HEADERS padded beyond their end",
      bytes: F.frame(FrameType.headers, flags: 0x0C, stream: 1, [9, 0x82]), code: .protocolError),
    .init(
      rule: "6.2 another frame inside a header block",
      bytes: F.headers(1, endHeaders: false) + F.data(1, 1), code: .protocolError),
    .init(
      rule: "6.2 another stream inside a header block",
      bytes: F.headers(1, endHeaders: false) + F.frame(FrameType.continuation, flags: 4, stream: 3),
      code: .protocolError),
    .init(
      rule: "6.3 PRIORITY on stream 0", bytes: F.frame(FrameType.priority, [0, 0, 0, 0, 0]),
      code: .protocolError),
    .init(rule: "6.4 RST_STREAM on stream 0", bytes: F.reset(0), code: .protocolError),
    .init(
      rule: "6.4 RST_STREAM of three bytes",
      bytes: F.headers(1) + F.frame(FrameType.resetStream, stream: 1, [0, 0, 0]),
      code: .frameSizeError),
    .init(
      rule: "6.5 SETTINGS on a stream", bytes: F.frame(FrameType.settings, stream: 1),
      code: .protocolError),
    .init(
      rule: "6.5 an acknowledgement with data",
      bytes: F.frame(FrameType.settings, flags: 1, [0, 0, 0, 0, 0, 0]), code: .frameSizeError),
    .init(
      rule: "6.5 SETTINGS of five bytes", bytes: F.frame(FrameType.settings, [0, 0, 0, 0, 0]),
      code: .frameSizeError),
    .init(
      rule: "6.5.2 ENABLE_PUSH beyond one", bytes: F.settings([(2, 2)]), code: .protocolError),
    .init(
      rule: "6.5.2 an initial window beyond 2^31-1", bytes: F.settings([(4, 0x8000_0000)]),
      code: .flowControlError),
    .init(
      rule: "6.5.2 a frame size below 2^14", bytes: F.settings([(5, 16_383)]), code: .protocolError),
    .init(
      rule: "6.5.2 a frame size beyond 2^24-1", bytes: F.settings([(5, 1 << 24)]),
      code: .protocolError),
    .init(
      rule: "6.6 PUSH_PROMISE",
      bytes: F.frame(FrameType.pushPromise, flags: 4, stream: 1, [0, 0, 0, 2]),
      code: .protocolError),
    .init(
      rule: "6.7 PING on a stream",
      bytes: F.frame(FrameType.ping, stream: 1, [UInt8](repeating: 0, count: 8)),
      code: .protocolError),
    .init(
      rule: "6.7 PING of six bytes", bytes: F.frame(FrameType.ping, [0, 0, 0, 0, 0, 0]),
      code: .frameSizeError),
    .init(
      rule: "6.8 GOAWAY on a stream",
      bytes: F.frame(FrameType.goAway, stream: 1, [UInt8](repeating: 0, count: 8)),
      code: .protocolError),
    .init(
      rule: "6.9 an update of nothing", bytes: F.windowUpdate(0, 0), code: .protocolError),
    .init(
      rule: "6.9 WINDOW_UPDATE of three bytes", bytes: F.frame(FrameType.windowUpdate, [0, 0, 1]),
      code: .frameSizeError),
    .init(
      rule: "6.9.1 a connection window beyond 2^31-1", bytes: F.windowUpdate(0, 0x7FFF_FFFF),
      code: .flowControlError),
    .init(
      rule: "6.9.2 a stream's window beyond 2^31-1 by way of settings",
      bytes: F.headers(1) + F.windowUpdate(1, 0x7FFE_FFFF) + F.settings([(4, 0x7FFF_FFFF)]),
      code: .flowControlError),
    .init(
      rule: "6.10 CONTINUATION without a header block",
      bytes: F.headers(1) + F.frame(FrameType.continuation, flags: 4, stream: 1),
      code: .protocolError),
    .init(
      rule: "5.1 HEADERS on a stream that both sides ended",
      bytes: F.headers(1, end: true) + F.headers(3, end: true) + F.headers(1, end: true),
      code: .streamClosed),
  ]

  @Test("connection errors", arguments: connectionErrors)
  func connectionError(violation: Violation) {
    let peer = Transcript()
    if violation.rule.contains("both sides") {
      // The answer makes the stream closed, and not only half.
      _ = peer.receive(F.headers(1, end: true))
      peer.connection.sendHeaders(
        StreamID(1), HeaderTemplate([HeaderField(":status", "200")]), endStream: true)
      #expect(peer.receive(F.headers(1, end: true)).last == "failed \(violation.code)")
    } else {
      #expect(peer.receive(violation.bytes).last == "failed \(violation.code)")
    }
    #expect(peer.takeOutput().last?.hasSuffix(" \(violation.code)") == true)
    // Nothing is looked at any more.
    #expect(peer.receive(F.headers(99)) == [])
  }

  static let streamErrors: [Violation] = [
    .init(
      rule: "5.1 DATA after the end", bytes: F.headers(1, end: true) + F.data(1, 1),
      code: .streamClosed),
    .init(
      rule: "5.1 HEADERS after the end", bytes: F.headers(1, end: true) + F.headers(1, end: true),
      code: .streamClosed),
    .init(
      rule: "6.3 PRIORITY of four bytes",
      bytes: F.headers(1) + F.frame(FrameType.priority, stream: 1, [0, 0, 0, 0]),
      code: .frameSizeError),
    .init(
      rule: "6.9 a stream's update of nothing", bytes: F.headers(1) + F.windowUpdate(1, 0),
      code: .protocolError),
    .init(
      rule: "6.9.1 a stream's window beyond 2^31-1",
      bytes: F.headers(1) + F.windowUpdate(1, 0x7FFF_FFFF),
      code: .flowControlError),
    .init(
      rule: "8.1 a second head that doesn't end the stream", bytes: F.headers(1) + F.headers(1),
      code: .protocolError),
    .init(
      rule: "8.1.1 less data than content-length says",
      bytes: F.headers(1, F.requestFields + [("content-length", "2")]) + F.data(1, 1, end: true),
      code: .protocolError),
    .init(
      rule: "8.1.1 more data than content-length says",
      bytes: F.headers(1, F.requestFields + [("content-length", "2")]) + F.data(1, 3),
      code: .protocolError),
    .init(
      rule: "8.1.1 no data though content-length says so",
      bytes: F.headers(1, F.requestFields + [("content-length", "2")], end: true),
      code: .protocolError),
    .init(
      rule: "8.2 an upper-case name", bytes: F.headers(1, F.requestFields + [("X-A", "1")]),
      code: .protocolError),
    .init(
      rule: "8.2.1 a line break in a value",
      bytes: F.headers(1, F.requestFields + [("a", "1\r\n2")]),
      code: .protocolError),
    .init(
      rule: "8.2.1 a value that ends in a space",
      bytes: F.headers(1, F.requestFields + [("a", "1 ")]),
      code: .protocolError),
    .init(
      rule: "8.2.1 an empty name", bytes: F.headers(1, F.requestFields + [("", "1")]),
      code: .protocolError),
    .init(
      rule: "8.2.2 connection", bytes: F.headers(1, F.requestFields + [("connection", "close")]),
      code: .protocolError),
    .init(
      rule: "8.2.2 transfer-encoding",
      bytes: F.headers(1, F.requestFields + [("transfer-encoding", "chunked")]),
      code: .protocolError),
    .init(
      rule: "8.2.2 te other than trailers", bytes: F.headers(1, F.requestFields + [("te", "gzip")]),
      code: .protocolError),
    .init(
      rule: "8.3 a pseudo-header after a header",
      bytes: F.headers(1, [("a", "1")] + F.requestFields), code: .protocolError),
    .init(
      rule: "8.3 an unknown pseudo-header", bytes: F.headers(1, F.requestFields + [(":x", "1")]),
      code: .protocolError),
    .init(
      rule: "8.3 a response's pseudo-header",
      bytes: F.headers(1, F.requestFields + [(":status", "200")]),
      code: .protocolError),
    .init(
      rule: "8.3 a pseudo-header in trailers",
      bytes: F.headers(1) + F.headers(1, [(":path", "/")], end: true), code: .protocolError),
    .init(
      rule: "8.3.1 a path twice", bytes: F.headers(1, F.requestFields + [(":path", "/b")]),
      code: .protocolError),
    .init(
      rule: "8.3.1 no method", bytes: F.headers(1, Array(F.requestFields.dropFirst())),
      code: .protocolError),
    .init(
      rule: "8.3.1 no scheme",
      bytes: F.headers(1, [(":method", "GET"), (":path", "/")]), code: .protocolError),
    .init(
      rule: "8.3.1 no path", bytes: F.headers(1, [(":method", "GET"), (":scheme", "http")]),
      code: .protocolError),
    .init(
      rule: "8.3.1 an empty path",
      bytes: F.headers(1, [(":method", "GET"), (":scheme", "http"), (":path", "")]),
      code: .protocolError),
  ]

  @Test("stream errors leave the connection and its other streams alone", arguments: streamErrors)
  func streamError(violation: Violation) {
    let peer = Transcript()
    let events = peer.receive(violation.bytes)
    #expect(events.allSatisfy { !$0.hasPrefix("failed") }, "\(events)")
    #expect(peer.takeOutput().contains("RST_STREAM 1 \(violation.code)"))
    #expect(peer.receive(F.headers(3, end: true)).count == 1)
  }

  @Test("3.4 the connection starts with the preface and SETTINGS")
  func preface() {
    let wrong = Transcript(ready: false)
    #expect(wrong.receive(Array("GET / HTTP/1.1\r\n".utf8)) == ["failed PROTOCOL_ERROR"])
    let early = Transcript(ready: false)
    #expect(early.receive(F.preface + F.headers(1)) == ["failed PROTOCOL_ERROR"])
    let right = Transcript(ready: false)
    // Byte by byte, as a slow network brings it.
    for byte in F.preface { #expect(right.receive([byte]) == []) }
    #expect(right.receive(F.settings()) == ["settings"])
    #expect(right.takeOutput() == ["SETTINGS", "WINDOW_UPDATE 0 16711681", "SETTINGS ack"])
  }

  @Test("What must be ignored is ignored")
  func ignored() {
    let peer = Transcript()
    #expect(peer.receive(F.frame(0x55, flags: 0xFF, stream: 7, [1, 2, 3])) == [])
    #expect(peer.receive(F.settings([(0x77, 1)])) == ["settings"])
    #expect(peer.receive(F.frame(FrameType.priority, stream: 9, [0, 0, 0, 9, 1])) == [])
    // Frames for a stream that was reset here were under way.
    _ = peer.receive(F.headers(1))
    peer.connection.reset(StreamID(1), .cancel)
    #expect(peer.receive(F.data(1, 5), F.windowUpdate(1, 5), F.reset(1)) == [])
    #expect(peer.receive(F.headers(1, [("a", "b")], end: true)) == [])
    #expect(peer.takeOutput() == ["SETTINGS ack", "RST_STREAM 1 CANCEL"])
  }

  @Test("Padding and priority in HEADERS, padding in DATA")
  func padding() {
    let peer = Transcript()
    let block = F.block(F.requestFields)
    let payload = [2, 0, 0, 0, 0, 15] + block + [0, 0]
    #expect(
      peer.receive(F.frame(FrameType.headers, flags: 0x2C, stream: 1, payload)).first?
        .hasPrefix("headers 1 :method=POST") == true)
    #expect(
      peer.receive(F.frame(FrameType.data, flags: 9, stream: 1, [2, 97, 98, 0, 0])) == [
        "data 1 2 end"
      ])
  }

  @Test("A block over CONTINUATIONs, and trailers")
  func continuations() {
    let peer = Transcript()
    let block = F.block(F.requestFields + [("long", String(repeating: "x", count: 100))])
    var bytes = F.frame(FrameType.headers, flags: 0, stream: 1, Array(block.prefix(10)))
    bytes += F.frame(FrameType.continuation, stream: 1, Array(block[10..<50]))
    bytes += F.frame(FrameType.continuation, flags: 4, stream: 1, Array(block[50...]))
    #expect(peer.receive(bytes).count == 1)
    #expect(peer.receive(F.data(1, 3)) == ["data 1 3"])
    #expect(peer.receive(F.headers(1, [("a", "b")], end: true)) == ["trailers 1"])
  }

  @Test("PING is answered with its own data")
  func ping() {
    let peer = Transcript()
    #expect(peer.receive(F.frame(FrameType.ping, [1, 2, 3, 4, 5, 6, 7, 8])) == [])
    #expect(Array(peer.connection.output.bytes.suffix(8)) == [1, 2, 3, 4, 5, 6, 7, 8])
    peer.connection.ping(5)
    #expect(
      peer.receive(F.frame(FrameType.ping, flags: 1, [0, 0, 0, 0, 0, 0, 0, 5])) == ["pong 5"])
  }

  @Test("Streams beyond the announced number are refused and may be tried again")
  func concurrentStreams() {
    var limits = HTTP2Limits()
    limits.maxConcurrentStreams = 2
    let peer = Transcript(limits: limits)
    _ = peer.receive(F.headers(1), F.headers(3), F.headers(5))
    #expect(peer.takeOutput().last == "RST_STREAM 5 REFUSED_STREAM")
    #expect(peer.receive(F.reset(1)) == ["reset 1 CANCEL"])
    #expect(peer.receive(F.headers(7)).count == 1)
  }

  @Test("Draining serves what is open and under way, and then no more")
  func draining() {
    let peer = Transcript()
    _ = peer.receive(F.headers(1, end: true))
    peer.connection.drain()
    #expect(peer.takeOutput() == ["GOAWAY 2147483647 NO_ERROR", "PING"])
    // The client hadn't seen it yet.
    #expect(peer.receive(F.headers(3, end: true)).count == 1)
    let opaque = F.bigEndian(HTTP2Connection.drainPing)
    #expect(peer.receive(F.frame(FrameType.ping, flags: 1, opaque)) == [])
    #expect(peer.takeOutput() == ["GOAWAY 3 NO_ERROR"])
    #expect(peer.receive(F.headers(5, end: true)) == [])
    let head = HeaderTemplate([HeaderField(":status", "200")])
    peer.connection.sendHeaders(StreamID(1), head, endStream: true)
    #expect(!peer.connection.isDrained)
    peer.connection.sendHeaders(StreamID(3), head, endStream: true)
    _ = peer.takeOutput()
    #expect(peer.connection.isDrained)
  }

  @Test("A silent peer is asked, and given up when it doesn't answer")
  func keepAlive() {
    let peer = Transcript()
    peer.connection.noteReceived(at: Instant(nanoseconds: 1_000_000_000))
    peer.connection.now = Instant(nanoseconds: 60_000_000_000)
    #expect(peer.connection.keepAlive())
    #expect(peer.takeOutput() == [])
    peer.connection.now = Instant(nanoseconds: 61_000_000_000)
    #expect(peer.connection.keepAlive())
    #expect(peer.takeOutput() == ["PING"])
    peer.connection.now = Instant(nanoseconds: 80_000_000_000)
    #expect(peer.connection.keepAlive())
    peer.connection.now = Instant(nanoseconds: 81_000_000_000)
    #expect(!peer.connection.keepAlive())
  }

  @Test("PrefaceDetector: the first differing byte decides")
  func detection() {
    #expect(PrefaceDetector.detect(Array("PRI * HTTP/2.0\r\n".utf8)) == nil)
    #expect(PrefaceDetector.detect(F.preface + [0, 0]) == .http2)
    #expect(PrefaceDetector.detect(Array("PUT / HTTP/1.1".utf8)) == .http1)
    #expect(PrefaceDetector.detect(Array("GET".utf8)) == .http1)
    #expect(PrefaceDetector.detect(Array("P".utf8)) == nil)
  }
}
