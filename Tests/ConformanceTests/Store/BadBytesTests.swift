import Foundation
import TestKit
import Testing

extension StoreConformance {
  /// Bytes that no client would send hurt nobody but who sent them.
  @Suite(.serialized, .enabled(if: Peers.etcdctl != nil, Missing.etcdctl))
  struct BadBytes {
    /// What a connection to the client port may begin with, besides plain noise.
    private static let openings: [[UInt8]] = [
      [],
      Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8),
      // The preface and empty SETTINGS, as a real client begins.
      Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0],
      // The preface, and a frame that says it is 16 MiB long.
      Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [255, 255, 255, 0, 0, 0, 0, 0, 1],
      // HEADERS of stream 1, whose HPACK block is the noise that follows.
      Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0]
        + [0, 1, 0, 1, 5, 0, 0, 0, 1],
      Array("GET /health HTTP/1.1\r\n".utf8),
      Array("POST /v3/kv/put HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n".utf8),
      Array("GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".utf8),
    ]

    @Test func noiseAtEitherPort() throws {
      let cluster = try StoreCluster(members: 3)
      let leader = try cluster.leader()
      try write(cluster, "before")
      var random = SplitMix(state: 20_260)
      for round in 0..<160 {
        let member = cluster.members[round % 3]
        let isClientPort = round % 2 == 0
        guard
          let connection = try? LoopbackConnection(
            port: isClientPort ? member.clientPort : member.peerPort)
        else {
          Issue.record("\(member.name) takes no connection in round \(round)")
          return
        }
        connection.send(Self.openings[round / 2 % Self.openings.count])
        connection.send(
          (0..<Int.random(in: 1...4096, using: &random)).map { _ in
            UInt8.random(in: 0...255, using: &random)
          })
        // Some wait for an answer, others go away at once.
        if round % 5 == 0 { _ = connection.receiveAll(seconds: 0.05) }
      }
      try write(cluster, "after")
      #expect(try cluster.leader() == leader, "no election took place")
      for (index, member) in cluster.members.enumerated() {
        #expect(member.process?.isRunning == true, "\(cluster.log(of: index))")
      }
    }

    /// Connections that never say anything take nobody's place.
    @Test func silentConnections() throws {
      let cluster = try StoreCluster()
      let port = cluster.members[0].clientPort
      let silent = try (0..<300).map { _ in try LoopbackConnection(port: port) }
      let half = try (0..<100).map { _ in try LoopbackConnection(port: port) }
      for connection in half { connection.send("PRI * HTTP/2.0\r\n") }
      try write(cluster, "value")
      #expect(silent.count + half.count == 400)
    }

    @Test func nonsenseOverHTTP1() throws {
      let cluster = try StoreCluster()
      let port = cluster.members[0].clientPort
      #expect(status(of: "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", port: port) == 404)
      #expect(status(of: "GET /health HTTP/1.1\r\nHost: x\r\n\r\n", port: port) == 200)
      let requests = [
        "GARBAGE\r\n\r\n", "GET\r\n\r\n", "GET /health HTTP/9.9\r\n\r\n", "\r\n\r\n\r\n",
        "GET /health HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "GET /\(String(repeating: "x", count: 1 << 20)) HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n" + String(repeating: "a: b\r\n", count: 100_000) + "\r\n",
      ]
      for request in requests {
        let status = status(of: request, port: port)
        #expect(status == nil || (400...599).contains(status!), "\(request.prefix(60)): \(status!)")
      }
      try write(cluster, "value")
    }

    /// The status of the first answer; nil if the connection just closed or nothing came.
    private func status(of request: String, port: Int) -> Int? {
      guard let connection = try? LoopbackConnection(port: port) else { return nil }
      connection.send(request)
      let answer = String(decoding: connection.receiveAll(seconds: 0.3).bytes, as: UTF8.self)
      return answer.firstMatch(of: /^HTTP\/1\.[01] ([0-9]{3})/).flatMap { Int($0.1) }
    }

    /// Every member takes a write and reads it.
    private func write(_ cluster: StoreCluster, _ value: String) throws {
      for member in cluster.members {
        let flags = ["--endpoints", member.endpoint]
        let put = try Peers.etcdctl!.run(flags + ["put", "key-\(member.name)", value])
        #expect(put.output == "OK\n", "\(put.errors)")
        let get = try Peers.etcdctl!.run(
          flags + ["get", "key-\(member.name)", "--print-value-only"])
        #expect(get.output == value + "\n", "\(get.errors)")
      }
    }
  }
}

/// Numbers that are the same in every run.
private struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
