import EtcdProto
import EtcdServer
import Foundation
import HTTP2
import SwiftProtobuf
import Testing

/// The lock and election services, where they go beyond what `SurfaceTests` compares with etcd: calls that are given
/// up at any moment leave nothing behind.
@Suite struct CoordinationTests {
  private func grant(_ client: WireClient, _ ids: Int64...) async throws {
    for id in ids {
      var request = Etcdserverpb_LeaseGrantRequest()
      request.id = id
      request.ttl = 600
      let _: Etcdserverpb_LeaseGrantResponse = try await client.call("Lease/LeaseGrant", request)
    }
  }

  private func lock(_ client: WireClient, _ name: String, _ lease: Int64) async throws
    -> WireClient.Call
  {
    var request = V3lockpb_LockRequest()
    request.name = Data(name.utf8)
    request.lease = lease
    let call = try await client.open("/v3lockpb.Lock/Lock")
    try await call.send(request)
    try await call.endSending()
    return call
  }

  private func key(_ call: WireClient.Call) async throws -> String {
    for try await message in call.messages {
      return String(decoding: try V3lockpb_LockResponse(serializedBytes: message).key, as: UTF8.self)
    }
    return "nothing"
  }

  private func keys(_ client: WireClient) async throws -> [String] {
    try await client.range("l/", "l0").kvs.map { String(decoding: $0.key, as: UTF8.self) }
  }

  /// Waits until the line is as expected.
  private func line(_ client: WireClient, is expected: [String]) async throws {
    for _ in 0..<500 {
      if try await keys(client) == expected { return }
      try await Task.sleep(for: .milliseconds(5))
    }
    #expect(try await keys(client) == expected)
  }

  @Test("Of many that wait, each gets the lock in the order in which it came")
  func order() async throws {
    try await World.with { _, client in
      try await grant(client, 1, 2, 3, 4)
      var calls: [WireClient.Call] = []
      for lease in 1...4 as ClosedRange<Int64> {
        calls.append(try await lock(client, "l", lease))
        try await line(client, is: (1...lease).map { "l/\($0)" })
      }
      for (index, call) in calls.enumerated() {
        #expect(try await key(call) == "l/\(index + 1)")
        #expect(try await keys(client).count == 4 - index)
        try await client.delete("l/\(index + 1)")
      }
    }
  }

  @Test("Calls that are cancelled at any moment leave the line, and the lease of their own too")
  func cancelled() async throws {
    try await World.with { _, client in
      try await grant(client, 1)
      #expect(try await key(try await lock(client, "l", 1)) == "l/1")
      for lease in [0, 7, 0] as [Int64] {
        if lease != 0 { try await grant(client, lease) }
        for delay in 0..<5 {
          let call = try await lock(client, "l", lease)
          try await Task.sleep(for: .milliseconds(delay))
          try await call.cancel()
          try await line(client, is: ["l/1"])
        }
        let leases: Etcdserverpb_LeaseLeasesResponse = try await client.call(
          "Lease/LeaseLeases", Etcdserverpb_LeaseLeasesRequest())
        #expect(Set(leases.leases.map(\.id)).isSubset(of: [1, 7]))
      }
    }
  }

  @Test("A connection that breaks leaves nothing in the line")
  func brokenConnection() async throws {
    try await World.with { world, client in
      try await grant(client, 1, 2)
      #expect(try await key(try await lock(client, "l", 1)) == "l/1")
      let other = try await WireClient(port: world.port)
      _ = try await lock(other, "l", 2)
      try await line(client, is: ["l/1", "l/2"])
      await other.close()
      try await line(client, is: ["l/1"])
    }
  }

  @Test("Who waits is told at once when his own key vanishes")
  func lostPlace() async throws {
    try await World.with { _, client in
      try await grant(client, 1, 2)
      #expect(try await key(try await lock(client, "l", 1)) == "l/1")
      let waiting = try await lock(client, "l", 2)
      try await line(client, is: ["l/1", "l/2"])
      try await client.delete("l/2")
      await #expect {
        _ = try await key(waiting)
      } throws: { error in
        (error as? GRPCStatus) == GRPCStatus(.unknown, "mutex: session is expired")
      }
    }
  }

  @Test("Waiting outlives a compaction of what was waited for")
  func compaction() async throws {
    try await World.with { _, client in
      try await grant(client, 1, 2)
      #expect(try await key(try await lock(client, "l", 1)) == "l/1")
      let waiting = try await lock(client, "l", 2)
      try await line(client, is: ["l/1", "l/2"])
      for number in 0..<50 { try await client.put("x", "\(number)") }
      try await client.compact(50)
      try await client.delete("l/1")
      #expect(try await key(waiting) == "l/2")
    }
  }

  @Test("Observe tells of every leader in turn")
  func observe() async throws {
    try await World.with { _, client in
      var request = V3electionpb_LeaderRequest()
      request.name = Data("e".utf8)
      let observer = try await client.open("/v3electionpb.Election/Observe")
      try await observer.send(request)
      try await observer.endSending()
      var messages = observer.messages.makeAsyncIterator()
      func next() async throws -> String {
        guard let message = try await messages.next() else { return "end" }
        let response = try V3electionpb_LeaderResponse(serializedBytes: message)
        #expect(response.header.revision >= response.kv.modRevision)
        return String(decoding: response.kv.value, as: UTF8.self)
      }
      for round in 0..<20 {
        try await client.put("e/a", "\(round)")
        #expect(try await next() == "\(round)")
        try await client.put("e/a", "\(round) again")
        #expect(try await next() == "\(round) again")
        try await client.delete("e/a")
      }
    }
  }
}
