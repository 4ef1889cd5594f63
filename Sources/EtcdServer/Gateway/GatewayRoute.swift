import EtcdProto
import EtcdWire
import Foundation
import SwiftProtobuf

/// What the JSON gateway has at its paths: a method of the gRPC services, and how its messages become JSON.
///
/// Sources: etcd `api/etcdserverpb/rpc.proto` (its HTTP annotations); the protobuf specification of JSON.
package struct GatewayRoute: Sendable {
  let method: EtcdMethod
  /// Turns requests from JSON into protobuf.
  package let request: @Sendable (Data) throws -> [UInt8]
  /// Turns responses from protobuf into JSON.
  package let response: @Sendable ([UInt8]) throws -> [UInt8]

  /// Requests or responses may be several, one a line.
  var isStreaming: Bool { method.shape != .unary }

  private init<Request: Message, Response: Message>(
    _ method: EtcdMethod, _: Request.Type, _: Response.Type
  ) {
    self.method = method
    request = { json in
      let text = json.isEmpty ? Data("{}".utf8) : json
      do {
        return try Request(jsonUTF8Data: text, options: Self.decoding(ignoringUnknown: false))
          .serializedBytes()
      } catch JSONDecodingError.unknownField {
        // Those are ignored, as in etcd, but the same option would let misspelt enumerators pass too.
        return try Request(jsonUTF8Data: text, options: Self.decoding(ignoringUnknown: true))
          .serializedBytes()
      }
    }
    response = { bytes in
      Array(try Response(serializedBytes: bytes).jsonUTF8Data(options: Self.encoding))
    }
  }

  private static func decoding(ignoringUnknown: Bool) -> JSONDecodingOptions {
    var options = JSONDecodingOptions()
    options.ignoreUnknownFields = ignoringUnknown
    options.messageDepthLimit = WireLimits.nestedTransactions * 3
    return options
  }

  private static let encoding = {
    var options = JSONEncodingOptions()
    options.preserveProtoFieldNames = true
    return options
  }()

  /// The route of a path, by what follows `/v3/`.
  package static func find(_ path: Substring) -> GatewayRoute? {
    for prefix in ["/v3/", "/v3beta/"] where path.hasPrefix(prefix) {
      return table[path.dropFirst(prefix.count)]
    }
    return nil
  }

  /// Every path, below `/v3/`, in order.
  package static var paths: [Substring] { table.keys.sorted() }

  private static let table: [Substring: GatewayRoute] = {
    let revoke = GatewayRoute(
      .leaseRevoke, Etcdserverpb_LeaseRevokeRequest.self, Etcdserverpb_LeaseRevokeResponse.self)
    let timeToLive = GatewayRoute(
      .leaseTimeToLive, Etcdserverpb_LeaseTimeToLiveRequest.self,
      Etcdserverpb_LeaseTimeToLiveResponse.self)
    let leases = GatewayRoute(
      .leaseLeases, Etcdserverpb_LeaseLeasesRequest.self, Etcdserverpb_LeaseLeasesResponse.self)
    return [
      "kv/range": GatewayRoute(
        .range, Etcdserverpb_RangeRequest.self, Etcdserverpb_RangeResponse.self),
      "kv/put": GatewayRoute(.put, Etcdserverpb_PutRequest.self, Etcdserverpb_PutResponse.self),
      "kv/deleterange": GatewayRoute(
        .deleteRange, Etcdserverpb_DeleteRangeRequest.self, Etcdserverpb_DeleteRangeResponse.self),
      "kv/txn": GatewayRoute(.txn, Etcdserverpb_TxnRequest.self, Etcdserverpb_TxnResponse.self),
      "kv/compaction": GatewayRoute(
        .compact, Etcdserverpb_CompactionRequest.self, Etcdserverpb_CompactionResponse.self),
      "watch": GatewayRoute(
        .watch, Etcdserverpb_WatchRequest.self, Etcdserverpb_WatchResponse.self),
      "lease/grant": GatewayRoute(
        .leaseGrant, Etcdserverpb_LeaseGrantRequest.self, Etcdserverpb_LeaseGrantResponse.self),
      "lease/revoke": revoke, "kv/lease/revoke": revoke,
      "lease/keepalive": GatewayRoute(
        .leaseKeepAlive, Etcdserverpb_LeaseKeepAliveRequest.self,
        Etcdserverpb_LeaseKeepAliveResponse.self),
      "lease/timetolive": timeToLive, "kv/lease/timetolive": timeToLive,
      "lease/leases": leases, "kv/lease/leases": leases,
      "cluster/member/add": GatewayRoute(
        .memberAdd, Etcdserverpb_MemberAddRequest.self, Etcdserverpb_MemberAddResponse.self),
      "cluster/member/remove": GatewayRoute(
        .memberRemove, Etcdserverpb_MemberRemoveRequest.self,
        Etcdserverpb_MemberRemoveResponse.self),
      "cluster/member/update": GatewayRoute(
        .memberUpdate, Etcdserverpb_MemberUpdateRequest.self,
        Etcdserverpb_MemberUpdateResponse.self),
      "cluster/member/list": GatewayRoute(
        .memberList, Etcdserverpb_MemberListRequest.self, Etcdserverpb_MemberListResponse.self),
      "cluster/member/promote": GatewayRoute(
        .memberPromote, Etcdserverpb_MemberPromoteRequest.self,
        Etcdserverpb_MemberPromoteResponse.self),
      "maintenance/alarm": GatewayRoute(
        .alarm, Etcdserverpb_AlarmRequest.self, Etcdserverpb_AlarmResponse.self),
      "maintenance/status": GatewayRoute(
        .status, Etcdserverpb_StatusRequest.self, Etcdserverpb_StatusResponse.self),
      "maintenance/defragment": GatewayRoute(
        .defragment, Etcdserverpb_DefragmentRequest.self, Etcdserverpb_DefragmentResponse.self),
      "maintenance/hash": GatewayRoute(
        .hash, Etcdserverpb_HashRequest.self, Etcdserverpb_HashResponse.self),
      "maintenance/hashkv": GatewayRoute(
        .hashKV, Etcdserverpb_HashKVRequest.self, Etcdserverpb_HashKVResponse.self),
      "maintenance/snapshot": GatewayRoute(
        .snapshot, Etcdserverpb_SnapshotRequest.self, Etcdserverpb_SnapshotResponse.self),
      "maintenance/transfer-leadership": GatewayRoute(
        .moveLeader, Etcdserverpb_MoveLeaderRequest.self, Etcdserverpb_MoveLeaderResponse.self),
      "maintenance/downgrade": GatewayRoute(
        .downgrade, Etcdserverpb_DowngradeRequest.self, Etcdserverpb_DowngradeResponse.self),
      "auth/enable": GatewayRoute(
        .authEnable, Etcdserverpb_AuthEnableRequest.self, Etcdserverpb_AuthEnableResponse.self),
      "auth/disable": GatewayRoute(
        .authDisable, Etcdserverpb_AuthDisableRequest.self, Etcdserverpb_AuthDisableResponse.self),
      "auth/status": GatewayRoute(
        .authStatus, Etcdserverpb_AuthStatusRequest.self, Etcdserverpb_AuthStatusResponse.self),
      "auth/authenticate": GatewayRoute(
        .authenticate, Etcdserverpb_AuthenticateRequest.self,
        Etcdserverpb_AuthenticateResponse.self),
      "auth/user/add": GatewayRoute(
        .userAdd, Etcdserverpb_AuthUserAddRequest.self, Etcdserverpb_AuthUserAddResponse.self),
      "auth/user/get": GatewayRoute(
        .userGet, Etcdserverpb_AuthUserGetRequest.self, Etcdserverpb_AuthUserGetResponse.self),
      "auth/user/list": GatewayRoute(
        .userList, Etcdserverpb_AuthUserListRequest.self, Etcdserverpb_AuthUserListResponse.self),
      "auth/user/delete": GatewayRoute(
        .userDelete, Etcdserverpb_AuthUserDeleteRequest.self,
        Etcdserverpb_AuthUserDeleteResponse.self),
      "auth/user/changepw": GatewayRoute(
        .userChangePassword, Etcdserverpb_AuthUserChangePasswordRequest.self,
        Etcdserverpb_AuthUserChangePasswordResponse.self),
      "auth/user/grant": GatewayRoute(
        .userGrantRole, Etcdserverpb_AuthUserGrantRoleRequest.self,
        Etcdserverpb_AuthUserGrantRoleResponse.self),
      "auth/user/revoke": GatewayRoute(
        .userRevokeRole, Etcdserverpb_AuthUserRevokeRoleRequest.self,
        Etcdserverpb_AuthUserRevokeRoleResponse.self),
      "auth/role/add": GatewayRoute(
        .roleAdd, Etcdserverpb_AuthRoleAddRequest.self, Etcdserverpb_AuthRoleAddResponse.self),
      "auth/role/get": GatewayRoute(
        .roleGet, Etcdserverpb_AuthRoleGetRequest.self, Etcdserverpb_AuthRoleGetResponse.self),
      "auth/role/list": GatewayRoute(
        .roleList, Etcdserverpb_AuthRoleListRequest.self, Etcdserverpb_AuthRoleListResponse.self),
      "auth/role/delete": GatewayRoute(
        .roleDelete, Etcdserverpb_AuthRoleDeleteRequest.self,
        Etcdserverpb_AuthRoleDeleteResponse.self),
      "auth/role/grant": GatewayRoute(
        .roleGrantPermission, Etcdserverpb_AuthRoleGrantPermissionRequest.self,
        Etcdserverpb_AuthRoleGrantPermissionResponse.self),
      "auth/role/revoke": GatewayRoute(
        .roleRevokePermission, Etcdserverpb_AuthRoleRevokePermissionRequest.self,
        Etcdserverpb_AuthRoleRevokePermissionResponse.self),
      "lock/lock": GatewayRoute(.lock, V3lockpb_LockRequest.self, V3lockpb_LockResponse.self),
      "lock/unlock": GatewayRoute(
        .unlock, V3lockpb_UnlockRequest.self, V3lockpb_UnlockResponse.self),
      "election/campaign": GatewayRoute(
        .campaign, V3electionpb_CampaignRequest.self, V3electionpb_CampaignResponse.self),
      "election/proclaim": GatewayRoute(
        .proclaim, V3electionpb_ProclaimRequest.self, V3electionpb_ProclaimResponse.self),
      "election/leader": GatewayRoute(
        .leader, V3electionpb_LeaderRequest.self, V3electionpb_LeaderResponse.self),
      "election/observe": GatewayRoute(
        .observe, V3electionpb_LeaderRequest.self, V3electionpb_LeaderResponse.self),
      "election/resign": GatewayRoute(
        .resign, V3electionpb_ResignRequest.self, V3electionpb_ResignResponse.self),
    ]
  }()
}
