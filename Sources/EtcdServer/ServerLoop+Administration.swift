import EtcdProto
import EtcdWire
import HTTP2
import MVCC
import NIOCore
import Primitives
import Replica
import SwiftProtobuf

// Cluster, Maintenance and Auth: calls that are rare, so their messages are read and
// written by the generated code.

extension ServerLoop {
  func administer(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod,
    _ message: UnsafeRawBufferPointer
  ) {
    do {
      switch method {
      case .memberList:
        let request = try Etcdserverpb_MemberListRequest(serializedBytes: Array(message))
        if request.linearizable {
          front.requestRead(
            token: reserve(.memberList, connection, stream, method), sink: sink)
        } else {
          sendMembers(connection, stream, front.view, front.status.term)
        }
      case .status: respond(connection, stream, method, statusResponse())
      case .alarm:
        let request = try Etcdserverpb_AlarmRequest(serializedBytes: Array(message))
        if isAuthOn {
          let view = front.view
          // Who has logged in may ask about alarms; raising and clearing them is root's.
          if request.action == .get {
            try view.authorizeUser(caller)
          } else {
            try view.authorizeRoot(caller)
          }
        }
        alarm(connection, stream, request)
      case .memberAdd:
        addMember(
          connection, stream, try Etcdserverpb_MemberAddRequest(serializedBytes: Array(message)))
      case .memberRemove:
        let request = try Etcdserverpb_MemberRemoveRequest(serializedBytes: Array(message))
        change(.removeMember(NodeID(request.id)), connection, stream, method)
      case .memberUpdate:
        updateMember(
          connection, stream, try Etcdserverpb_MemberUpdateRequest(serializedBytes: Array(message)))
      case .memberPromote:
        let request = try Etcdserverpb_MemberPromoteRequest(serializedBytes: Array(message))
        change(.promoteMember(NodeID(request.id)), connection, stream, method)
      case .defragment:
        // Nothing here can become fragmented: memory is given back as it falls free.
        // As with etcd the answer is empty, its header too.
        respond(connection, stream, method, Etcdserverpb_DefragmentResponse())
      case .hash: hash(connection, stream, method, revision: 0)
      case .hashKV:
        let request = try Etcdserverpb_HashKVRequest(serializedBytes: Array(message))
        hash(connection, stream, method, revision: request.revision)
      case .moveLeader:
        let request = try Etcdserverpb_MoveLeaderRequest(serializedBytes: Array(message))
        moveLeader(connection, stream, to: NodeID(request.targetID))
      case .authStatus, .authenticate, .authEnable, .authDisable, .userAdd, .userGet, .userList,
        .userDelete, .userChangePassword, .userGrantRole, .userRevokeRole, .roleAdd, .roleGet,
        .roleList, .roleDelete, .roleGrantPermission, .roleRevokePermission:
        try administerAuth(connection, stream, method, message)
      case .snapshot: snapshot(connection, stream)
      case .downgrade:
        downgrade(
          connection, stream, try Etcdserverpb_DowngradeRequest(serializedBytes: Array(message)))
      case .healthCheck, .healthList: try health(connection, stream, method, message)
      default: unimplemented(connection, stream, method)
      }
    } catch let error as ApplyError {
      fail(connection, stream, method, GRPCStatus(error))
    } catch {
      fail(connection, stream, method, GRPCStatus(.internal, "grpc: error unmarshalling request"))
    }
  }

  private func unimplemented(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod
  ) {
    let name = method.path.split(separator: "/").last ?? ""
    fail(connection, stream, method, GRPCStatus(.unimplemented, "method \(name) not implemented"))
  }

  func respond(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod,
    _ response: some Message
  ) {
    do {
      let bytes: [UInt8] = try response.serializedBytes()
      bytes.withUnsafeBytes { connection.respond(stream, $0) }
      metrics.count(method, .ok)
      metrics.sentBytes &+= UInt64(bytes.count)
      noteUnflushed(connection)
    } catch {
      fail(connection, stream, method, GRPCStatus(.internal, "\(error)"))
    }
  }

  func currentHeader() -> Etcdserverpb_ResponseHeader {
    header(revision: front.view.revision, front.status.term)
  }

  func header(revision: Revision, _ term: Term) -> Etcdserverpb_ResponseHeader {
    var header = Etcdserverpb_ResponseHeader()
    header.clusterID = front.identity.cluster
    header.memberID = front.identity.member.rawValue
    header.revision = revision.rawValue
    header.raftTerm = term.rawValue
    return header
  }

  // MARK: Cluster

  func sendMembers(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ view: StoreView, _ term: Term
  ) {
    var response = Etcdserverpb_MemberListResponse()
    // etcd's member lists carry no revision.
    response.header = header(revision: .zero, term)
    response.members = front.status.members.map(Etcdserverpb_Member.init)
    respond(connection, stream, .memberList, response)
  }

