import EtcdProto
import EtcdWire
import Foundation
import HTTP2
import MVCC
import NIOCore
import Primitives
import Replica
import SwiftProtobuf

// The Auth service. Changes go through the log with passwords hashed already; questions wait for a
// linearizable view; logins are checked here and announced through the log.

extension ServerLoop {
  /// A question about users and roles, for a linearizable view.
  struct AuthQuestion {
    /// Of a user or a role; empty where the question names none.
    var name: [UInt8] = []
    var caller: AuthCaller?
  }

  /// A login on its way through the log.
  struct Login {
    var name: [UInt8]
    var password: [UInt8]
    var attemptsLeft: Int
  }

  func administerAuth(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod,
    _ message: UnsafeRawBufferPointer
  ) throws {
    func change(_ command: AuthCommand) { propose(command, connection, stream, method) }
    func ask(_ name: String = "") {
      let question = AuthQuestion(name: Array(name.utf8), caller: caller)
      front.requestRead(
        token: reserve(.authQuestion(question), connection, stream, method), sink: sink)
    }
    let bytes = Array(message)
    switch method {
    case .authEnable: change(.enable)
    case .authDisable: change(.disable)
    case .authStatus: ask()
    case .authenticate:
      let request = try Etcdserverpb_AuthenticateRequest(serializedBytes: bytes)
      logIn(
        Login(
          name: Array(request.name.utf8), password: Array(request.password.utf8),
          attemptsLeft: EtcdServerLimits.loginAttempts), connection, stream)
    case .userAdd:
      let request = try Etcdserverpb_AuthUserAddRequest(serializedBytes: bytes)
      let name = Array(request.name.utf8)
      if request.options.noPassword {
        change(.addUser(name: name, passwordHash: [], hasNoPassword: true))
      } else {
        hash(request.password, request.hashedPassword, connection, stream, method) {
          .addUser(name: name, passwordHash: $0, hasNoPassword: false)
        }
      }
    case .userChangePassword:
      let request = try Etcdserverpb_AuthUserChangePasswordRequest(serializedBytes: bytes)
      let name = Array(request.name.utf8)
      hash(request.password, request.hashedPassword, connection, stream, method) {
        .changePassword(name: name, passwordHash: $0)
      }
    case .userDelete:
      let request = try Etcdserverpb_AuthUserDeleteRequest(serializedBytes: bytes)
      change(.deleteUser(name: Array(request.name.utf8)))
    case .userGrantRole:
      let request = try Etcdserverpb_AuthUserGrantRoleRequest(serializedBytes: bytes)
      change(.grantRole(user: Array(request.user.utf8), role: Array(request.role.utf8)))
    case .userRevokeRole:
      let request = try Etcdserverpb_AuthUserRevokeRoleRequest(serializedBytes: bytes)
      change(.revokeRole(user: Array(request.name.utf8), role: Array(request.role.utf8)))
    case .userGet: ask(try Etcdserverpb_AuthUserGetRequest(serializedBytes: bytes).name)
    case .userList, .roleList: ask()
    case .roleAdd:
      let request = try Etcdserverpb_AuthRoleAddRequest(serializedBytes: bytes)
      change(.addRole(name: Array(request.name.utf8)))
    case .roleGet: ask(try Etcdserverpb_AuthRoleGetRequest(serializedBytes: bytes).role)
    case .roleDelete:
      let request = try Etcdserverpb_AuthRoleDeleteRequest(serializedBytes: bytes)
      change(.deleteRole(name: Array(request.role.utf8)))
    case .roleGrantPermission:
      let request = try Etcdserverpb_AuthRoleGrantPermissionRequest(serializedBytes: bytes)
      guard request.hasPerm else {
        fail(connection, stream, method, EtcdError.permissionNotGiven)
        return
      }
      let kind = AuthPermission.Kind(rawValue: UInt8(clamping: request.perm.permType.rawValue))
      guard let kind else {
        fail(connection, stream, method, EtcdError.invalidAuthManagement)
        return
      }
      change(
        .grantPermission(
          role: Array(request.name.utf8),
          AuthPermission(
            kind: kind, key: Array(request.perm.key), rangeEnd: Array(request.perm.rangeEnd))))
    case .roleRevokePermission:
      let request = try Etcdserverpb_AuthRoleRevokePermissionRequest(serializedBytes: bytes)
      change(
        .revokePermission(
          role: Array(request.role.utf8), key: Array(request.key),
          rangeEnd: Array(request.rangeEnd)))
    default: break
    }
  }

