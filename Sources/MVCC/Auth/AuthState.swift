import EtcdWire
import Primitives

// Users, roles and what they may do
// =================================
//
// The problem. Who may read or write which keys is state like any other: every member must decide
// alike, after a restart and after a snapshot too. And a decision must fit the moment at which a
// write is applied, not the one at which a client was let in: between the two, a right may have been
// taken away.
//
// The design. Users and roles are part of the store (`AuthState`), changed by commands in the log,
// kept in snapshots and in the state hash. Each change raises the *auth revision*. The member that
// takes a client's write says in the command on whose behalf and by which auth revision it let the
// client in (`CommandBatch.Authorization`); `apply` checks the command against the state it finds,
// and refuses it where the revision has moved on. Reads and watches are checked against the view that
// answers them, by the same code (`AccessCheck`).
//
// A role's permissions are kept twice: as granted, since clients ask for them and revoke them one by
// one, and joined into sets of disjoint ranges (`KeyRangeSet`), one for reading and one for writing. A
// range is allowed if the sets of a user's roles cover it together: adjacent grants of two roles
// are as good as one that spans both.
//
//     role app: read a..c, write b        user: roles app, ops
//     role ops: read c..d                 may read a..d, which neither role covers alone
//
// Passwords come hashed: `apply` may not draw salts nor take a tenth of a second. So a member checks
// a password before it proposes the login, and the log carries the login, so that the token works on
// every member (`AuthEffect.tokenAssigned`).
//
// Source of the rules: etcd's documentation of role-based access control; where releases differ, the
// stricter later ones (every level of nested transactions, leases and previous values are checked).

/// The users and roles of a store at one moment. A value: views keep theirs.
public struct AuthState: Sendable {
  /// Whether anything is checked at all.
  public internal(set) var isEnabled = false
  /// Rises with each change; 1 for a new store.
  public internal(set) var revision: UInt64 = 1
  /// In the order of their names' bytes.
  public internal(set) var users: [AuthUser] = []
  /// In the order of their names' bytes.
  public internal(set) var roles: [AuthRole] = []

  /// The user, and the role, that may do everything.
  public static let root = Array("root".utf8)

  init() {}

  /// The user with a name. O(log users).
  public func user(_ name: some Collection<UInt8>) -> AuthUser? {
    users.position(of: name).found.map { users[$0] }
  }

  /// The role with a name. O(log roles).
  public func role(_ name: some Collection<UInt8>) -> AuthRole? {
    roles.position(of: name).found.map { roles[$0] }
  }
}

/// Somebody who may log in.
public struct AuthUser: Sendable, NamedEntry {
  public internal(set) var name: [UInt8]
  /// As `crypt(3)` writes it; empty where there is no password.
  public internal(set) var passwordHash: [UInt8]
  /// The user can't log in by password: only a certificate names it.
  public internal(set) var hasNoPassword: Bool
  /// Names of roles, in the order of their bytes.
  public internal(set) var roles: [[UInt8]]

  /// Whether the user may do everything.
  public var isRoot: Bool { roles.contains(AuthState.root) }
}

/// A named set of permissions.
public struct AuthRole: Sendable, NamedEntry {
  public internal(set) var name: [UInt8]
  /// As granted, in the order of their keys.
  public private(set) var permissions: [AuthPermission]
  private(set) var readable: KeyRangeSet
  private(set) var writable: KeyRangeSet

  init(name: [UInt8], permissions: [AuthPermission] = []) {
    self.name = name
    self.permissions = permissions
    readable = KeyRangeSet(permissions.lazy.filter(\.kind.allowsReading))
    writable = KeyRangeSet(permissions.lazy.filter(\.kind.allowsWriting))
  }
}

/// What a role may do with a range of keys.
public struct AuthPermission: Sendable, Hashable {
  /// The numbers are those of `authpb.Permission.Type`.
  public enum Kind: UInt8, Sendable {
    case read = 0
    case write = 1
    case readWrite = 2

    var allowsReading: Bool { self != .write }
    var allowsWriting: Bool { self != .read }
  }
  public var kind: Kind
  public var key: [UInt8]
  /// As in requests: empty for the key alone, one zero byte for all from the key on.
  public var rangeEnd: [UInt8]

  public init(kind: Kind, key: [UInt8], rangeEnd: [UInt8]) {
    self.kind = kind
    self.key = key
    self.rangeEnd = rangeEnd
  }

  /// Whether the range holds anything: etcd grants no permission for an empty one.
  var isRange: Bool {
    if key.isEmpty { return false }
    return rangeEnd.isEmpty || rangeEnd == [0] || key.lexicographicallyPrecedes(rangeEnd)
  }
}

/// What has a name that it is found by, in a sorted array.
protocol NamedEntry {
  var name: [UInt8] { get }
}

extension Array where Element: NamedEntry {
  /// Where the entry with a name is, or else where it would have to go.
  func position(of name: some Collection<UInt8>) -> (found: Int?, place: Int) {
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) / 2
      if self[middle].name.lexicographicallyPrecedes(name) { low = middle + 1 } else { high = middle }
    }
    return (low < count && self[low].name.elementsEqual(name) ? low : nil, low)
  }
}
