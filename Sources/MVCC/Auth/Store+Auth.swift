import EtcdWire
import Primitives

extension Store {
  /// Whether a command may be applied while authentication is on.
  ///
  /// What members propose themselves (the end of leases) needs nobody's leave; servers propose it for
  /// no client.
  func authorize(_ command: Command) throws(ApplyError) {
    switch command.kind {
    case .leaseExpire, .leaseCheckpoint: return
    case .auth: return try authorizeAuth(command)
    default: break
    }
    let check = try self.check(command.authorization)
    switch command.kind {
    case .put: try check.check(try decode(command.body) as PutRequest)
    case .deleteRange: try check.check(try decode(command.body) as DeleteRangeRequest)
    case .txn: try check.check(try decode(command.body) as TxnRequest)
    case .leaseRevoke:
      try check.checkKeys(of: (try decode(command.body) as LeaseRevokeRequest).id, .writing)
    default: break
    }
  }

  private func authorizeAuth(_ command: Command) throws(ApplyError) {
    // A login is how one comes to a name.
    if let body = try? AuthCommand(command.body), case .authenticate = body { return }
    guard var authorization = command.authorization else { throw .userEmpty }
    // As in etcd, who administers is asked for a name and not for its age.
    authorization.revision = max(authorization.revision, auth.revision)
    try check(authorization).requireRoot()
  }

  private func check(
    _ authorization: CommandBatch.Authorization?
  ) throws(ApplyError) -> AccessCheck {
    guard let authorization else { throw .userEmpty }
    return try AccessCheck(
      auth, user: authorization.user, revision: authorization.revision, root: root)
  }

  /// Applies an `auth` command at `index`.
  ///
  /// - Returns: the response without its header.
  func performAuth(
    _ body: UnsafeRawBufferPointer, at index: LogIndex, _ effects: inout [AuthEffect]
  ) throws(ApplyError) -> CommandResult.Body {
    let command: AuthCommand
    do throws(ByteReaderError) { command = try AuthCommand(body) } catch {
      throw .malformedRequest
    }
    if case .authenticate(let user, let prefix, let revision) = command {
      return try authenticate(user, prefix, revision, at: index, &effects)
    }
    let before = auth.revision
    let wasEnabled = auth.isEnabled
    try auth.apply(command, &effects)
    if auth.revision != before || auth.isEnabled != wasEnabled {
      mix(.auth, UInt64(CRC32C.checksum(Array(body))) | auth.revision << 32)
    }
    return .empty
  }

  /// Makes a token of a login. It ends with the index of its entry, so that a member that hasn't applied
  /// it yet knows that it is worth waiting for.
  private func authenticate(
    _ user: [UInt8], _ prefix: [UInt8], _ revision: UInt64, at index: LogIndex,
    _ effects: inout [AuthEffect]
  ) throws(ApplyError) -> CommandResult.Body {
    if !auth.isEnabled { throw .authNotEnabled }
    // The password was that of another moment: it must be checked again.
    if revision != auth.revision { throw .oldAuthRevision }
    guard auth.user(user) != nil else { throw .authenticationFailed }
    let token = prefix + Array(".\(index.rawValue)".utf8)
    effects.append(.tokenAssigned(token: token, user: user))
    var output: [UInt8] = []
    token.withUnsafeBytes { output.append(field: 2, bytes: $0) }
    return .encoded(output)
  }
}
