import EtcdProto
import EtcdServer
import EtcdWire
import Foundation
import HTTP2
import MVCC
import Primitives
import Replica
import Testing

/// The KV service over real sockets and the real state machine, with requests and answers read by the
/// generated code.
@Suite struct KVTests {
  @Test("Put, Range, DeleteRange: values, revisions and headers")
  func basics() async throws {
    try await World.with { world, client in
      let first = try await client.put("a", "1")
      #expect(first.header.clusterID == world.front.identity.cluster)
      #expect(first.header.memberID == world.front.identity.member.rawValue)
      #expect(first.header.revision == 2 && first.header.raftTerm == 2)
      #expect(!first.hasPrevKv)
      let second = try await client.put("a", "2")
      #expect(second.prevKv.value == .init("1".utf8))
      try await client.put("b", "3")

      let both = try await client.range("a", "c")
      #expect(both.count == 2 && both.kvs.map(\.version) == [2, 1] && both.header.revision == 4)
      let old = try await client.range("a") { $0.revision = 2 }
      #expect(old.kvs.map(\.value) == [.init("1".utf8)])
      let limited = try await client.range("a", "c") { $0.limit = 1 }
      #expect(limited.more && limited.count == 2 && limited.kvs.count == 1)
      let serializable = try await client.range("a", "c") { $0.serializable = true }
      #expect(serializable == both)

      let deleted = try await client.delete("a")
      #expect(deleted.deleted == 1 && deleted.header.revision == 5)
      #expect(try await client.range("a").kvs.isEmpty)
    }
  }

  @Test("A transaction takes one branch, at one revision")
  func transactions() async throws {
    try await World.with { _, client in
      var txn = Etcdserverpb_TxnRequest()
      var absent = Etcdserverpb_Compare()
      absent.key = .init("a".utf8)
      absent.target = .mod
      absent.result = .equal
      absent.modRevision = 0
      txn.compare = [absent]
      var put = Etcdserverpb_RequestOp()
      put.requestPut.key = .init("a".utf8)
      put.requestPut.value = .init("1".utf8)
      var get = Etcdserverpb_RequestOp()
      get.requestRange.key = .init("a".utf8)
      txn.success = [put, get]
      txn.failure = [get]
      let created: Etcdserverpb_TxnResponse = try await client.call("KV/Txn", txn)
      #expect(created.succeeded && created.header.revision == 2)
      #expect(created.responses[1].responseRange.kvs.first?.value == .init("1".utf8))
      let exists: Etcdserverpb_TxnResponse = try await client.call("KV/Txn", txn)
      #expect(!exists.succeeded && exists.header.revision == 2)

      // Read-only transactions don't go through the log.
      for serializable in [false, true] {
        var reading = Etcdserverpb_TxnRequest()
        get.requestRange.serializable = serializable
        reading.success = [get]
        let answer: Etcdserverpb_TxnResponse = try await client.call("KV/Txn", reading)
        #expect(answer.succeeded && answer.responses[0].responseRange.count == 1)
      }
    }
  }

  @Test("Compaction takes the past away, and says so as etcd does")
  func compaction() async throws {
    try await World.with { _, client in
      for value in ["1", "2", "3"] { try await client.put("a", value) }
      try await client.compact(3)
      #expect(try await client.range("a") { $0.revision = 3 }.kvs.first?.value == .init("2".utf8))
      await #expect(throws: GRPCStatus(.outOfRange, EtcdError.compacted.text)) {
        try await client.range("a") { $0.revision = 2 }
      }
      await #expect(throws: GRPCStatus(.outOfRange, EtcdError.futureRevision.text)) {
        try await client.range("a") { $0.revision = 99 }
      }
      await #expect(throws: GRPCStatus(.outOfRange, EtcdError.compacted.text)) {
        try await client.compact(3)
      }
      await #expect(throws: GRPCStatus(.outOfRange, EtcdError.futureRevision.text)) {
        try await client.compact(99)
      }
    }
  }

  @Test("What etcd refuses is refused with its words, and never reaches the log")
  func refusals() async throws {
    var settings = EtcdServerSettings()
    settings.maxRequestBytes = 1_000
    try await World.with(settings) { world, client in
      func refused(_ error: EtcdError, _ body: () async throws -> Void) async {
        let status = GRPCStatus(
          GRPCStatus.Code(rawValue: Int(error.status.rawValue)) ?? .unknown, error.text)
        await #expect(throws: status) { try await body() }
      }
      await refused(.emptyKey) { try await client.put("", "1") }
      await refused(.emptyKey) { _ = try await client.range("") }
      await refused(.emptyKey) { try await client.delete("") }
      await refused(.requestTooLarge) {
        try await client.put("a", String(repeating: "x", count: 1_001))
      }
      await refused(.leaseNotFound) { try await client.put("a", "1", lease: 77) }
      var ignoring = Etcdserverpb_PutRequest()
      ignoring.key = .init("a".utf8)
      ignoring.ignoreValue = true
      let missing = ignoring
      await refused(.keyNotFound) {
        let _: Etcdserverpb_PutResponse = try await client.call("KV/Put", missing)
      }
      ignoring.value = .init("1".utf8)
      let provided = ignoring
      await refused(.valueProvided) {
        let _: Etcdserverpb_PutResponse = try await client.call("KV/Put", provided)
      }
      var put = Etcdserverpb_RequestOp()
      put.requestPut.key = .init("a".utf8)
      var twice = Etcdserverpb_TxnRequest()
      twice.success = [put, put]
      let duplicate = twice
      await refused(.duplicateKey) {
        let _: Etcdserverpb_TxnResponse = try await client.call("KV/Txn", duplicate)
      }
      // Only the two that depend on the state went to the log.
      #expect(world.front.status.appliedIndex.rawValue == 2)
      #expect(world.front.view.revision.rawValue == 1)
    }
  }

  @Test("Calls of many streams at once are answered each with its own")
  func manyAtOnce() async throws {
    try await World.with { _, client in
      try await withThrowingTaskGroup(of: (Int, Int64).self) { group in
        for number in 0..<500 {
          group.addTask {
            (number, try await client.put("key-\(number)", "\(number)").header.revision)
          }
        }
        var revisions: Set<Int64> = []
        for try await (_, revision) in group { revisions.insert(revision) }
        #expect(revisions == Set(2...501))
      }
      for number in [0, 250, 499] {
        let answer = try await client.range("key-\(number)")
        #expect(answer.kvs.first?.value == .init("\(number)".utf8))
      }
    }
  }

  @Test("A large answer crosses windows and frames")
  func largeAnswer() async throws {
    try await World.with { _, client in
      for number in 0..<20 {
        try await client.put("k\(number)", String(repeating: "x", count: 500_000))
      }
      let all = try await client.range("k", "l")
      #expect(all.kvs.count == 20 && all.kvs.allSatisfy { $0.value.count == 500_000 })
    }
  }
}
