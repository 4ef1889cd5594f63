import EtcdProto
import Foundation
import HTTP2
import Primitives
import SwiftProtobuf

/// What the election service says is wrong; the texts are etcd's, whose status is `UNKNOWN`.
enum ElectionError: String {
  case notLeader = "election: not leader"
  case noLeader = "election: no leader"
  case missingLeader = "\"leader\" field must be provided"
}

extension GRPCStatus {
  init(_ error: ElectionError) { self.init(.unknown, error.rawValue) }
}

/// `v3lockpb.Lock/Unlock`
final class UnlockCall: CoordinationCall {
  private let request: V3lockpb_UnlockRequest

  init(
    _ loop: ServerLoop, _ connection: GRPCServerConnection, _ stream: StreamID,
    _ request: V3lockpb_UnlockRequest
  ) {
    self.request = request
    super.init(loop, connection, stream, .unlock)
  }

  override func start() {
    var delete = Etcdserverpb_DeleteRangeRequest()
    delete.key = request.key
    call(.deleteRange, delete) { [unowned self] (deleted: Etcdserverpb_DeleteRangeResponse) in
      var response = V3lockpb_UnlockResponse()
      response.header = deleted.header
      succeed(response)
    }
  }
}

/// `v3electionpb.Election/Proclaim`: the leader says something else.
final class ProclaimCall: CoordinationCall {
  private let request: V3electionpb_ProclaimRequest

  init(
    _ loop: ServerLoop, _ connection: GRPCServerConnection, _ stream: StreamID,
    _ request: V3electionpb_ProclaimRequest
  ) {
    self.request = request
    super.init(loop, connection, stream, .proclaim)
  }

  override func start() {
    guard request.hasLeader else { return fail(GRPCStatus(ElectionError.missingLeader)) }
    var put = Etcdserverpb_PutRequest()
    put.key = request.leader.key
    put.value = request.value
    put.lease = request.leader.lease
    var txn = Etcdserverpb_TxnRequest()
    txn.compare = [.isCreated(Array(request.leader.key), at: request.leader.rev)]
    txn.success = [.put(put)]
    call(.txn, txn) { [unowned self] (answer: Etcdserverpb_TxnResponse) in
      guard answer.succeeded else { return fail(GRPCStatus(ElectionError.notLeader)) }
      var response = V3electionpb_ProclaimResponse()
      response.header = answer.header
      succeed(response)
    }
  }
}

/// `v3electionpb.Election/Resign`. Who doesn't lead any more has resigned.
final class ResignCall: CoordinationCall {
  private let request: V3electionpb_ResignRequest

  init(
    _ loop: ServerLoop, _ connection: GRPCServerConnection, _ stream: StreamID,
    _ request: V3electionpb_ResignRequest
  ) {
    self.request = request
    super.init(loop, connection, stream, .resign)
  }

  override func start() {
    guard request.hasLeader else { return fail(GRPCStatus(ElectionError.missingLeader)) }
    var txn = Etcdserverpb_TxnRequest()
    txn.compare = [.isCreated(Array(request.leader.key), at: request.leader.rev)]
    txn.success = [.delete(Array(request.leader.key))]
    call(.txn, txn) { [unowned self] (answer: Etcdserverpb_TxnResponse) in
      var response = V3electionpb_ResignResponse()
      response.header = answer.header
      succeed(response)
    }
  }
}

/// `v3electionpb.Election/Leader`
final class LeaderCall: CoordinationCall {
  private let prefix: [UInt8]

  init(
    _ loop: ServerLoop, _ connection: GRPCServerConnection, _ stream: StreamID,
    _ request: V3electionpb_LeaderRequest
  ) {
    prefix = Array(request.name) + [UInt8(ascii: "/")]
    super.init(loop, connection, stream, .leader)
  }

  override func start() {
    call(.range, Etcdserverpb_RangeRequest.oldest(of: prefix)) {
      [unowned self] (answer: Etcdserverpb_RangeResponse) in
      guard let leader = answer.kvs.first else {
        return fail(GRPCStatus(ElectionError.noLeader))
      }
      var response = V3electionpb_LeaderResponse()
      response.header = answer.header
      response.kv = leader
      succeed(response)
    }
  }
}

/// `v3electionpb.Election/Observe`: what each leader in turn says, until the client leaves.
///
/// A leader that came and went between two looks is not told of.
final class ObserveCall: CoordinationCall {
  private let prefix: [UInt8]

  init(
    _ loop: ServerLoop, _ connection: GRPCServerConnection, _ stream: StreamID,
    _ request: V3electionpb_LeaderRequest
  ) {
    prefix = Array(request.name) + [UInt8(ascii: "/")]
    super.init(loop, connection, stream, .observe)
  }

  override func start() { look() }

  private func look() {
    call(.range, Etcdserverpb_RangeRequest.oldest(of: prefix)) {
      [unowned self] (answer: Etcdserverpb_RangeResponse) in
      if let leader = answer.kvs.first {
        tell(leader, answer.header)
        follow(Array(leader.key), after: answer.header.revision)
      } else {
        awaitLeader(after: answer.header.revision)
      }
    }
  }

  /// Nobody leads: the first that puts itself into the line does.
  private func awaitLeader(after revision: Int64) {
    var request = Etcdserverpb_WatchCreateRequest()
    request.key = Data(prefix)
    request.rangeEnd = Data(prefixEnd(prefix))
    request.startRevision = revision + 1
    request.filters = [.nodelete]
    watch([request]) { [unowned self] response in
      if response.canceled { return lost(response) }
      guard let event = response.events.first else { return }
      endWatch()
      var header = response.header
      header.revision = event.kv.modRevision
      tell(event.kv, header)
      follow(Array(event.kv.key), after: event.kv.modRevision)
    }
  }

  private func follow(_ key: [UInt8], after revision: Int64) {
    var request = Etcdserverpb_WatchCreateRequest()
    request.key = Data(key)
    request.startRevision = revision + 1
    watch([request]) { [unowned self] response in
      if response.canceled { return lost(response) }
      for event in response.events {
        if event.type == .delete {
          endWatch()
          return look()
        }
        tell(event.kv, response.header)
      }
    }
  }

  /// The watch ended: what it waited for was compacted, or it was refused.
  private func lost(_ response: Etcdserverpb_WatchResponse) {
    endWatch()
    if let status = response.refusal { fail(status) } else { look() }
  }

  private func tell(_ leader: Mvccpb_KeyValue, _ header: Etcdserverpb_ResponseHeader) {
    var response = V3electionpb_LeaderResponse()
    response.header = header
    response.kv = leader
    send(response)
  }
}
