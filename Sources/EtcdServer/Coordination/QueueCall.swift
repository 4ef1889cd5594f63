import EtcdProto
import Foundation
import HTTP2
import Primitives
import SwiftProtobuf

/// A call that stands in a line: Lock, and Campaign.
///
/// The line is the keys under `NAME/`, in the order in which they were created; each is called by its lease's id in
/// hexadecimal, and lives as long as that. Whoever is first has the lock, or leads. A call looks whom it stands
/// behind, waits until that key is gone, and looks again; so each departure wakes one waiter.
///
/// Source: etcd `client/v3/concurrency`, whose keys and order these are: clients that lock by themselves stand in
/// the same line.
class QueueCall: CoordinationCall {
  /// How long the lease lives that a call without one gets.
  static let sessionSeconds: Int64 = 60

  /// What all keys of the line begin with.
  let prefix: [UInt8]
  private let value: [UInt8]
  private(set) var lease: Int64
  /// The lease was granted for this call, whose client has not been told of it.
  private var isLeaseOurs = false
  private(set) var key: [UInt8] = []
  /// When the key was created; zero as long as it isn't known to be there.
  private(set) var place: Int64 = 0
  /// The header of the answer that told the place.
  private(set) var joined = Etcdserverpb_ResponseHeader()

  init(
    _ loop: ServerLoop, _ connection: GRPCServerConnection, _ stream: StreamID,
    _ method: EtcdMethod, name: [UInt8], value: [UInt8], lease: Int64
  ) {
    prefix = name + [UInt8(ascii: "/")]
    self.value = value
    self.lease = lease
    super.init(loop, connection, stream, method)
  }

  /// The key is the first of the line as of `header`.
  func arrived(_ header: Etcdserverpb_ResponseHeader) {}

  /// What is answered to a client whose key vanished while it waited.
  var lostPlace: GRPCStatus { GRPCStatus(.unknown, "") }

  /// Whether a key that is there already must have the call's value.
  var setsValue: Bool { false }

  // MARK: Joining

  override func start() {
    if lease != 0 { return join() }
    var request = Etcdserverpb_LeaseGrantRequest()
    request.ttl = Self.sessionSeconds
    call(.leaseGrant, request) { [unowned self] (response: Etcdserverpb_LeaseGrantResponse) in
      lease = response.id
      isLeaseOurs = true
      if isAbandoned { leave(then: nil) } else { join() }
    }
  }

  private func join() {
    key = prefix + Array(String(lease, radix: 16).utf8)
    var put = Etcdserverpb_PutRequest()
    put.key = Data(key)
    put.value = Data(value)
    put.lease = lease
    var txn = Etcdserverpb_TxnRequest()
    txn.compare = [.isCreated(key, at: 0)]
    txn.success = [.put(put), .range(.oldest(of: prefix))]
    txn.failure = [.range(.only(key)), .range(.oldest(of: prefix))]
    call(.txn, txn, onFailure: { [unowned self] in leave(then: $0) }) {
      [unowned self] (response: Etcdserverpb_TxnResponse) in
      joined = response.header
      var hasOtherValue = false
      if response.succeeded {
        place = response.header.revision
      } else if let there = response.responses.first?.responseRange.kvs.first {
        place = there.createRevision
        hasOtherValue = Array(there.value) != value
      }
      let first = response.responses.last?.responseRange.kvs.first?.createRevision
      if isAbandoned {
        leave(then: nil)
      } else if hasOtherValue, setsValue {
        proclaim()
      } else if first == place {
        arrived(joined)
      } else {
        look()
      }
    }
  }

  private func proclaim() {
    var put = Etcdserverpb_PutRequest()
    put.key = Data(key)
    put.value = Data(value)
    put.lease = lease
    var txn = Etcdserverpb_TxnRequest()
    txn.compare = [.isCreated(key, at: place)]
    txn.success = [.put(put)]
    call(.txn, txn, onFailure: { [unowned self] in leave(then: $0) }) {
      [unowned self] (response: Etcdserverpb_TxnResponse) in
      if isAbandoned {
        leave(then: nil)
      } else if response.succeeded {
        look()
      } else {
        leave(then: lostPlace)
      }
    }
  }

  // MARK: Waiting

  /// Looks whether the key is still there, and which one stands before it.
  private func look() {
    var before = Etcdserverpb_RangeRequest.newest(of: prefix)
    before.maxCreateRevision = place - 1
    before.keysOnly = true
    var own = Etcdserverpb_RangeRequest.only(key)
    own.keysOnly = true
    var txn = Etcdserverpb_TxnRequest()
    txn.success = [.range(own), .range(before)]
    call(.txn, txn, onFailure: { [unowned self] in leave(then: $0) }) {
      [unowned self] (response: Etcdserverpb_TxnResponse) in
      if isAbandoned { return leave(then: nil) }
      guard response.responses.count == 2,
        response.responses[0].responseRange.kvs.first?.createRevision == place
      else { return leave(then: lostPlace) }
      if let next = response.responses[1].responseRange.kvs.first {
        wait(for: Array(next.key), after: response.header.revision)
      } else {
        arrived(response.header)
      }
    }
  }

  /// Waits until the key before, or the call's own, is gone.
  private func wait(for other: [UInt8], after revision: Int64) {
    watch([other, key].map { .departure(of: $0, after: revision) }) {
      [unowned self] response in
      guard !response.events.isEmpty || response.canceled else { return }
      endWatch()
      if let status = response.refusal { leave(then: status) } else { look() }
    }
  }

  // MARK: Leaving

  override func abandon() {
    // What is under way may put the key; its answer says whether there is anything to take away.
    if isCalling { return }
    leave(then: nil)
  }

  /// Takes the key away, and the lease if nobody knows of it; then answers.
  private func leave(then status: GRPCStatus?) {
    endWatch()
    let done = { [unowned self] in if let status { fail(status) } else { end() } }
    if isLeaseOurs {
      var request = Etcdserverpb_LeaseRevokeRequest()
      request.id = lease
      call(.leaseRevoke, request, onFailure: { _ in done() }) {
        (_: Etcdserverpb_LeaseRevokeResponse) in done()
      }
    } else if place != 0 {
      var txn = Etcdserverpb_TxnRequest()
      txn.compare = [.isCreated(key, at: place)]
      txn.success = [.delete(key)]
      call(.txn, txn, onFailure: { _ in done() }) { (_: Etcdserverpb_TxnResponse) in done() }
    } else {
      done()
    }
  }
}

/// `v3lockpb.Lock/Lock`
final class LockCall: QueueCall {
  override var lostPlace: GRPCStatus { GRPCStatus(.unknown, "mutex: session is expired") }

  override func arrived(_ header: Etcdserverpb_ResponseHeader) {
    var response = V3lockpb_LockResponse()
    response.header = header
    response.key = Data(key)
    succeed(response)
  }
}

/// `v3electionpb.Election/Campaign`
final class CampaignCall: QueueCall {
  override var lostPlace: GRPCStatus { GRPCStatus(ElectionError.notLeader) }
  override var setsValue: Bool { true }

  override func arrived(_ header: Etcdserverpb_ResponseHeader) {
    var response = V3electionpb_CampaignResponse()
    response.header = joined
    response.leader.name = Data(prefix.dropLast())
    response.leader.key = Data(key)
    response.leader.rev = place
    response.leader.lease = lease
    succeed(response)
  }
}
