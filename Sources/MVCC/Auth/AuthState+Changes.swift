import Primitives

// Each change is checked whole before it is made. The order of checks is etcd's.

extension AuthState {
  /// Makes a change, or finds it wanting and makes none.
  ///
  /// - Parameter effects: what members must do about tokens is appended here.
  mutating func apply(
    _ command: AuthCommand, _ effects: inout [AuthEffect]
  ) throws(ApplyError) {
    switch command {
    case .enable: try enable()
    case .disable:
      guard isEnabled else { return }
      isEnabled = false
      revision &+= 1
      effects.append(.allInvalidated)
    case .authenticate:
      // The store makes the token, which depends on the entry; see `Store.authenticate`.
      throw .malformedRequest
    case .addUser(let name, let hash, let hasNoPassword):
      try addUser(name, hash, hasNoPassword)
    case .deleteUser(let name):
      if isEnabled, name == AuthState.root { throw .invalidAuthManagement }
      guard let position = users.position(of: name).found else { throw .userNotFound }
      users.remove(at: position)
      revision &+= 1
      effects.append(.userInvalidated(name))
    case .changePassword(let name, let hash):
      guard let position = users.position(of: name).found else { throw .userNotFound }
      users[position].passwordHash = users[position].hasNoPassword ? [] : hash
      revision &+= 1
      effects.append(.userInvalidated(name))
    case .grantRole(let user, let role): try grant(role, to: user)
    case .revokeRole(let user, let role): try revoke(role, of: user)
    case .addRole(let name):
      if name.isEmpty { throw .roleEmpty }
      let (found, place) = roles.position(of: name)
      if found != nil { throw .roleAlreadyExists }
      roles.insert(AuthRole(name: name), at: place)
      revision &+= 1
    case .deleteRole(let name): try deleteRole(name, &effects)
    case .grantPermission(let role, let permission): try grant(permission, to: role)
    case .revokePermission(let role, let key, let rangeEnd):
      guard let position = roles.position(of: role).found else { throw .roleNotFound }
      let left = roles[position].permissions.filter { $0.key != key || $0.rangeEnd != rangeEnd }
      if left.count == roles[position].permissions.count { throw .permissionNotGranted }
      roles[position] = AuthRole(name: role, permissions: left)
      revision &+= 1
    }
  }

  private mutating func enable() throws(ApplyError) {
    if isEnabled { return }
    guard let root = user(AuthState.root) else { throw .rootUserNotExist }
    if !root.isRoot { throw .rootRoleNotExist }
    isEnabled = true
  }

  private mutating func addUser(
    _ name: [UInt8], _ hash: [UInt8], _ hasNoPassword: Bool
  ) throws(ApplyError) {
    if name.isEmpty { throw .userEmpty }
    if name.count > Limits.maximumUserNameBytes { throw .malformedRequest }
    let (found, place) = users.position(of: name)
    if found != nil { throw .userAlreadyExists }
    users.insert(
      AuthUser(
        name: name, passwordHash: hasNoPassword ? [] : hash, hasNoPassword: hasNoPassword,
        roles: []), at: place)
    revision &+= 1
  }

  private mutating func grant(_ role: [UInt8], to user: [UInt8]) throws(ApplyError) {
    guard let position = users.position(of: user).found else { throw .userNotFound }
    // The root role need not exist to be granted.
    if role != AuthState.root, self.role(role) == nil { throw .roleNotFound }
    if users[position].roles.contains(role) { return }
    let place = users[position].roles.firstIndex { role.lexicographicallyPrecedes($0) }
    users[position].roles.insert(role, at: place ?? users[position].roles.count)
    revision &+= 1
  }

  private mutating func revoke(_ role: [UInt8], of user: [UInt8]) throws(ApplyError) {
    if isEnabled, user == AuthState.root, role == AuthState.root { throw .invalidAuthManagement }
    guard let position = users.position(of: user).found else { throw .userNotFound }
    guard let granted = users[position].roles.firstIndex(of: role) else { throw .roleNotGranted }
    users[position].roles.remove(at: granted)
    revision &+= 1
  }

  private mutating func deleteRole(
    _ name: [UInt8], _ effects: inout [AuthEffect]
  ) throws(ApplyError) {
    if isEnabled, name == AuthState.root { throw .invalidAuthManagement }
    guard let position = roles.position(of: name).found else { throw .roleNotFound }
    roles.remove(at: position)
    for index in users.indices {
      guard let granted = users[index].roles.firstIndex(of: name) else { continue }
      users[index].roles.remove(at: granted)
      effects.append(.userInvalidated(users[index].name))
    }
    revision &+= 1
  }

  private mutating func grant(
    _ permission: AuthPermission, to role: [UInt8]
  ) throws(ApplyError) {
    if !permission.isRange { throw .invalidAuthManagement }
    guard let position = roles.position(of: role).found else { throw .roleNotFound }
    var permissions = roles[position].permissions
    let granted = permissions.firstIndex {
      $0.key == permission.key && $0.rangeEnd == permission.rangeEnd
    }
    if let granted {
      permissions[granted].kind = permission.kind
    } else {
      let place = permissions.firstIndex { permission.key.lexicographicallyPrecedes($0.key) }
      permissions.insert(permission, at: place ?? permissions.count)
    }
    roles[position] = AuthRole(name: role, permissions: permissions)
    revision &+= 1
  }
}
