import Primitives
import Testing

@testable import HTTP2

/// Clients that only want to cost us memory or time, beyond the floods in `AbuseTests`: each either gets what it is
/// entitled to, within the bounds of `HTTP2Limits`, or loses its connection.
@Suite struct HostileClientTests {
  typealias F = FrameBuilder

  static let head = HeaderTemplate([HeaderField(":status", "200")])

  // MARK: Windows

  @Test("Answers that the client gives no window for are bounded, and new streams are refused")
  func noWindow() {
    var limits = HTTP2Limits()
    limits.queuedBytesToRefuseStreams = 500_000
    let peer = Transcript(limits: limits)
    _ = peer.receive(F.settings([(4, 0)]))
    let answer = [UInt8](repeating: 0, count: 100_000)
    var refusedAt: UInt32?
    for number in 0..<50 as Range<UInt32> {
      let stream = 1 + 2 * number
      _ = peer.receive(F.headers(stream, end: true))
      if peer.takeOutput().contains("RST_STREAM \(stream) REFUSED_STREAM") {
        refusedAt = refusedAt ?? stream
        continue
      }
      peer.connection.sendHeaders(StreamID(stream), Self.head)
      answer.withUnsafeBytes { _ = peer.connection.sendData(StreamID(stream), $0) }
    }
    #expect(refusedAt != nil)
    #expect(peer.connection.queuedBytes <= 700_000)
    // A client that was only slow goes on.
    _ = peer.receive(F.settings([(4, 1 << 20)]), F.windowUpdate(0, 1 << 24))
    while peer.connection.queuedBytes > 0 { _ = peer.takeOutput() }
    #expect(peer.receive(F.headers(999, end: true)).count == 1)
  }

  @Test("A window that is opened byte by byte costs its client, not us")
  func dribbledWindow() {
    let peer = Transcript()
    _ = peer.receive(F.settings([(4, 0)]))
    _ = peer.receive(F.headers(1, end: true))
    peer.connection.sendHeaders(StreamID(1), Self.head)
    [UInt8](repeating: 0, count: 50_000).withUnsafeBytes {
      _ = peer.connection.sendData(StreamID(1), $0)
    }
    _ = peer.takeOutput()
    var updates = 0
    while updates < 60_000 {
      updates += 1
      if peer.receive(F.windowUpdate(1, 1)).last?.hasPrefix("failed") == true { break }
      _ = peer.takeOutput()
    }
    // Each update brings one byte of answer; either the answer ends first or the budget does.
    #expect(peer.connection.isFailed || peer.connection.queuedBytes == 0)
    #expect(updates <= 60_000)
  }

  @Test("An initial window that goes up and down thousands of times is a SETTINGS flood")
  func flickeringWindow() {
    let peer = Transcript()
    for stream in 0..<100 as Range<UInt32> { _ = peer.receive(F.headers(1 + 2 * stream)) }
    var count = 0
    while count < 10_000 {
      count += 1
      let size: UInt32 = count % 2 == 0 ? 0 : 0x7FFF_FFFF
      if peer.receive(F.settings([(4, size)])).last == "failed ENHANCE_YOUR_CALM" { break }
      _ = peer.takeOutput()
    }
    #expect(count <= HTTP2Limits().settingsFrames.burst + 1)
  }

  // MARK: Header compression

  @Test("A small block that unpacks to a huge section (HPACK bomb)")
  func compressionBomb() {
    let peer = Transcript()
    // One large entry for the table, then thousands of one-byte references to it.
    let value = [UInt8](repeating: 0x61, count: 3_900)
    var block = F.block(F.requestFields)
    block += [0x40, 0x01, 0x78, 0x7F, 0xBD, 0x1D] + value
    block += [UInt8](repeating: 0xBE, count: 12_000)
    _ = peer.receive(F.frame(FrameType.headers, flags: 5, stream: 1, block))
    #expect(peer.takeOutput().last == "RST_STREAM 1 ENHANCE_YOUR_CALM")
    #expect(peer.connection.headers.copyFields().count <= HTTP2Limits().maxHeaderFields)
    #expect(peer.receive(F.headers(3, end: true)).count == 1, "other streams live on")
  }

