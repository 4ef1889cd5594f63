import Primitives

/// A change of users and roles, or a login: the body of a ``CommandKind/auth`` command.
///
///      0  u8   action
///      1       its fields, each a varint length and that many bytes; see `Action`
public enum AuthCommand: Sendable, Hashable {
  case enable
  case disable
  /// Somebody whose password was checked against the users as of `revision`. The token's prefix must be
  /// good enough a secret by itself.
  case authenticate(user: [UInt8], tokenPrefix: [UInt8], revision: UInt64)
  case addUser(name: [UInt8], passwordHash: [UInt8], hasNoPassword: Bool)
  case deleteUser(name: [UInt8])
  case changePassword(name: [UInt8], passwordHash: [UInt8])
  case grantRole(user: [UInt8], role: [UInt8])
  case revokeRole(user: [UInt8], role: [UInt8])
  case addRole(name: [UInt8])
  case deleteRole(name: [UInt8])
  case grantPermission(role: [UInt8], AuthPermission)
  case revokePermission(role: [UInt8], key: [UInt8], rangeEnd: [UInt8])

  private enum Action: UInt8 {
    case enable = 1
    case disable
    /// user, token prefix, u64 revision
    case authenticate
    /// name, hash, u8 flag
    case addUser
    case deleteUser
    /// name, hash
    case changePassword
    /// user, role
    case grantRole
    case revokeRole
    case addRole
    case deleteRole
    /// role, key, range end, u8 kind
    case grantPermission
    /// role, key, range end
    case revokePermission
  }

  /// The command's body.
  public func encoded() -> [UInt8] {
    var output: [UInt8] = []
    func append(_ action: Action, _ fields: [UInt8]...) {
      output.append(action.rawValue)
      for field in fields { field.withUnsafeBytes { output.append(lengthPrefixed: $0) } }
    }
    switch self {
    case .enable: append(.enable)
    case .disable: append(.disable)
    case .authenticate(let user, let prefix, let revision):
      append(.authenticate, user, prefix)
      output.append(littleEndian: revision)
    case .addUser(let name, let hash, let hasNoPassword):
      append(.addUser, name, hash)
      output.append(hasNoPassword ? 1 : 0)
    case .deleteUser(let name): append(.deleteUser, name)
    case .changePassword(let name, let hash): append(.changePassword, name, hash)
    case .grantRole(let user, let role): append(.grantRole, user, role)
    case .revokeRole(let user, let role): append(.revokeRole, user, role)
    case .addRole(let name): append(.addRole, name)
    case .deleteRole(let name): append(.deleteRole, name)
    case .grantPermission(let role, let permission):
      append(.grantPermission, role, permission.key, permission.rangeEnd)
      output.append(permission.kind.rawValue)
    case .revokePermission(let role, let key, let rangeEnd):
      append(.revokePermission, role, key, rangeEnd)
    }
    return output
  }

  /// Reads a body; what is malformed in any way throws.
  public init(_ body: UnsafeRawBufferPointer) throws(ByteReaderError) {
    var reader = ByteReader(body)
    guard let action = Action(rawValue: try reader.read()) else {
      throw ByteReaderError(.outOfRange, offset: 0)
    }
    switch action {
    case .enable: self = .enable
    case .disable: self = .disable
    case .authenticate:
      self = .authenticate(
        user: try reader.field(), tokenPrefix: try reader.field(), revision: try reader.read())
    case .addUser:
      self = .addUser(
        name: try reader.field(), passwordHash: try reader.field(),
        hasNoPassword: try reader.read(UInt8.self) != 0)
    case .deleteUser: self = .deleteUser(name: try reader.field())
    case .changePassword:
      self = .changePassword(name: try reader.field(), passwordHash: try reader.field())
    case .grantRole: self = .grantRole(user: try reader.field(), role: try reader.field())
    case .revokeRole: self = .revokeRole(user: try reader.field(), role: try reader.field())
    case .addRole: self = .addRole(name: try reader.field())
    case .deleteRole: self = .deleteRole(name: try reader.field())
    case .grantPermission:
      let (role, key, end) = (try reader.field(), try reader.field(), try reader.field())
      guard let kind = AuthPermission.Kind(rawValue: try reader.read()) else {
        throw ByteReaderError(.outOfRange, offset: reader.offset)
      }
      self = .grantPermission(role: role, AuthPermission(kind: kind, key: key, rangeEnd: end))
    case .revokePermission:
      self = .revokePermission(
        role: try reader.field(), key: try reader.field(), rangeEnd: try reader.field())
    }
    guard reader.isAtEnd else { throw ByteReaderError(.outOfRange, offset: reader.offset) }
  }
}

extension ByteReader {
  /// A length-prefixed field, copied.
  mutating func field() throws(ByteReaderError) -> [UInt8] { [UInt8](try readLengthPrefixed()) }
}

/// What a change means for the tokens that members hold in memory.
public enum AuthEffect: Hashable, Sendable {
  case tokenAssigned(token: [UInt8], user: [UInt8])
  /// The user's password or rights are others now: what it was let in by is void.
  case userInvalidated([UInt8])
  /// Authentication was turned off.
  case allInvalidated
}
