import EtcdProto
import EtcdServer
import EtcdWire
import Foundation
import HTTP2
import Replica
import Testing

/// The write that would outgrow the quota is refused before it is proposed, and raises the alarm.
@Suite struct QuotaTests {
  private let noSpace = GRPCStatus(.resourceExhausted, EtcdError.noSpace.text)

  private func txn(
    _ change: (inout Etcdserverpb_RequestOp) -> Void
  ) -> Etcdserverpb_TxnRequest {
    var operation = Etcdserverpb_RequestOp()
    change(&operation)
    var request = Etcdserverpb_TxnRequest()
    request.failure = [operation]
    return request
  }

  @Test("Puts are refused, what adds nothing passes")
  func crossing() async throws {
    try await World.with { world, client in
      world.front.setQuotaLeft(100)
      try await client.put("small", "fits")
      await #expect(throws: noSpace) {
        try await client.put("large", String(repeating: "x", count: 200))
      }
      let put = txn {
        $0.requestPut.key = Data("large".utf8)
        $0.requestPut.value = Data(count: 200)
      }
      await #expect(throws: noSpace) {
        let _: Etcdserverpb_TxnResponse = try await client.call("KV/Txn", put)
      }
      let delete = txn { $0.requestDeleteRange.key = Data(count: 200) }
      let _: Etcdserverpb_TxnResponse = try await client.call("KV/Txn", delete)
      try await client.delete(String(repeating: "k", count: 200))
      #expect(world.front.status.alarms.map(\.kind) == [.noSpace])
      #expect(world.front.status.alarms.map(\.member) == [world.front.identity.member])
      #expect(try await client.range("large").count == 0)
    }
  }
}
