import Dispatch
import EtcdClient
import EtcdProto
import Foundation
import SwiftProtobuf
import TestKit

/// What an operator asks of members: who leads, hashes, changes of membership. Every call blocks its thread.
struct Operator: Sendable {
  struct Status: Sendable {
    var memberID: UInt64
    var leader: UInt64
    var term: UInt64
    var isLeader: Bool { leader == memberID && leader != 0 }
  }

  func status(of member: Int) -> Status? {
    let answer: Etcdserverpb_StatusResponse? = try? call(
      "Maintenance/Status", Etcdserverpb_StatusRequest(), to: member, seconds: 1)
    return answer.map {
      Status(memberID: $0.header.memberID, leader: $0.leader, term: $0.raftTerm)
    }
  }

  /// The one among `members` that leads with the highest term.
  func leader(among members: [Int]) -> Int? {
    members.compactMap { member in status(of: member).map { (member, $0) } }
      .filter { $0.1.isLeader }.max { $0.1.term < $1.1.term }?.0
  }

  /// Whether a member answers a linearizable read.
  func serves(_ member: Int) -> Bool { revision(at: member) != nil }

  /// The revision that a linearizable read at a member sees.
  func revision(at member: Int) -> Int64? {
    let request = Etcdserverpb_RangeRequest.with {
      $0.key = Data("key-00".utf8)
      $0.countOnly = true
    }
    let answer: Etcdserverpb_RangeResponse? = try? call("KV/Range", request, to: member, seconds: 2)
    return answer?.header.revision
  }

  /// Everything that a member has; serializable, by a read that asks nobody else.
  func everything(at member: Int, isSerializable: Bool = true) throws -> Etcdserverpb_RangeResponse {
    let request = Etcdserverpb_RangeRequest.with {
      $0.key = Data([0])
      $0.rangeEnd = Data([0])
      $0.serializable = isSerializable
    }
    return try call("KV/Range", request, to: member, seconds: 10)
  }

  func hash(at member: Int, revision: Int64) throws -> Etcdserverpb_HashKVResponse {
    let request = Etcdserverpb_HashKVRequest.with { $0.revision = revision }
    return try call("Maintenance/HashKV", request, to: member, seconds: 10)
  }

  func moveLeader(from member: Int, to target: UInt64) throws {
    let request = Etcdserverpb_MoveLeaderRequest.with { $0.targetID = target }
    let _: Etcdserverpb_MoveLeaderResponse = try call("Maintenance/MoveLeader", request, to: member, seconds: 5)
  }

  func members(at member: Int) throws -> [Etcdserverpb_Member] {
    let answer: Etcdserverpb_MemberListResponse = try call(
      "Cluster/MemberList", Etcdserverpb_MemberListRequest(), to: member, seconds: 3)
    return answer.members
  }

  func remove(_ id: UInt64, at member: Int) throws {
    let request = Etcdserverpb_MemberRemoveRequest.with { $0.id = id }
    let _: Etcdserverpb_MemberRemoveResponse = try call("Cluster/MemberRemove", request, to: member, seconds: 5)
  }

  func addLearner(_ url: String, at member: Int) throws -> UInt64 {
    let request = Etcdserverpb_MemberAddRequest.with {
      $0.peerUrls = [url]
      $0.isLearner = true
    }
    let answer: Etcdserverpb_MemberAddResponse = try call("Cluster/MemberAdd", request, to: member, seconds: 5)
    return answer.member.id
  }

  func promote(_ id: UInt64, at member: Int) throws {
    let request = Etcdserverpb_MemberPromoteRequest.with { $0.id = id }
    let _: Etcdserverpb_MemberPromoteResponse = try call("Cluster/MemberPromote", request, to: member, seconds: 5)
  }

  /// Asks until it works or the time is up; throws the last error then.
  func insist<Answer>(seconds: Double, _ body: () throws -> Answer) throws -> Answer {
    var answer: Answer?
    var last: (any Error)?
    _ = waitUntil(seconds: seconds, every: 0.2) {
      do {
        answer = try body()
        return true
      } catch {
        last = error
        return false
      }
    }
    if let answer { return answer }
    throw last ?? FaultRunFailure("nothing was asked")
  }

  private func call<Request: Message, Response: Message>(
    _ method: String, _ request: Request, to member: Int, seconds: Int
  ) throws -> Response {
    let result = Blocked<Response>()
    Task {
      var connections = MemberConnections()
      do throws(StoreError) {
        result.set(
          .success(try await connections.call(method, request, to: member, timeout: .seconds(seconds))))
      } catch { result.set(.failure(error)) }
      connections.close()
    }
    return try result.wait()
  }
}

/// A result that a thread of its own waits for.
private final class Blocked<Value: Sendable>: @unchecked Sendable {
  // Written before the semaphore is signalled, read after.
  private var result: Result<Value, StoreError>?
  private let semaphore = DispatchSemaphore(value: 0)

  func set(_ result: Result<Value, StoreError>) {
    self.result = result
    semaphore.signal()
  }

  func wait() throws -> Value {
    semaphore.wait()
    guard let result else { throw FaultRunFailure("a result that isn't there") }
    return try result.get()
  }
}
