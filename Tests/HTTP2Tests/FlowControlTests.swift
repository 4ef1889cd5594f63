import Primitives
import Testing

@testable import HTTP2

/// Windows: nothing is sent that the peer didn't allow, and nothing that it allowed is forgotten.
@Suite struct FlowControlTests {
  typealias F = FrameBuilder
  let head = HeaderTemplate([HeaderField(":status", "200")])
  let trailers = HeaderTemplate([HeaderField("grpc-status", "0")])

  private func send(_ peer: Transcript, _ stream: UInt32, _ count: Int, end: Bool = false) {
    let bytes = [UInt8](repeating: 1, count: count)
    bytes.withUnsafeBytes { _ = peer.connection.sendData(StreamID(stream), $0, endStream: end) }
  }

  @Test("An answer larger than the stream's window goes out as updates come")
  func streamWindow() {
    let peer = Transcript()
    _ = peer.receive(F.settings([(4, 10)]), F.headers(1, end: true))
    _ = peer.takeOutput()
    peer.connection.sendHeaders(StreamID(1), head)
    send(peer, 1, 25)
    peer.connection.sendTrailers(StreamID(1), trailers)
    #expect(peer.takeOutput() == ["HEADERS 1", "DATA 1 10"])
    #expect(peer.connection.queuedBytes(on: StreamID(1)) == 15)
    #expect(peer.receive(F.windowUpdate(1, 7)) == [])
    #expect(peer.takeOutput() == ["DATA 1 7"])
    #expect(peer.receive(F.windowUpdate(1, 100)) == [])
    #expect(peer.takeOutput() == ["DATA 1 8", "HEADERS 1 end"])
    #expect(peer.connection.streamCount == 0)
    #expect(peer.connection.queuedBytes == 0)
  }

