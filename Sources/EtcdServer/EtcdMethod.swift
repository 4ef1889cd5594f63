import HTTP2

/// The RPCs of the client port, in the order of their numbers.
enum EtcdMethod: Int, CaseIterable {
  case range, put, deleteRange, txn, compact, rangeStream
  case watch
  case leaseGrant, leaseRevoke, leaseKeepAlive, leaseTimeToLive, leaseLeases
  case memberAdd, memberRemove, memberUpdate, memberList, memberPromote
  case alarm, status, defragment, hash, hashKV, snapshot, moveLeader, downgrade
  case authStatus, authenticate
  case authEnable, authDisable
  case userAdd, userGet, userList, userDelete, userChangePassword, userGrantRole, userRevokeRole
  case roleAdd, roleGet, roleList, roleDelete, roleGrantPermission, roleRevokePermission
  case healthCheck, healthList, healthWatch
  case lock, unlock
  case campaign, proclaim, leader, observe, resign

  var path: String {
    let kv = "/etcdserverpb.KV/"
    let lease = "/etcdserverpb.Lease/"
    let cluster = "/etcdserverpb.Cluster/"
    let maintenance = "/etcdserverpb.Maintenance/"
    let auth = "/etcdserverpb.Auth/"
    let election = "/v3electionpb.Election/"
    return switch self {
    case .range: kv + "Range"
    case .put: kv + "Put"
    case .deleteRange: kv + "DeleteRange"
    case .txn: kv + "Txn"
    case .compact: kv + "Compact"
    case .rangeStream: kv + "RangeStream"
    case .watch: "/etcdserverpb.Watch/Watch"
    case .leaseGrant: lease + "LeaseGrant"
    case .leaseRevoke: lease + "LeaseRevoke"
    case .leaseKeepAlive: lease + "LeaseKeepAlive"
    case .leaseTimeToLive: lease + "LeaseTimeToLive"
    case .leaseLeases: lease + "LeaseLeases"
    case .memberAdd: cluster + "MemberAdd"
    case .memberRemove: cluster + "MemberRemove"
    case .memberUpdate: cluster + "MemberUpdate"
    case .memberList: cluster + "MemberList"
    case .memberPromote: cluster + "MemberPromote"
    case .alarm: maintenance + "Alarm"
    case .status: maintenance + "Status"
    case .defragment: maintenance + "Defragment"
    case .hash: maintenance + "Hash"
    case .hashKV: maintenance + "HashKV"
    case .snapshot: maintenance + "Snapshot"
    case .moveLeader: maintenance + "MoveLeader"
    case .downgrade: maintenance + "Downgrade"
    case .authStatus: auth + "AuthStatus"
    case .authenticate: auth + "Authenticate"
    case .authEnable: auth + "AuthEnable"
    case .authDisable: auth + "AuthDisable"
    case .userAdd: auth + "UserAdd"
    case .userGet: auth + "UserGet"
    case .userList: auth + "UserList"
    case .userDelete: auth + "UserDelete"
    case .userChangePassword: auth + "UserChangePassword"
    case .userGrantRole: auth + "UserGrantRole"
    case .userRevokeRole: auth + "UserRevokeRole"
    case .roleAdd: auth + "RoleAdd"
    case .roleGet: auth + "RoleGet"
    case .roleList: auth + "RoleList"
    case .roleDelete: auth + "RoleDelete"
    case .roleGrantPermission: auth + "RoleGrantPermission"
    case .roleRevokePermission: auth + "RoleRevokePermission"
    case .healthCheck: "/grpc.health.v1.Health/Check"
    case .healthList: "/grpc.health.v1.Health/List"
    case .healthWatch: "/grpc.health.v1.Health/Watch"
    case .lock: "/v3lockpb.Lock/Lock"
    case .unlock: "/v3lockpb.Lock/Unlock"
    case .campaign: election + "Campaign"
    case .proclaim: election + "Proclaim"
    case .leader: election + "Leader"
    case .observe: election + "Observe"
    case .resign: election + "Resign"
    }
  }

  /// Calls that stay open and whose messages come one by one. Where there is one request and many answers, the
  /// unary way takes the request as well.
  var isStreaming: Bool {
    switch self {
    case .watch, .leaseKeepAlive, .healthWatch: true
    default: false
    }
  }

  /// Which side of a call sends more than one message.
  enum Shape: String {
    case unary
    case serverStream = "server_stream"
    case bidirectional = "bidi_stream"
  }

  var shape: Shape {
    switch self {
    case .watch, .leaseKeepAlive: .bidirectional
    case .rangeStream, .snapshot, .observe, .healthWatch: .serverStream
    default: .unary
    }
  }

  /// Calls that are served as calls of other services: see `CoordinationCall`.
  var isCoordination: Bool {
    switch self {
    case .lock, .unlock, .campaign, .proclaim, .leader, .observe, .resign: true
    default: false
    }
  }

  static let router = GRPCRouter(
    allCases.map { GRPCRouter.Method($0.path, isStreaming: $0.isStreaming) })
}