  // MARK: Maintenance

  private func statusResponse() -> Etcdserverpb_StatusResponse {
    let status = front.status
    var response = Etcdserverpb_StatusResponse()
    response.header = header(revision: front.view.revision, status.term)
    response.version = EtcdServerSettings.reportedVersion
    response.dbSize = Int64(clamping: status.stateBytes)
    response.dbSizeInUse = Int64(clamping: status.stateBytes)
    response.leader = status.leader?.rawValue ?? 0
    response.raftIndex = status.commitIndex.rawValue
    response.raftTerm = status.term.rawValue
    response.raftAppliedIndex = status.appliedIndex.rawValue
    response.isLearner =
      status.members.first { $0.id == front.identity.member }?.isLearner ?? false
    response.dbSizeQuota = Int64(clamping: status.quotaBytes ?? 0)
    response.storageVersion = "3.5.0"
    // There is nothing to downgrade to, so none is ever under way.
    response.downgradeInfo = Etcdserverpb_DowngradeInfo()
    if status.leader == nil { response.errors.append(EtcdError.noLeader.text) }
    response.errors += status.alarms.map(\.statusText)
    return response
  }

  private func moveLeader(
    _ connection: GRPCServerConnection, _ stream: StreamID, to target: NodeID
  ) {
    let status = front.status
    guard status.leader == front.identity.member else {
      fail(connection, stream, .moveLeader, EtcdError.notLeader)
      return
    }
    guard status.members.contains(where: { $0.id == target && !$0.isLearner }) else {
      fail(connection, stream, .moveLeader, EtcdError.badLeaderTransferee)
      return
    }
    front.transferLeadership(to: target)
    awaitLeader(
      connection, stream, target, until: Self.now().advanced(by: .seconds(5)))
  }

  /// Answers when `target` leads, which shows in the status alone.
  private func awaitLeader(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ target: NodeID, until end: Instant
  ) {
    if front.status.leader == target {
      var response = Etcdserverpb_MoveLeaderResponse()
      response.header = currentHeader()
      respond(connection, stream, .moveLeader, response)
    } else if Self.now() >= end {
      fail(connection, stream, .moveLeader, EtcdError.timeoutDueToLeaderFailure)
    } else if connection.isOpen(stream) {
      let bound = NIOLoopBound((self, connection), eventLoop: eventLoop)
      eventLoop.scheduleTask(in: .milliseconds(20)) {
        bound.value.0.awaitLeader(bound.value.1, stream, target, until: end)
      }
    }
  }

  // MARK: Hashes

  /// Hashes all records as they were at a revision (zero: now), a slice a turn of the loop.
  ///
  /// The hash is a checksum of the records' encodings in order of their keys: equal on members whose
  /// data is equal, however it came about. It is not etcd's number, which depends on etcd's files.
  private func hash(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod, revision: Int64
  ) {
    let view = front.view
    let key: [UInt8] = [0]
    do {
      let pager = try key.withUnsafeBytes { key in
        var request = RangeRequest()
        request.key = key
        request.rangeEnd = key
        request.revision = revision
        return try view.pager(request)
      }
      let hashed = revision > 0 ? Revision(revision) : view.revision
      continueHash(
        Hashing(
          connection: connection, stream: stream, method: method, view: view, revision: hashed,
          pager: pager))
    } catch let error as ApplyError {
      fail(connection, stream, method, GRPCStatus(error))
    } catch {
      fail(connection, stream, method, GRPCStatus(.internal, "\(error)"))
    }
  }

  private struct Hashing {
    var connection: GRPCServerConnection
    var stream: StreamID
    var method: EtcdMethod
    var view: StoreView
    var revision: Revision
    var pager: RangePager
    var checksum: UInt32 = 0
  }

  private func continueHash(_ current: Hashing) {
    var hashing = current
    guard hashing.connection.isOpen(hashing.stream) else { return }
    var piece: [UInt8] = []
    let isMore = hashing.pager.next(byteLimit: EtcdServerLimits.catchUpBytes, into: &piece)
    hashing.checksum = CRC32C.checksum(piece, seed: hashing.checksum)
    if isMore {
      let bound = NIOLoopBound((self, hashing), eventLoop: eventLoop)
      eventLoop.execute { bound.value.0.continueHash(bound.value.1) }
      return
    }
    let header = header(revision: hashing.view.revision, front.status.term)
    if hashing.method == .hash {
      var response = Etcdserverpb_HashResponse()
      response.header = header
      response.hash = hashing.checksum
      respond(hashing.connection, hashing.stream, hashing.method, response)
    } else {
      var response = Etcdserverpb_HashKVResponse()
      response.header = header
      response.hash = hashing.checksum
      response.compactRevision = hashing.view.compactRevision.rawValue
      response.hashRevision = hashing.revision.rawValue
      respond(hashing.connection, hashing.stream, hashing.method, response)
    }
  }
}