  @Test("The connection's window holds all streams, which then go on in turn")
  func connectionWindow() {
    let peer = Transcript()
    _ = peer.receive(F.settings([(4, 1_000_000)]), F.headers(1, end: true), F.headers(3, end: true))
    _ = peer.takeOutput()
    for stream in [1, 3] as [UInt32] {
      peer.connection.sendHeaders(StreamID(stream), head)
      send(peer, stream, 60_000, end: true)
    }
    // 65,535 bytes altogether.
    #expect(
      peer.takeOutput() == [
        "HEADERS 1", "DATA 1 16384", "DATA 1 16384", "DATA 1 16384", "DATA 1 10848 end",
        "HEADERS 3", "DATA 3 5535",
      ])
    _ = peer.receive(F.headers(5, end: true))
    peer.connection.sendHeaders(StreamID(5), head)
    send(peer, 5, 20_000, end: true)
    _ = peer.receive(F.windowUpdate(0, 100_000))
    #expect(
      peer.takeOutput() == [
        "HEADERS 5", "DATA 3 16384", "DATA 5 16384", "DATA 3 16384", "DATA 5 3616 end",
        "DATA 3 16384", "DATA 3 5313 end",
      ])
  }

  @Test("A smaller initial window can make a stream's window negative, and it recovers")
  func negativeWindow() {
    let peer = Transcript()
    _ = peer.receive(F.settings([(4, 100)]), F.headers(1, end: true))
    _ = peer.takeOutput()
    peer.connection.sendHeaders(StreamID(1), head)
    send(peer, 1, 150)
    #expect(peer.takeOutput() == ["HEADERS 1", "DATA 1 100"])
    _ = peer.receive(F.settings([(4, 20)]))  // window: -80
    _ = peer.receive(F.windowUpdate(1, 80))  // 0
    #expect(peer.takeOutput() == ["SETTINGS ack"])
    #expect(peer.receive(F.windowUpdate(1, 10)) == [])
    #expect(peer.takeOutput() == ["DATA 1 10"])
    #expect(peer.receive(F.settings([(4, 70)])) == ["settings", "writable 1"])
    #expect(peer.takeOutput() == ["SETTINGS ack", "DATA 1 40"])
  }

  @Test("A stream's user hears when what waited is out")
  func writable() {
    let peer = Transcript()
    _ = peer.receive(F.settings([(4, 5)]), F.headers(1, end: true))
    peer.connection.sendHeaders(StreamID(1), head)
    send(peer, 1, 6)
    #expect(peer.receive(F.windowUpdate(1, 1)) == ["writable 1"])
    #expect(peer.connection.queuedBytes(on: StreamID(1)) == 0)
  }

  @Test("An answer that waits doesn't grow the output beyond its target")
  func outputTarget() {
    var limits = HTTP2Limits()
    limits.outputTarget = 40_000
    let peer = Transcript(limits: limits)
    _ = peer.receive(
      F.settings([(4, 1_000_000)]), F.windowUpdate(0, 1_000_000), F.headers(1, end: true))
    peer.connection.sendHeaders(StreamID(1), head)
    send(peer, 1, 200_000, end: true)
    #expect(peer.connection.output.count < 40_000 + 17_000)
    var sent = 0
    while !peer.connection.output.isEmpty {
      for line in peer.takeOutput() where line.hasPrefix("DATA") {
        sent += Int(line.split(separator: " ")[2]) ?? 0
      }
    }
    #expect(sent == 200_000)
    #expect(peer.connection.streamCount == 0)
  }

  @Test("Windows are given back in steps of half a window, padding included")
  func receiveWindows() {
    var limits = HTTP2Limits()
    limits.streamReceiveWindow = 1_000
    limits.connectionReceiveWindow = 65_535
    let peer = Transcript(limits: limits)
    _ = peer.receive(F.headers(1))
    _ = peer.takeOutput()
    _ = peer.receive(F.data(1, 499))
    #expect(peer.takeOutput() == [])
    _ = peer.receive(F.frame(FrameType.data, flags: 8, stream: 1, [0]))
    #expect(peer.takeOutput() == ["WINDOW_UPDATE 1 500"])
    for _ in 0..<100 { _ = peer.receive(F.data(1, 400)) }
    #expect(peer.takeOutput().contains { $0.hasPrefix("WINDOW_UPDATE 0") })
  }

  @Test("DATA beyond the windows is an error")
  func violations() {
    var limits = HTTP2Limits()
    limits.streamReceiveWindow = 100
    let peer = Transcript(limits: limits)
    _ = peer.receive(F.headers(1))
    #expect(peer.receive(F.data(1, 101)) == ["reset 1 FLOW_CONTROL_ERROR"])
    // A client whose user holds data back sees its window run out.
    let client = HTTP2Connection(role: .client, automaticWindowUpdates: false)
    client.start()
    #expect(client.openStream(head, endStream: true) != nil)
  }

  @Test("With manual updates, the window opens as the user consumes")
  func manualUpdates() {
    var limits = HTTP2Limits()
    limits.streamReceiveWindow = 100
    let connection = HTTP2Connection(role: .client, limits: limits, automaticWindowUpdates: false)
    connection.start()
    let stream = connection.openStream(
      HeaderTemplate([HeaderField(":method", "GET")]), endStream: true)!
    let bytes = F.settings() + F.headers(1, [(":status", "200")]) + F.data(1, 100)
    bytes.withUnsafeBytes { bytes in
      var input = HTTP2Connection.Input(bytes)
      while connection.nextEvent(&input) != nil {}
    }
    connection.output.removeAll()
    connection.consume(49, on: stream)
    #expect(connection.output.isEmpty)
    connection.consume(1, on: stream)
    #expect(Array(connection.output.bytes) == F.windowUpdate(1, 50))
  }

  @Test("A reset drops what waited")
  func resetDropsQueue() {
    let peer = Transcript()
    _ = peer.receive(F.settings([(4, 5)]), F.headers(1, end: true))
    peer.connection.sendHeaders(StreamID(1), head)
    send(peer, 1, 1_000)
    #expect(peer.connection.queuedBytes == 995)
    #expect(peer.receive(F.reset(1)) == ["reset 1 CANCEL"])
    #expect(peer.connection.queuedBytes == 0)
    #expect(!peer.connection.sendData(StreamID(1), UnsafeRawBufferPointer(start: nil, count: 0)))
  }

  @Test("An answer before the request's end tells the client to stop")
  func earlyAnswer() {
    let peer = Transcript()
    _ = peer.receive(F.headers(1), F.data(1, 10))
    peer.connection.sendHeaders(StreamID(1), head, endStream: true)
    #expect(peer.takeOutput().suffix(2) == ["HEADERS 1 end", "RST_STREAM 1 NO_ERROR"])
    #expect(peer.receive(F.data(1, 10), F.data(1, 10, end: true)) == [])
  }
}

/// What a peer can do to cost us something, and where it ends.
@Suite struct FloodTests {
  typealias F = FrameBuilder

  private func flood(_ frame: (Int) -> [UInt8], upTo count: Int, limits: HTTP2Limits = .init())
    -> Int?
  {
    let peer = Transcript(limits: limits)
    _ = peer.receive(F.headers(1))
    for number in 0..<count {
      if peer.receive(frame(number)).last == "failed ENHANCE_YOUR_CALM" { return number }
      _ = peer.takeOutput()
    }
    return nil
  }

  @Test("Rapid reset (CVE-2023-44487)")
  func rapidReset() {
    let end = flood(
      { F.headers(UInt32(3 + 2 * $0), end: true) + F.reset(UInt32(3 + 2 * $0)) }, upTo: 20_000)
    #expect(end == 5_000)
  }

