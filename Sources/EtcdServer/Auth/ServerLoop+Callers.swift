import EtcdWire
import Foundation
import HTTP2
import MVCC
import NIOCore
import Primitives
import Replica

// Who makes a call, while authentication is on
// ============================================
//
// A call's credential is its `token` header (`authorization` for those who can't choose), or, where
// `--client-cert-auth` asks for certificates, the common name of the connection's. Who that is, is found out
// before the call is looked at; what the caller may do, when the answer's view or the log's order is known:
//
//     unary call ─▶ who? ─┬─▶ write ─▶ the command carries user and auth revision ─▶ Store.apply checks
//                         ├─▶ read ──▶ the view that answers checks
//                         └─▶ administration ─▶ the published view checks
//
// A token may come here before its login does: the client logged in at another member, and this one is a
// moment behind. The token's end says at which entry of the log it was made, so the call waits for one
// linearizable read, and is then looked at again.

/// Who makes a call.
enum Identity {
  /// No credential at all.
  case nobody
  case user(AuthCaller)
  case invalid
  /// The login may be in entries that this member hasn't applied yet.
  case unknownYet
}

extension ServerLoop {
  func grpc(_ connection: GRPCServerConnection, credential: UnsafeRawBufferPointer) -> UInt32 {
    front.isAuthEnabled ? credentials.number(of: credential) : 0
  }

  // MARK: Finding out

  func identify(_ connection: GRPCServerConnection, _ credential: UInt32) -> Identity {
    if credential == 0 {
      // As in etcd a token counts first, and an invalid one isn't made good by a certificate.
      guard settings.namesUsersByCertificate, let name = connection.peerName, !name.isEmpty else {
        return .nobody
      }
      return .user(AuthCaller(user: name, revision: nil))
    }
    guard let entry = credentials[credential] else { return .invalid }
    switch settings.authTokens {
    case .simple: return identify(token: entry.credential)
    case .jwt(let tokens):
      let now = Date()
      if let verified = entry.verified, verified.expires > now { return .user(verified.caller) }
      guard let verified = tokens.verify(entry.credential, now: now) else { return .invalid }
      credentials[credential]?.verified = verified
      return .user(verified.caller)
    }
  }

  private func identify(token: [UInt8]) -> Identity {
    if let user = front.tokens.user(of: token, now: Self.now()) {
      return .user(AuthCaller(user: user, revision: nil))
    }
    guard let dot = token.lastIndex(of: UInt8(ascii: ".")),
      let index = UInt64(String(decoding: token[(dot + 1)...], as: UTF8.self)),
      index > front.view.appliedIndex.rawValue
    else { return .invalid }
    return .unknownYet
  }

  // MARK: Unary calls

  /// A call that waits for logins.
  struct HeldCall {
    var method: EtcdMethod
    var credential: UInt32
    var message: [UInt8]
  }

  /// Takes a unary call while authentication is on.
  func dispatchIdentified(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod,
    _ message: UnsafeRawBufferPointer
  ) {
    let credential = connection.eventCredential
    switch method.requirement {
    case .nothing: return dispatch(connection, stream, method, message)
    default: break
    }
    let identity = identify(connection, credential)
    if case .unknownYet = identity {
      let held = HeldCall(method: method, credential: credential, message: Array(message))
      front.requestRead(token: reserve(.heldCall(held), connection, stream, method), sink: sink)
      return
    }
    dispatch(connection, stream, method, message, as: identity)
  }

  /// The member has caught up: what it doesn't know of a held call now is invalid.
  func release(
    _ held: HeldCall, _ connection: GRPCServerConnection, _ stream: StreamID
  ) {
    guard connection.isOpen(stream) else { return }
    let identity = identify(connection, held.credential)
    held.message.withUnsafeBytes { message in
      if held.method == .leaseKeepAlive {
        keepAlive(connection, stream, message, as: identity)
      } else {
        dispatch(connection, stream, held.method, message, as: identity)
      }
    }
  }

  private func dispatch(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod,
    _ message: UnsafeRawBufferPointer, as identity: Identity
  ) {
    let caller: AuthCaller?
    switch identity {
    case .nobody: caller = nil
    case .user(let user): caller = user
    case .invalid, .unknownYet:
      fail(connection, stream, method, EtcdError.invalidAuthToken)
      return
    }
    do throws(ApplyError) {
      switch method.requirement {
      case .nothing, .theRequest: break
      case .user: try front.view.authorizeUser(caller)
      case .root: try front.view.authorizeRoot(caller)
      }
    } catch {
      fail(connection, stream, method, GRPCStatus(error))
      return
    }
    self.caller = caller
    isAuthOn = true
    dispatch(connection, stream, method, message)
    self.caller = nil
    isAuthOn = false
  }

