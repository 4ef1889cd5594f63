import EtcdProto
import EtcdServer
import EtcdWire
import Foundation
import HTTP2
import MVCC
import Primitives
import Replica
import SwiftProtobuf
import Testing

/// Leases, members, status, and what is not there yet.
@Suite struct AdministrationTests {
  @Test("A lease's life: granted, attached, renewed, told, revoked")
  func leases() async throws {
    try await World.with { _, client in
      var grant = Etcdserverpb_LeaseGrantRequest()
      grant.ttl = 60
      let granted: Etcdserverpb_LeaseGrantResponse = try await client.call(
        "Lease/LeaseGrant", grant)
      #expect(granted.ttl == 60 && granted.id > 0 && granted.error.isEmpty)
      try await client.put("a", "1", lease: granted.id)

      var time = Etcdserverpb_LeaseTimeToLiveRequest()
      time.id = granted.id
      time.keys = true
      let told: Etcdserverpb_LeaseTimeToLiveResponse =
        try await client.call("Lease/LeaseTimeToLive", time)
      #expect(told.ttl == 60 && told.grantedTtl == 60 && told.keys == [.init("a".utf8)])

      let keepAlive = try await client.open("/etcdserverpb.Lease/LeaseKeepAlive")
      var messages = keepAlive.messages.makeAsyncIterator()
      for (id, expected) in [(granted.id, Int64(60)), (12345, 0)] {
        var renew = Etcdserverpb_LeaseKeepAliveRequest()
        renew.id = id
        try await keepAlive.send(renew)
        let answer = try Etcdserverpb_LeaseKeepAliveResponse(
          serializedBytes: try await messages.next() ?? [])
        #expect(answer.id == id && answer.ttl == expected && answer.header.revision == 2)
      }

      // Who asks once and ends its half at once still gets the answer.
      let once = try await client.open("/etcdserverpb.Lease/LeaseKeepAlive")
      var renew = Etcdserverpb_LeaseKeepAliveRequest()
      renew.id = granted.id
      try await once.send(renew)
      try await once.endSending()
      var answers: [Int64] = []
      for try await answer in once.messages {
        answers.append(try Etcdserverpb_LeaseKeepAliveResponse(serializedBytes: answer).ttl)
      }
      #expect(answers == [60])

      let all: Etcdserverpb_LeaseLeasesResponse =
        try await client.call("Lease/LeaseLeases", Etcdserverpb_LeaseLeasesRequest())
      #expect(all.leases.map(\.id) == [granted.id])

      var revoke = Etcdserverpb_LeaseRevokeRequest()
      revoke.id = granted.id
      let _: Etcdserverpb_LeaseRevokeResponse = try await client.call("Lease/LeaseRevoke", revoke)
      #expect(try await client.range("a").kvs.isEmpty)
      let gone: Etcdserverpb_LeaseTimeToLiveResponse =
        try await client.call("Lease/LeaseTimeToLive", time)
      #expect(gone.ttl == -1 && gone.id == granted.id)
      let second = revoke
      await #expect(throws: GRPCStatus(.notFound, EtcdError.leaseNotFound.text)) {
        let _: Etcdserverpb_LeaseRevokeResponse =
          try await client.call("Lease/LeaseRevoke", second)
      }
      grant.ttl = 9_000_000_001
      let tooLong = grant
      await #expect(throws: GRPCStatus(.outOfRange, EtcdError.leaseTimeToLiveTooLarge.text)) {
        let _: Etcdserverpb_LeaseGrantResponse =
          try await client.call("Lease/LeaseGrant", tooLong)
      }
    }
  }

  @Test("Members, status, alarms, defragmentation, health")
  func maintenance() async throws {
    try await World.with { world, client in
      for linearizable in [false, true] {
        var list = Etcdserverpb_MemberListRequest()
        list.linearizable = linearizable
        let members: Etcdserverpb_MemberListResponse =
          try await client.call("Cluster/MemberList", list)
        #expect(members.members.map(\.name) == ["one"])
      }
      let status: Etcdserverpb_StatusResponse =
        try await client.call("Maintenance/Status", Etcdserverpb_StatusRequest())
      #expect(status.version == EtcdServerSettings.reportedVersion)
      #expect(status.leader == world.front.identity.member.rawValue && status.errors.isEmpty)
      let alarms: Etcdserverpb_AlarmResponse =
        try await client.call("Maintenance/Alarm", Etcdserverpb_AlarmRequest())
      #expect(alarms.alarms.isEmpty)
      let _: Etcdserverpb_DefragmentResponse =
        try await client.call("Maintenance/Defragment", Etcdserverpb_DefragmentRequest())
    }
  }

  @Test("HashKV is a function of the data at a revision")
  func hashKV() async throws {
    try await World.with { _, client in
      for number in 0..<3_000 { try await client.put("k\(number)", "v") }
      func hash(_ revision: Int64) async throws -> Etcdserverpb_HashKVResponse {
        var request = Etcdserverpb_HashKVRequest()
        request.revision = revision
        return try await client.call("Maintenance/HashKV", request)
      }
      let before = try await hash(0)
      #expect(before.hashRevision == 3_001)
      try await client.put("k1", "other")
      let after = try await hash(0)
      #expect(after.hash != before.hash)
      #expect(try await hash(3_001).hash == before.hash)
    }
  }

  @Test(
    "There is nothing to downgrade to",
    arguments: [
      (
        Etcdserverpb_DowngradeRequest.DowngradeAction.validate, "3.4.0",
        EtcdError.invalidDowngradeTargetVersion
      ),
      (.enable, "3.4", .invalidDowngradeTargetVersion),
      (.enable, "old", .wrongDowngradeVersionFormat), (.validate, "", .wrongDowngradeVersionFormat),
      (.cancel, "", .noInflightDowngrade),
    ])
  func downgrade(
    action: Etcdserverpb_DowngradeRequest.DowngradeAction, version: String, expected: EtcdError
  ) async throws {
    var request = Etcdserverpb_DowngradeRequest()
    request.action = action
    request.version = version
    let sent = request
    try await World.with { _, client in
      await #expect(
        throws: GRPCStatus(
          GRPCStatus.Code(rawValue: Int(expected.status.rawValue))!, expected.text)
      ) {
        let _: Etcdserverpb_DowngradeResponse =
          try await client.call("Maintenance/Downgrade", sent)
      }
    }
  }

  @Test(
    "What is not there says so",
    arguments: [
      (
        "Auth/Nothing",
        GRPCStatus(.unimplemented, "unknown method Nothing for service etcdserverpb.Auth")
      ),
      ("Auth/Authenticate", GRPCStatus(.failedPrecondition, EtcdError.authNotEnabled.text)),
    ])
  func unimplemented(method: String, expected: GRPCStatus) async throws {
    try await World.with { _, client in
      await #expect(throws: expected) {
        let _: Etcdserverpb_AuthEnableResponse =
          try await client.call(method, Etcdserverpb_AuthEnableRequest())
      }
    }
  }

  static let hasCurl = run("curl", ["--version"]).contains("curl ")

  @Test("The HTTP endpoints on the same port", .enabled(if: hasCurl, "needs curl"))
  func endpoints() async throws {
    try await World.with { world, client in
      try await client.put("a", "1")
      func get(_ path: String) async -> String {
        await withCheckedContinuation { continuation in
          Thread {
            continuation.resume(
              returning: run(
                "curl", ["-s", "-w", " %{http_code}", "http://127.0.0.1:\(world.port)\(path)"]))
          }.start()
        }
      }
      #expect(
        await get("/version")
          == #"{"etcdserver":"\#(EtcdServerSettings.reportedVersion)","etcdcluster":"3.5.0"} 200"#)
      #expect(await get("/health") == #"{"health":"true","reason":""} 200"#)
      #expect(await get("/livez") == "ok\n 200")
      #expect(await get("/readyz?verbose").contains("[+]linearizable_read ok\n"))
      #expect(await get("/nothing") == "404 page not found\n 404")
      let metrics = await get("/metrics")
      #expect(metrics.contains("etcd_server_has_leader 1\n"))
      #expect(metrics.contains(#"grpc_server_handled_total{grpc_code="OK",grpc_method="Put""#))
      world.front.setLeader(false)
      #expect(await get("/health") == "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n 503")
      #expect(await get("/health?serializable=true").hasSuffix("200"))
    }
  }
}

private func run(_ program: String, _ arguments: [String]) -> String {
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = [program] + arguments
  let pipe = Pipe()
  process.standardOutput = pipe
  do { try process.run() } catch { return "\(error)" }
  let output = pipe.fileHandleForReading.readDataToEndOfFile()
  process.waitUntilExit()
  return String(decoding: output, as: UTF8.self)
}
