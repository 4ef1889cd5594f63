import Primitives

// The auth section of a snapshot:
//
//      0  u8   1 if authentication is enabled
//      1  u64  auth revision
//      9       users: varint count, then of each: name, password hash, u8 1 for no password, varint
//              number of roles, their names
//              roles: varint count, then of each: name, varint number of permissions, of each u8
//              kind, key, range end
//
// Names, hashes and keys are a varint length and that many bytes.

extension AuthState {
  func encoded() -> [UInt8] {
    var output: [UInt8] = [isEnabled ? 1 : 0]
    func append(_ field: [UInt8]) { field.withUnsafeBytes { output.append(lengthPrefixed: $0) } }
    output.append(littleEndian: revision)
    output.append(varint: UInt64(users.count))
    for user in users {
      append(user.name)
      append(user.passwordHash)
      output.append(user.hasNoPassword ? 1 : 0)
      output.append(varint: UInt64(user.roles.count))
      for role in user.roles { append(role) }
    }
    output.append(varint: UInt64(roles.count))
    for role in roles {
      append(role.name)
      output.append(varint: UInt64(role.permissions.count))
      for permission in role.permissions {
        output.append(permission.kind.rawValue)
        append(permission.key)
        append(permission.rangeEnd)
      }
    }
    return output
  }

  /// Reads a section that fills `bytes`; throws on anything that a store could not have written.
  init(encoded bytes: UnsafeRawBufferPointer) throws(ByteReaderError) {
    var reader = ByteReader(bytes)
    func fail() -> ByteReaderError { ByteReaderError(.outOfRange, offset: reader.offset) }
    let flag: UInt8 = try reader.read()
    guard flag <= 1 else { throw fail() }
    isEnabled = flag == 1
    revision = try reader.read()
    for _ in 0..<(try reader.readVarint()) {
      let name = try reader.field()
      let hash = try reader.field()
      let hasNoPassword: UInt8 = try reader.read()
      var granted: [[UInt8]] = []
      for _ in 0..<(try reader.readVarint()) {
        let role = try reader.field()
        guard granted.last?.lexicographicallyPrecedes(role) ?? true else { throw fail() }
        granted.append(role)
      }
      guard !name.isEmpty, name.count <= Limits.maximumUserNameBytes, hasNoPassword <= 1,
        users.last?.name.lexicographicallyPrecedes(name) ?? true
      else { throw fail() }
      users.append(
        AuthUser(
          name: name, passwordHash: hash, hasNoPassword: hasNoPassword == 1, roles: granted))
    }
    for _ in 0..<(try reader.readVarint()) {
      let name = try reader.field()
      var permissions: [AuthPermission] = []
      for _ in 0..<(try reader.readVarint()) {
        guard let kind = AuthPermission.Kind(rawValue: try reader.read()) else { throw fail() }
        let permission = AuthPermission(
          kind: kind, key: try reader.field(), rangeEnd: try reader.field())
        guard permission.isRange,
          permissions.last.map({ !permission.key.lexicographicallyPrecedes($0.key) }) ?? true
        else { throw fail() }
        permissions.append(permission)
      }
      guard !name.isEmpty, roles.last?.name.lexicographicallyPrecedes(name) ?? true else {
        throw fail()
      }
      roles.append(AuthRole(name: name, permissions: permissions))
    }
    guard reader.isAtEnd, revision >= 1 else { throw fail() }
    guard !isEnabled || user(AuthState.root)?.isRoot == true else { throw fail() }
  }
}
