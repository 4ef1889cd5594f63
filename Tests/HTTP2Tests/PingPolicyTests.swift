import Primitives
import Testing

@testable import HTTP2

/// `--grpc-keepalive-min-time`: a client that PINGs too often is asked to be calm, as grpc-go's servers ask.
@Suite struct PingPolicyTests {
  typealias F = FrameBuilder

  private func peer() -> Transcript {
    var limits = HTTP2Limits()
    limits.minimumPingInterval = .seconds(5)
    return Transcript(limits: limits)
  }

  private func ping(_ peer: Transcript, after seconds: Int) -> [String] {
    peer.connection.now = peer.connection.now.advanced(by: .seconds(seconds))
    return peer.receive(F.frame(FrameType.ping, [1, 2, 3, 4, 5, 6, 7, 8]))
  }

  @Test("The third PING that is too early ends the connection")
  func tooMany() {
    let peer = peer()
    peer.connection.now = Instant.origin.advanced(by: .seconds(1_000))
    _ = peer.receive(F.headers(1))
    _ = peer.takeOutput()
    for _ in 0..<3 { #expect(ping(peer, after: 1).isEmpty) }
    #expect(ping(peer, after: 1).last == "failed ENHANCE_YOUR_CALM")
    let output = String(decoding: peer.connection.output.bytes, as: UTF8.self)
    #expect(output.contains("too_many_pings"))
    #expect(peer.takeOutput().last?.hasPrefix("GOAWAY") == true)
  }

  @Test("PINGs at the interval are welcome for ever")
  func punctual() {
    let peer = peer()
    peer.connection.now = Instant.origin.advanced(by: .seconds(1_000))
    _ = peer.receive(F.headers(1))
    for _ in 0..<100 { #expect(ping(peer, after: 5).isEmpty) }
  }

  @Test("Without calls, two hours are the interval")
  func idle() {
    let peer = peer()
    peer.connection.now = Instant.origin.advanced(by: .seconds(1_000))
    for _ in 0..<3 { #expect(ping(peer, after: 60).isEmpty) }
    #expect(ping(peer, after: 60).last == "failed ENHANCE_YOUR_CALM")
  }

  @Test("A PING that answers what was sent is forgiven: clients measure the path by them")
  func measuring() {
    let peer = peer()
    peer.connection.now = Instant.origin.advanced(by: .seconds(1_000))
    _ = peer.receive(F.headers(1))
    let head = HeaderTemplate([HeaderField(":status", "200")])
    peer.connection.sendHeaders(StreamID(1), head)
    for _ in 0..<100 {
      [UInt8](repeating: 0, count: 10).withUnsafeBytes { _ = peer.connection.sendData(StreamID(1), $0) }
      _ = peer.takeOutput()
      #expect(ping(peer, after: 0).isEmpty)
    }
  }
}