  private func propose(
    _ command: AuthCommand, _ connection: GRPCServerConnection, _ stream: StreamID,
    _ method: EtcdMethod
  ) {
    command.encoded().withUnsafeBytes { body in
      if isAuthOn {
        proposeIdentified(.auth, connection, stream, method, body)
      } else {
        CommandBatch.append(.auth, body: body, to: &commands)
        tokens.append(reserve(.command, connection, stream, method))
        scheduleTurnEnd()
      }
    }
  }

  // MARK: Passwords

  /// Hashes a password, then proposes what `command` makes of the hash. A hash that the client brings
  /// along counts where it sends no password, so that users can be copied between clusters.
  private func hash(
    _ password: String, _ given: String, _ connection: GRPCServerConnection, _ stream: StreamID,
    _ method: EtcdMethod, _ command: @escaping @Sendable ([UInt8]) -> AuthCommand
  ) {
    // Nobody who may not change users makes us work.
    if isAuthOn {
      do throws(ApplyError) { try front.view.authorizeRoot(caller) } catch {
        fail(connection, stream, method, GRPCStatus(error))
        return
      }
    }
    if password.isEmpty, !given.isEmpty {
      guard let decoded = Data(base64Encoded: given), PasswordHash.isHash(Array(decoded)) else {
        fail(
          connection, stream, method,
          GRPCStatus(.invalidArgument, "etcdserver: hashedPassword is no bcrypt hash in base 64"))
        return
      }
      propose(command(Array(decoded)), connection, stream, method)
      return
    }
    let context = NIOLoopBound((self, connection, caller, isAuthOn), eventLoop: eventLoop)
    let (bytes, cost) = (Array(password.utf8), settings.bcryptCost)
    let isTaken = passwords.run(on: eventLoop) {
      Result { () throws(PasswordHash.Refusal) in try PasswordHash.make(bytes, cost: cost) }
    } done: { result in
      let (loop, connection, caller, isAuthOn) = context.value
      guard connection.isOpen(stream) else { return }
      switch result {
      case .success(let hash):
        (loop.caller, loop.isAuthOn) = (caller, isAuthOn)
        loop.propose(command(hash), connection, stream, method)
        (loop.caller, loop.isAuthOn) = (nil, false)
      case .failure(let refusal):
        let text =
          switch refusal {
          case .tooLong: "bcrypt: password length exceeds 72 bytes"
          case .zeroByte: "bcrypt: password contains a zero byte"
          case .unsupported: "bcrypt: not supported by this system"
          }
        loop.fail(connection, stream, method, GRPCStatus(.unknown, text))
      }
      loop.flush()
    }
    if !isTaken { fail(connection, stream, method, EtcdError.tooManyRequests) }
  }

  // MARK: Logging in

  private func logIn(
    _ login: Login, _ connection: GRPCServerConnection, _ stream: StreamID
  ) {
    let auth = front.view.auth
    guard auth.isEnabled else {
      fail(connection, stream, .authenticate, EtcdError.authNotEnabled)
      return
    }
    guard let user = auth.user(login.name) else {
      fail(connection, stream, .authenticate, EtcdError.authenticationFailed)
      return
    }
    if user.hasNoPassword {
      fail(
        connection, stream, .authenticate,
        GRPCStatus(
          .unknown, "auth: authentication failed, password was given for no password user"))
      return
    }
    let context = NIOLoopBound((self, connection), eventLoop: eventLoop)
    let isTaken = passwords.run(on: eventLoop) {
      PasswordHash.matches(login.password, user.passwordHash)
    } done: { matches in
      let (loop, connection) = context.value
      guard connection.isOpen(stream) else { return }
      if matches {
        loop.announce(login, checkedAt: auth.revision, connection, stream)
      } else {
        loop.fail(connection, stream, .authenticate, EtcdError.authenticationFailed)
      }
      loop.flush()
    }
    if !isTaken { fail(connection, stream, .authenticate, EtcdError.tooManyRequests) }
  }

