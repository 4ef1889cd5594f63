import HTTPServer
import KubeAPI
import Testing

@testable import NodeAgent

@Suite("SPDY/3.1") struct SPDYTests {
  @Test func `the dictionary is the standard's`() {
    #expect(SPDYDictionary.bytes.count == 1_423)
    #expect(SPDYDictionary.checksum == 0xE3C6_A7C2)
  }

  private static let headers = [
    SPDYHeader(name: "streamtype", value: "data"), SPDYHeader(name: "port", value: "8080"),
  ]

  @Test(arguments: [1, 3, 7, 1_000])
  func `frames are read back from any pieces`(piece: Int) throws {
    var writer = SPDYWriter()
    var bytes = writer.open(1, Self.headers)
    // The second block is compressed against the first.
    bytes += writer.open(3, Self.headers + [SPDYHeader(name: "requestid", value: "0")], isLast: true)
    bytes += SPDYWriter.data(1, Array("hello".utf8))
    bytes += writer.reply(to: 5)
    bytes += SPDYWriter.ping(9) + SPDYWriter.data(1, [], isLast: true) + SPDYWriter.reset(3)
    bytes += SPDYWriter.goAway()
    var reader = SPDYReader()
    var events: [SPDYEvent] = []
    for start in stride(from: 0, to: bytes.count, by: piece) {
      reader.add(Array(bytes[start..<min(start + piece, bytes.count)]))
      while let event = try reader.next() { events.append(event) }
    }
    #expect(
      events == [
        .opened(stream: 1, headers: Self.headers, isLast: false),
        .opened(
          stream: 3, headers: Self.headers + [SPDYHeader(name: "requestid", value: "0")],
          isLast: true),
        .data(stream: 1, Array("hello".utf8), isLast: false), .ping(9),
        .data(stream: 1, [], isLast: true), .reset(stream: 3), .goAway,
      ])
  }

  @Test func `bytes that are no frames are an error, never a crash`() throws {
    var random = SystemRandomNumberGenerator()
    var writer = SPDYWriter()
    let good = writer.open(1, Self.headers) + SPDYWriter.data(1, [1, 2, 3])
    for round in 0..<2_000 {
      var bytes = good
      if round % 2 == 0 {
        bytes = (0..<64).map { _ in UInt8.random(in: 0...255, using: &random) }
      } else {
        for _ in 0..<3 {
          bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(
            in: 0...255, using: &random)
        }
      }
      var reader = SPDYReader()
      reader.add(bytes)
      do { while try reader.next() != nil {} } catch {}
    }
  }

  @Test func `too long a frame is refused before it is read`() {
    var reader = SPDYReader()
    reader.add([0, 0, 0, 1, 0, 0xFF, 0xFF, 0xFF])
    #expect(throws: SPDYError.self) { try reader.next() }
  }
}

@Suite("Upgrades") struct StreamUpgradeTests {
  private func request(_ fields: HTTPFields) -> HTTPRequest {
    HTTPRequest(
      method: "GET", target: RequestTarget("/exec")!, fields: fields, body: [],
      connection: ConnectionFacts(peerAddress: "", isSecure: true, clientCertificate: nil))
  }

  private func upgrade(_ fields: HTTPFields) -> Result<StreamUpgrade, StreamUpgrade.Refusal> {
    Result { () throws(StreamUpgrade.Refusal) in
      try StreamUpgrade(
        request(fields), webSocket: ["v5.channel.k8s.io", "v4.channel.k8s.io"],
        spdy: ["v4.channel.k8s.io"])
    }
  }

  @Test func `a WebSocket gets the best protocol that both speak`() throws {
    let answer = try upgrade([
      "Upgrade": "WebSocket", "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
      "Sec-WebSocket-Protocol": "v4.channel.k8s.io, v5.channel.k8s.io",
    ]).get()
    #expect(answer.protocolName == "v5.channel.k8s.io")
    let response = answer.response { _ in }
    #expect(response.status == 101)
    // The example of RFC 6455, section 1.3.
    #expect(response.fields["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
  }

  @Test func `what can't be agreed on is refused`() {
    func status(_ fields: HTTPFields) -> Int? {
      if case .failure(let refusal) = upgrade(fields) { refusal.response.status } else { nil }
    }
    #expect(status([:]) == 400)
    #expect(status(["Upgrade": "websocket"]) == 400)
    #expect(
      status([
        "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x",
        "Sec-WebSocket-Protocol": "other",
      ]) == 400)
    #expect(status(["Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "other"]) == 403)
    #expect(
      status(["Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"]) == nil)
  }

  @Test func `ends are told as clients read them`() {
    #expect(CommandBridge.status(.exited(0))["status"].string == "Success")
    let failure = CommandBridge.status(.exited(3))
    #expect(failure["reason"].string == "NonZeroExitCode")
    #expect(failure["details"]["causes"][0]["message"].string == "3")
    #expect(
      CommandInput(resize: Array(#"{"Width":80,"Height":24}"#.utf8))
        == .resize(columns: 80, rows: 24))
    #expect(CommandInput(resize: Array(#"{"Width":-1,"Height":24}"#.utf8)) == nil)
    #expect(CommandInput(resize: Array("x".utf8)) == nil)
  }
}