  @Test("A table that is resized without end is a compression error")
  func tableThrash() {
    let peer = Transcript()
    // More than the two updates that a change of settings can need, then a size beyond the announced one.
    let updates = (0..<5_000).flatMap { _ in [0x20, 0x3F, 0xE1, 0x1F] as [UInt8] }
    let events = peer.receive(
      F.frame(FrameType.headers, flags: 5, stream: 1, Array(updates.prefix(16_000)) + F.block(F.requestFields)))
    #expect(events.count == 1)
    let beyond = peer.receive(F.frame(FrameType.headers, flags: 5, stream: 3, [0x3F, 0xFF, 0xFF, 0x03]))
    #expect(beyond.last == "failed COMPRESSION_ERROR")
  }

  @Test("A peer that announces a huge table doesn't make us keep one")
  func hugeTable() {
    let peer = Transcript()
    _ = peer.receive(F.settings([(1, 0xFFFF_FFFF)]))
    for number in 0..<2_000 as Range<UInt32> {
      let stream = 1 + 2 * number
      _ = peer.receive(F.headers(stream, end: true))
      peer.connection.sendHeaders(
        StreamID(stream),
        HeaderTemplate([
          HeaderField(":status", "200"),
          HeaderField("x", "\(number)" + String(repeating: "v", count: 100), indexing: .indexed),
        ]), endStream: true)
      _ = peer.takeOutput()
    }
    #expect(peer.connection.encoder.table.size <= 4_096)
  }

  @Test("A head whose end never comes holds one bounded buffer and no stream")
  func unfinishedHead() {
    let peer = Transcript()
    _ = peer.receive(F.headers(1, endHeaders: false))
    for _ in 0..<20 { _ = peer.receive(F.frame(FrameType.continuation, stream: 1, [0])) }
    #expect(peer.connection.streamCount == 0)
    #expect((peer.connection.assembly?.bytes.count ?? 0) <= HTTP2Limits().maxHeaderBlockBytes)
  }

  // MARK: Streams

  @Test("The last stream number is as good as any, and the connection ends in order after it")
  func lastStreamNumber() {
    let peer = Transcript()
    #expect(peer.receive(F.headers(0x7FFF_FFFF, end: true)).count == 1)
    peer.connection.sendHeaders(StreamID(0x7FFF_FFFF), Self.head, endStream: true)
    #expect(peer.receive(F.headers(1)).last == "failed STREAM_CLOSED")
  }

  @Test("Streams opened to the limit hold no more than the limit, whatever comes after")
  func openedAndLeft() {
    var limits = HTTP2Limits()
    limits.maxConcurrentStreams = 100
    let peer = Transcript(limits: limits)
    for number in 0..<900 as Range<UInt32> {
      _ = peer.receive(F.headers(1 + 2 * number))
      #expect(peer.connection.streamCount <= 100)
      _ = peer.takeOutput()
    }
  }

  @Test("Resets of streams that we reset first, again and again, are ignored or a flood")
  func resetReplay() {
    let peer = Transcript()
    _ = peer.receive(F.headers(1))
    peer.connection.reset(StreamID(1), .cancel)
    var count = 0
    while count < 30_000 {
      count += 1
      if peer.receive(F.reset(1)).last?.hasPrefix("failed") == true { break }
    }
    #expect(peer.connection.streamCount == 0)
    #expect(count < 30_000, "a flood of resets for a dead stream must end")
  }