  /// Makes a token for somebody whose password was right.
  private func announce(
    _ login: Login, checkedAt revision: UInt64, _ connection: GRPCServerConnection,
    _ stream: StreamID
  ) {
    if case .jwt(let tokens) = settings.authTokens {
      guard let token = tokens.sign(user: login.name, revision: revision, now: Date()) else {
        fail(
          connection, stream, .authenticate,
          GRPCStatus(.unknown, "auth: this member has no key to sign tokens with"))
        return
      }
      setHeader(front.view.revision, front.status.term)
      body.removeAll(keepingCapacity: true)
      token.withUnsafeBytes { body.append(field: 2, bytes: $0) }
      respond(connection, stream, .authenticate, body)
      return
    }
    let command = AuthCommand.authenticate(
      user: login.name, tokenPrefix: Self.tokenPrefix(), revision: revision)
    command.encoded().withUnsafeBytes { CommandBatch.append(.auth, body: $0, to: &commands) }
    var again = login
    again.attemptsLeft -= 1
    tokens.append(reserve(.login(again), connection, stream, .authenticate))
    scheduleTurnEnd()
  }

  /// Somebody changed the users between the check and the login: the check is made once more.
  func logInAgain(
    _ login: Login, _ connection: GRPCServerConnection, _ stream: StreamID
  ) {
    if login.attemptsLeft > 0 {
      logIn(login, connection, stream)
    } else {
      fail(connection, stream, .authenticate, EtcdError.oldAuthRevision)
    }
  }

  /// Sixteen letters that nobody guesses, 95 bits; etcd's tokens begin so too.
  private static func tokenPrefix() -> [UInt8] {
    let letters = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789".utf8)
    var random = SystemRandomNumberGenerator()
    return (0..<16).map { _ in letters.randomElement(using: &random) ?? 0 }
  }

  // MARK: Questions

  func answer(
    _ question: AuthQuestion, _ connection: GRPCServerConnection, _ stream: StreamID,
    _ method: EtcdMethod, from view: StoreView, _ term: Term
  ) {
    do throws(ApplyError) {
      try authorize(question, method, view)
      let auth = view.auth
      setHeader(view.revision, term)
      body.removeAll(keepingCapacity: true)
      switch method {
      case .authStatus:
        body.append(field: 2, bool: auth.isEnabled)
        body.append(field: 3, varint: auth.revision)
      case .userList: append(auth.users.map(\.name))
      case .roleList: append(auth.roles.map(\.name))
      case .userGet:
        guard let user = auth.user(question.name) else { throw .userNotFound }
        append(user.roles)
      case .roleGet:
        guard let role = auth.role(question.name) else { throw .roleNotFound }
        for permission in role.permissions { append(permission) }
      default: break
      }
      respond(connection, stream, method, body)
    } catch {
      fail(connection, stream, method, GRPCStatus(error))
    }
  }

  /// Users may ask about themselves and about their roles; everything else is root's.
  private func authorize(
    _ question: AuthQuestion, _ method: EtcdMethod, _ view: StoreView
  ) throws(ApplyError) {
    guard view.isAuthEnabled else { return }
    do throws(ApplyError) { try view.authorizeRoot(question.caller) } catch {
      guard let caller = question.caller else { throw error }
      switch method {
      case .userGet where question.name == caller.user: break
      case .roleGet where view.auth.user(caller.user)?.roles.contains(question.name) == true: break
      default: throw error
      }
    }
  }

  private func append(_ names: [[UInt8]]) {
    for name in names { name.withUnsafeBytes { body.append(field: 2, encoded: $0) } }
  }

  private func append(_ permission: AuthPermission) {
    var inner: [UInt8] = []
    inner.append(field: 1, int64: Int64(permission.kind.rawValue))
    permission.key.withUnsafeBytes { inner.append(field: 2, bytes: $0) }
    permission.rangeEnd.withUnsafeBytes { inner.append(field: 3, bytes: $0) }
    inner.withUnsafeBytes { body.append(field: 2, encoded: $0) }
  }
}