  /// Adds a request to the turn's batch on behalf of its caller.
  func proposeIdentified(
    _ kind: CommandKind, _ connection: GRPCServerConnection, _ stream: StreamID,
    _ method: EtcdMethod, extra: [UInt8] = [], _ body: UnsafeRawBufferPointer,
    as purpose: Purpose = .command
  ) {
    guard let caller else {
      fail(connection, stream, method, EtcdError.userEmpty)
      return
    }
    appendIdentified(kind, extra: extra, caller, body)
    tokens.append(reserve(purpose, connection, stream, method))
    if commands.count >= EtcdServerLimits.batchBytes { submit() }
    scheduleTurnEnd()
  }

  func appendIdentified(
    _ kind: CommandKind, extra: [UInt8] = [], _ caller: AuthCaller, _ body: UnsafeRawBufferPointer
  ) {
    caller.user.withUnsafeBytes { user in
      let authorization = CommandBatch.Authorization(
        revision: caller.revision ?? front.view.auth.revision, user: user)
      extra.withUnsafeBytes {
        CommandBatch.append(
          kind, extra: $0, authorization: authorization, body: body, to: &commands)
      }
    }
  }

  // MARK: Streams

  /// Sees to a watch stream's messages waiting until the member knows the stream's login.
  func holdIfUnknown(_ stream: WatchStream) {
    guard stream.credential != 0, front.isAuthEnabled,
      case .unknownYet = identify(stream.connection, stream.credential)
    else { return }
    stream.held = []
    front.requestRead(
      token: reserve(.heldStream(stream), stream.connection, stream.stream, .watch), sink: sink)
  }

  func release(_ stream: WatchStream) {
    guard let held = stream.held else { return }
    stream.held = nil
    for message in held where watchStreams[StreamKey(stream.connection, stream.stream)] != nil {
      message.withUnsafeBytes { received($0, on: stream) }
    }
  }

  /// Why a watch may not be created, in the words of its cancellation; nil if it may.
  func refusal(_ range: KeyRange, on stream: WatchStream) -> String? {
    let error: EtcdError
    switch identify(stream.connection, stream.credential) {
    case .invalid, .unknownYet: error = .invalidAuthToken
    case .nobody: error = .userEmpty
    case .user(let caller):
      do throws(ApplyError) {
        try front.view.authorizeReading(range, caller)
        return nil
      } catch {
        let status = GRPCStatus(error)
        return Self.goText(status.code, status.message)
      }
    }
    let status = GRPCStatus(error)
    return Self.goText(status.code, status.message)
  }

  /// A status as Go prints it, which is how etcd puts it into a watch's reason.
  private static func goText(_ code: GRPCStatus.Code, _ message: String) -> String {
    let name =
      switch code {
      case .permissionDenied: "PermissionDenied"
      case .unauthenticated: "Unauthenticated"
      case .invalidArgument: "InvalidArgument"
      default: "Unknown"
      }
    return "rpc error: code = \(name) desc = \(message)"
  }
}

extension EtcdMethod {
  enum Requirement {
    /// Anybody may call it.
    case nothing
    /// What the request asks for decides.
    case theRequest
    /// Somebody who has logged in.
    case user
    /// The root user, or one with the root role.
    case root
  }

  /// What a caller must be while authentication is on.
  ///
  /// Where releases of etcd differ, the latest: older ones asked for nothing with leases, compaction and the
  /// lists of members and alarms, which was a hole (GHSA-q8m4-xhhv-38mg).
  var requirement: Requirement {
    switch self {
    case .authenticate, .healthCheck, .healthList, .healthWatch: .nothing
    // Each of the calls that they are made of asks for itself.
    case .lock, .unlock, .campaign, .proclaim, .leader, .observe, .resign: .nothing
    case .range, .rangeStream, .put, .deleteRange, .txn, .compact, .watch: .theRequest
    case .leaseGrant, .leaseRevoke, .leaseKeepAlive, .leaseLeases: .theRequest
    case .leaseTimeToLive, .memberList, .status: .user
    case .memberAdd, .memberRemove, .memberUpdate, .memberPromote: .root
    // Alarms may be listed by anybody who has logged in; see `administer`.
    case .alarm: .theRequest
    case .defragment, .hash, .hashKV, .snapshot, .moveLeader, .downgrade: .root
    // The log decides about changes, and the view about questions.
    case .authStatus, .authEnable, .authDisable: .theRequest
    case .userAdd, .userGet, .userList, .userDelete, .userChangePassword, .userGrantRole,
      .userRevokeRole:
      .theRequest
    case .roleAdd, .roleGet, .roleList, .roleDelete, .roleGrantPermission, .roleRevokePermission:
      .theRequest
    }
  }
}
