import EtcdWire
import Primitives

/// On whose behalf a request is made, as the member that took it found out.
public struct AuthCaller: Sendable, Hashable {
  public var user: [UInt8]
  /// The auth revision that the credential was made at; nil for one that stays good until it is taken
  /// back, such as a certificate.
  public var revision: UInt64?

  public init(user: [UInt8], revision: UInt64?) {
    self.user = user
    self.revision = revision
  }
}

/// Whether a user may do what a request asks for: the whole tree of its operations, whichever of them
/// would run.
struct AccessCheck {
  enum Access {
    case reading, writing
  }

  /// For the keys that are attached to leases.
  let root: Root
  private let roles: [AuthRole]
  let isRoot: Bool

  /// - Throws: `.oldAuthRevision` or `.permissionDenied` where the credential is of no use any more.
  init(
    _ auth: AuthState, user name: UnsafeRawBufferPointer, revision: UInt64?, root: Root
  ) throws(ApplyError) {
    if name.isEmpty || revision == 0 { throw .userEmpty }
    if let revision, revision < auth.revision { throw .oldAuthRevision }
    guard let user = auth.user(name) else { throw .permissionDenied }
    self.root = root
    isRoot = user.isRoot
    roles = isRoot ? [] : user.roles.compactMap { auth.role($0) }
  }

  // MARK: Requests

  func check(_ request: RangeRequest) throws(ApplyError) { try require(.reading, request.range) }

  func check(_ request: PutRequest) throws(ApplyError) {
    if isRoot { return }
    let key = KeyRange(key: request.key, rangeEnd: .none)
    try require(.writing, key)
    // A lease's end deletes its keys, so whoever attaches a key to it gets at the others.
    try checkKeys(of: request.lease, .writing)
    if request.wantsPrevious { try require(.reading, key) }
  }

  func check(_ request: DeleteRangeRequest) throws(ApplyError) {
    try require(.writing, request.range)
    if request.wantsPrevious { try require(.reading, request.range) }
  }

  /// Recurses as deep as transactions are nested, which their reader has bounded.
  func check(_ request: TxnRequest) throws(ApplyError) {
    if isRoot { return }
    // A predicate tells what a key holds.
    for predicate in request.compare { try require(.reading, predicate.range) }
    for branch in [request.success, request.failure] {
      for operation in branch {
        switch operation.request {
        case .range(let range): try check(range)
        case .put(let put): try check(put)
        case .deleteRange(let deleteRange): try check(deleteRange)
        case .txn(let nested): try check(nested)
        case .none: break
        }
      }
    }
  }

  /// Whether all keys of a lease may be read or written; one that doesn't exist has none.
  func checkKeys(of lease: Int64, _ access: Access) throws(ApplyError) {
    if isRoot || lease == 0 { return }
    guard let entry = root.lease(lease) else { return }
    var isAllowed = true
    entry.keys.forEachElement { element in
      if isAllowed {
        isAllowed = allows(access, KeyRange(key: Record(address: element).key, rangeEnd: .none))
      }
    }
    if !isAllowed { throw .permissionDenied }
  }

  func requireRoot() throws(ApplyError) {
    if !isRoot { throw .permissionDenied }
  }

  // MARK: Ranges

  func require(_ access: Access, _ range: KeyRange) throws(ApplyError) {
    if !allows(access, range) { throw .permissionDenied }
  }

  /// Whether the roles together cover a range.
  func allows(_ access: Access, _ range: KeyRange) -> Bool {
    if isRoot { return true }
    // An empty key means the first one where a range begins there.
    var reached = range.key.isEmpty ? [0] : [UInt8](range.key)
    while true {
      var furthest: [UInt8]?
      for role in roles {
        let set = access == .reading ? role.readable : role.writable
        switch reached.withUnsafeBytes({ set.reach(from: $0) }) {
        case .nowhere: break
        case .everything: return true
        case .before(let end):
          if furthest.map({ $0.lexicographicallyPrecedes(end) }) ?? true { furthest = end }
        }
      }
      guard let end = furthest else { return false }
      if range.isSingleKey { return true }
      if !range.isUnbounded, end.withUnsafeBytes({ !$0.precedes(range.rangeEnd) }) { return true }
      reached = end
    }
  }
}

// MARK: - For readers

extension StoreView {
  /// The users and roles as of the view.
  public var auth: AuthState { published.auth }
  /// Whether requests must be checked against the view before it answers them.
  public var isAuthEnabled: Bool { published.auth.isEnabled }

  /// Each of these throws what etcd answers: `.userEmpty` for nobody, `.permissionDenied`,
  /// `.oldAuthRevision`; and does nothing while authentication is off.
  public func authorize(_ request: RangeRequest, _ caller: AuthCaller?) throws(ApplyError) {
    guard let check = try check(caller) else { return }
    defer { withExtendedLifetime(published) {} }
    try check.check(request)
  }

  public func authorize(_ request: TxnRequest, _ caller: AuthCaller?) throws(ApplyError) {
    guard let check = try check(caller) else { return }
    defer { withExtendedLifetime(published) {} }
    try check.check(request)
  }

  /// Whether a watch of a range is allowed.
  public func authorizeReading(_ range: KeyRange, _ caller: AuthCaller?) throws(ApplyError) {
    guard let check = try check(caller) else { return }
    defer { withExtendedLifetime(published) {} }
    try check.require(.reading, range)
  }

  /// Whether a lease may be renewed: its keys written.
  public func authorizeRenewal(of lease: LeaseID, _ caller: AuthCaller?) throws(ApplyError) {
    guard let check = try check(caller) else { return }
    defer { withExtendedLifetime(published) {} }
    try check.checkKeys(of: lease.rawValue, .writing)
  }

  /// Whether a lease's keys may be told.
  public func authorizeKeys(of lease: LeaseID, _ caller: AuthCaller?) throws(ApplyError) {
    guard let check = try check(caller) else { return }
    defer { withExtendedLifetime(published) {} }
    try check.checkKeys(of: lease.rawValue, .reading)
  }

  /// Whether all leases may be told: every key that is attached to one. O(leases and their keys).
  public func authorizeLeaseList(_ caller: AuthCaller?) throws(ApplyError) {
    guard let check = try check(caller) else { return }
    defer { withExtendedLifetime(published) {} }
    if check.isRoot { return }
    var denied: ApplyError?
    root.leases.forEachElement { element in
      if denied != nil { return }
      do throws(ApplyError) {
        try check.checkKeys(of: LeaseEntry(address: element).id, .reading)
      } catch { denied = error }
    }
    if let denied { throw denied }
  }

  /// Whether the caller is somebody at all.
  public func authorizeUser(_ caller: AuthCaller?) throws(ApplyError) { _ = try check(caller) }

  /// Whether the caller may administer the store.
  public func authorizeRoot(_ caller: AuthCaller?) throws(ApplyError) {
    // As in etcd the credential's age doesn't matter here, only who it names.
    try check(caller.map { AuthCaller(user: $0.user, revision: nil) })?.requireRoot()
  }

  private func check(_ caller: AuthCaller?) throws(ApplyError) -> AccessCheck? {
    guard published.auth.isEnabled else { return nil }
    guard let caller else { throw .userEmpty }
    var check: AccessCheck?
    var failure: ApplyError?
    caller.user.withUnsafeBytes { user in
      do throws(ApplyError) {
        check = try AccessCheck(published.auth, user: user, revision: caller.revision, root: root)
      } catch { failure = error }
    }
    if let failure { throw failure }
    return check
  }
}