  @Test("A CONTINUATION flood (CVE-2024-27316)")
  func continuationFlood() {
    let peer = Transcript()
    _ = peer.receive(F.headers(1, endHeaders: false))
    var frames = 0
    while peer.receive(F.frame(FrameType.continuation, stream: 1, [0])) == [] { frames += 1 }
    #expect(frames == HTTP2Limits().maxContinuationFrames)
    let large = Transcript()
    _ = large.receive(F.headers(1, endHeaders: false))
    var bytes = 0
    while large.receive(
      F.frame(FrameType.continuation, stream: 1, [UInt8](repeating: 0, count: 16_384)))
      == []
    {
      bytes += 16_384
    }
    #expect(bytes <= HTTP2Limits().maxHeaderBlockBytes)
  }

  @Test("PING, SETTINGS, empty DATA, window update and unknown frame floods end")
  func controlFloods() {
    #expect(
      flood({ _ in F.frame(FrameType.ping, [UInt8](repeating: 0, count: 8)) }, upTo: 20_000) != nil)
    #expect(flood({ _ in F.settings() }, upTo: 20_000) != nil)
    #expect(flood({ _ in F.data(1, 0) }, upTo: 20_000) != nil)
    #expect(flood({ _ in F.windowUpdate(0, 1) }, upTo: 20_000) != nil)
    #expect(flood({ _ in F.frame(0x99) }, upTo: 20_000) != nil)
    #expect(
      flood({ F.headers(UInt32(3 + 2 * $0), [("x", "y")]) }, upTo: 20_000) != nil,
      "broken requests")
  }

  @Test("grpc-go's bandwidth probes, one per answer, are no flood")
  func bandwidthProbes() {
    let peer = Transcript()
    let head = HeaderTemplate([HeaderField(":status", "200")])
    for number in 0..<20_000 {
      let stream = UInt32(1 + 2 * number)
      let events = peer.receive(
        F.headers(stream, end: true), F.frame(FrameType.ping, [UInt8](repeating: 0, count: 8)),
        F.windowUpdate(0, 1))
      #expect(events.count == 1)
      peer.connection.sendHeaders(StreamID(stream), head, endStream: true)
      _ = peer.takeOutput()
    }
  }

  @Test("Watches that are cancelled by the thousand are no flood when time passes")
  func cancelledWatches() {
    let peer = Transcript()
    for number in 0..<20_000 {
      peer.connection.now = Instant(nanoseconds: UInt64(number) * 3_000_000)
      let stream = UInt32(1 + 2 * number)
      #expect(peer.receive(F.headers(stream), F.reset(stream)).count == 2)
    }
  }

  @Test("A peer that never reads its answers is dropped before it costs too much")
  func unreadAnswers() {
    var limits = HTTP2Limits()
    limits.maxQueuedBytes = 1_000_000
    let peer = Transcript(limits: limits)
    let head = HeaderTemplate([HeaderField(":status", "200")])
    let answer = [UInt8](repeating: 0, count: 100_000)
    var failed = false
    for number in 0..<20 where !failed {
      let stream = UInt32(1 + 2 * number)
      failed = peer.receive(F.headers(stream, end: true)).contains("failed ENHANCE_YOUR_CALM")
      peer.connection.sendHeaders(StreamID(stream), head)
      answer.withUnsafeBytes { _ = peer.connection.sendData(StreamID(stream), $0) }
    }
    #expect(failed)
  }

  @Test("Header sections beyond the announced size are refused, and the connection goes on")
  func headerListSize() {
    var limits = HTTP2Limits()
    limits.maxHeaderListSize = 300
    let peer = Transcript(limits: limits)
    let large = F.requestFields + [("a", String(repeating: "x", count: 100))]
    _ = peer.receive(F.headers(1, large + large.suffix(1)))
    #expect(peer.takeOutput().last == "RST_STREAM 1 ENHANCE_YOUR_CALM")
    #expect(peer.receive(F.headers(3)).count == 1)
  }

  @Test("A budget regains what time brings, and no more than its burst")
  func budget() {
    var budget = FloodBudget(.init(burst: 4, perSecond: 2))
    func spend(at now: Instant) -> Bool { budget.spend(now: now) }
    let start = Instant(nanoseconds: 1_000_000_000_000)
    for _ in 0..<4 { #expect(spend(at: start)) }
    #expect(!spend(at: start))
    let later = start.advanced(by: .milliseconds(1_100))
    #expect(spend(at: later))
    #expect(spend(at: later))
    #expect(!spend(at: later))
    budget.earn(10)
    for _ in 0..<4 { #expect(spend(at: later)) }
    #expect(!spend(at: later))
  }
}