  @Test("PRIORITY and GOAWAY floods end")
  func quietFloods() {
    for frame in [
      F.frame(FrameType.priority, stream: 9, [0, 0, 0, 0, 1]),
      F.frame(FrameType.goAway, [UInt8](repeating: 0, count: 8)),
      F.frame(FrameType.ping, flags: 1, [UInt8](repeating: 1, count: 8)),
    ] {
      let peer = Transcript()
      var count = 0
      while count < 30_000, peer.receive(frame).last?.hasPrefix("failed") != true { count += 1 }
      #expect(count < 30_000)
    }
  }

  // MARK: Of RFC 9113 and 7541, what `ConformanceTests` and `HPACKTests` leave out

  @Test("4.1 the reserved bit of a stream number is ignored")
  func reservedBit() {
    let peer = Transcript()
    var frame = F.headers(1, end: true)
    frame[5] |= 0x80
    #expect(peer.receive(frame).count == 1)
    #expect(peer.connection.isOpen(StreamID(1)))
  }

  @Test("5.5 an unknown frame inside a header block is a connection error")
  func unknownInsideBlock() {
    let peer = Transcript()
    #expect(
      peer.receive(F.headers(1, endHeaders: false) + F.frame(0x55)).last == "failed PROTOCOL_ERROR")
  }

  @Test("6.5.3 settings are taken in order, so that the last of equal ones counts, and acknowledged once")
  func settingsInOrder() {
    let peer = Transcript()
    _ = peer.takeOutput()
    #expect(peer.receive(F.settings([(4, 0), (4, 10), (4, 5)])) == ["settings"])
    #expect(peer.takeOutput() == ["SETTINGS ack"])
    _ = peer.receive(F.headers(1, end: true))
    peer.connection.sendHeaders(StreamID(1), Self.head)
    [UInt8](repeating: 0, count: 100).withUnsafeBytes {
      _ = peer.connection.sendData(StreamID(1), $0)
    }
    #expect(peer.takeOutput() == ["HEADERS 1", "DATA 1 5"])
  }

  @Test("6.7 an acknowledged PING is not answered")
  func pingAcknowledgement() {
    let peer = Transcript()
    _ = peer.takeOutput()
    _ = peer.receive(F.frame(FrameType.ping, flags: 1, [UInt8](repeating: 3, count: 8)))
    #expect(peer.takeOutput() == [])
  }

  @Test("6.9 a half-closed stream still takes window updates, and needs them")
  func updatesWhenHalfClosed() {
    let peer = Transcript()
    _ = peer.receive(F.settings([(4, 1)]))
    _ = peer.receive(F.headers(1, end: true))
    peer.connection.sendHeaders(StreamID(1), Self.head)
    [1, 2, 3].withUnsafeBytes { _ = peer.connection.sendData(StreamID(1), $0) }
    _ = peer.takeOutput()
    _ = peer.receive(F.windowUpdate(1, 2))
    #expect(peer.takeOutput() == ["DATA 1 2"])
  }

  @Test("7541 4.4 an entry larger than the table empties it and is no error")
  func tooLargeForTheTable() {
    var table = HPACKTable(capacity: 100)
    func insert(_ value: [UInt8]) {
      Array("name".utf8).withUnsafeBytes { name in
        value.withUnsafeBytes { table.insert(name: name, value: $0, known: .other) }
      }
    }
    insert([1])
    #expect(table.count == 1)
    insert([UInt8](repeating: 1, count: 200))
    #expect(table.count == 0)
    #expect(table.size == 0)
  }

  @Test("7541 4.2 after a smaller table was asked for, the next block begins with its size")
  func sizeUpdateFirst() {
    var encoder = HPACKEncoder(maxCachedTemplates: 4)
    let first = ByteSink()
    encoder.beginBlock(first)
    encoder.encode(HeaderField("x", "1", indexing: .indexed), into: first)
    encoder.peerAllows(tableSize: 0)
    let second = ByteSink()
    encoder.beginBlock(second)
    encoder.encode(HeaderField("x", "1", indexing: .indexed), into: second)
    #expect(second.bytes.first == 0x20)
    #expect(encoder.table.size == 0)
  }
}
