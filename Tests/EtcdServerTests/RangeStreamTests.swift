import EtcdProto
import EtcdServer
import Foundation
import HTTP2
import SwiftProtobuf
import Testing

/// KV.RangeStream: one revision, in pieces, with the authorisation and the refusals of Range.
@Suite struct RangeStreamTests {
  private func stream(
    _ client: WireClient, _ request: Etcdserverpb_RangeRequest
  ) async throws -> [Etcdserverpb_RangeResponse] {
    let call = try await client.open("/etcdserverpb.KV/RangeStream")
    try await call.send(request)
    try await call.endSending()
    var responses: [Etcdserverpb_RangeResponse] = []
    for try await message in call.messages {
      responses.append(
        try Etcdserverpb_RangeStreamResponse(serializedBytes: message).rangeResponse)
    }
    return responses
  }

  private func request(
    _ key: String, _ end: String, _ change: (inout Etcdserverpb_RangeRequest) -> Void = { _ in }
  ) -> Etcdserverpb_RangeRequest {
    var request = Etcdserverpb_RangeRequest()
    request.key = Data(key.utf8)
    request.rangeEnd = Data(end.utf8)
    change(&request)
    return request
  }

  @Test("A large range comes in pieces that together are the answer to Range")
  func pieces() async throws {
    try await World.with { _, client in
      let value = String(repeating: "v", count: 40_000)
      for number in 100..<160 { try await client.put("k\(number)", value + "\(number)") }
      for change: (inout Etcdserverpb_RangeRequest) -> Void in [
        { _ in }, { $0.limit = 37 }, { $0.revision = 30 }, { $0.keysOnly = true },
        { $0.countOnly = true }, { $0.serializable = true }, { $0.rangeEnd = Data() },
        { $0.rangeEnd = Data("a".utf8) },
      ] {
        let request = request("k", "l", change)
        let whole: Etcdserverpb_RangeResponse = try await client.call("KV/Range", request)
        let pieces = try await stream(client, request)
        #expect(pieces.flatMap(\.kvs) == whole.kvs)
        let last = try #require(pieces.last)
        #expect(last.header == whole.header && last.more == whole.more && last.count == whole.count)
        for piece in pieces.dropLast() {
          #expect(!piece.hasHeader && !piece.more && piece.count == 0 && !piece.kvs.isEmpty)
        }
        if !request.keysOnly, whole.kvs.count > 30 { #expect(pieces.count > 2) }
      }
    }
  }

  @Test("What can't be cut into pieces is refused in etcd's words")
  func refusals() async throws {
    try await World.with { _, client in
      try await client.put("a", "1")
      for (request, text) in [
        (request("", ""), "etcdserver: key is not provided"),
        (
          request("a", "b") { $0.sortOrder = .descend },
          "RangeStream does not support custom sort orders"
        ),
        (
          request("a", "b") {
            $0.sortOrder = .ascend
            $0.sortTarget = .mod
          }, "RangeStream does not support custom sort orders"
        ),
        (
          request("a", "b") { $0.minModRevision = 1 },
          "RangeStream does not support revision filters"
        ),
        (
          request("a", "b") { $0.revision = 99 },
          "etcdserver: mvcc: required revision is a future revision"
        ),
      ] {
        await #expect {
          _ = try await stream(client, request)
        } throws: { error in
          (error as? GRPCStatus)?.message == text
        }
      }
    }
  }

  @Test("Writes meanwhile don't show, and a client that leaves ends it")
  func onePastAndGone() async throws {
    try await World.with { world, client in
      let value = String(repeating: "v", count: 60_000)
      for number in 100..<200 { try await client.put("k\(number)", value) }
      let call = try await client.open("/etcdserverpb.KV/RangeStream")
      try await call.send(request("k", "l"))
      try await call.endSending()
      var messages = call.messages.makeAsyncIterator()
      _ = try await messages.next()
      for number in 100..<200 { try await client.put("k\(number)", "new") }
      var last: Etcdserverpb_RangeResponse?
      var old = 0
      while let message = try await messages.next() {
        let piece = try Etcdserverpb_RangeStreamResponse(serializedBytes: message).rangeResponse
        old += piece.kvs.filter { $0.modRevision <= 101 }.count
        #expect(piece.kvs.allSatisfy { $0.modRevision <= 101 })
        last = piece
      }
      #expect(last?.header.revision == 101 && last?.count == 100)
      let other = try await client.open("/etcdserverpb.KV/RangeStream")
      try await other.send(request("k", "l"))
      try await other.endSending()
      try await other.cancel()
      #expect(try await client.range("k100").kvs.first?.value == Data("new".utf8))
    }
  }
}
