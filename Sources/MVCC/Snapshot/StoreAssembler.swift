import EtcdWire
import Primitives

/// Builds a store from the parts of a state that another program wrote.
///
/// The parts come in the order of a snapshot and pass the same checks: see `StoreRestorer`, which does the work.
/// First all that the compact revision shows and is older than it, then every event from there on.
public struct StoreAssembler {
  private var restorer = StoreRestorer()
  private var pending: [UInt8] = []
  private var recordCount: UInt64 = 0

  /// A lease, as granted, and what is left of it.
  public struct Lease {
    public var id: Int64
    /// Seconds.
    public var granted: Int64
    /// Seconds.
    public var remaining: Int64

    public init(id: Int64, granted: Int64, remaining: Int64) {
      self.id = id
      self.granted = granted
      self.remaining = remaining
    }
  }

  /// - Parameters:
  ///   - compactRevision: -1 for none.
  ///   - leases: in any order.
  ///   - stateHash: where the rolling hash begins; the same for all members of a cluster.
  /// - Throws: `SnapshotError` where the parts make no state.
  public init(
    revision: Int64, compactRevision: Int64, stateHash: UInt64, leases: [Lease], auth: AuthState
  ) throws(SnapshotError) {
    pending.append(littleEndian: SnapshotFormat.magic)
    pending.append(littleEndian: SnapshotFormat.version)
    pending.append(littleEndian: revision)
    pending.append(littleEndian: compactRevision)
    pending.append(littleEndian: stateHash)
    pending.append(littleEndian: LogIndex.zero.rawValue)
    pending.append(littleEndian: UInt64(leases.count))
    let auth = auth.encoded()
    guard auth.count <= SnapshotFormat.authMaximum else {
      throw SnapshotError(
        code: .corrupt, message: "too many users and roles", offset: pending.count)
    }
    pending.append(littleEndian: UInt32(auth.count))
    pending += auth
    for lease in leases.sorted(by: { $0.id < $1.id }) {
      pending.append(littleEndian: lease.id)
      pending.append(littleEndian: lease.granted)
      pending.append(littleEndian: lease.remaining)
    }
    try flush()
  }

  /// Adds a key as the compact revision shows it, which was not changed at that very revision.
  public mutating func addBase(_ record: KeyValue) throws(SnapshotError) { try add(.base, record) }

  /// Adds a put of the compact revision or a later one.
  public mutating func addPut(_ record: KeyValue) throws(SnapshotError) { try add(.put, record) }

  /// Adds a deletion of the compact revision or a later one.
  public mutating func addDeletion(
    of key: UnsafeRawBufferPointer, at revision: Int64
  ) throws(SnapshotError) {
    try add(
      .tombstone,
      KeyValue(
        key: key, createRevision: 0, modRevision: revision, version: 0, value: .none, lease: 0))
  }

  /// The store, once all is added.
  public mutating func finish() throws(SnapshotError) -> Store {
    pending.append(SnapshotFormat.Kind.end.rawValue)
    pending.append(littleEndian: recordCount)
    try flush()
    return try restorer.finish()
  }

  private mutating func add(_ kind: SnapshotFormat.Kind, _ record: KeyValue) throws(SnapshotError) {
    guard record.encodedSize <= SnapshotFormat.recordMaximum else {
      throw SnapshotError(code: .corrupt, message: "a record that is too long", offset: 0)
    }
    pending.append(kind.rawValue)
    pending.append(littleEndian: UInt32(record.encodedSize))
    record.append(to: &pending)
    recordCount += 1
    // Each record by itself: what is wrong with it is then known to be wrong with it.
    try flush()
  }

  private mutating func flush() throws(SnapshotError) {
    try restorer.restore(pending)
    pending.removeAll(keepingCapacity: true)
  }
}

extension AuthState {
  /// Users and roles that another program kept.
  ///
  /// - Throws: where no store could have them: enabled without a root, say.
  public init(
    isEnabled: Bool, revision: UInt64, users: [AuthUser], roles: [AuthRole]
  ) throws(ByteReaderError) {
    var state = AuthState()
    state.isEnabled = isEnabled
    state.revision = max(revision, 1)
    state.users = users.sorted { $0.name.lexicographicallyPrecedes($1.name) }
    state.roles = roles.sorted { $0.name.lexicographicallyPrecedes($1.name) }
    let bytes = state.encoded()
    let result: Result<AuthState, ByteReaderError> = bytes.withUnsafeBytes { bytes in
      do throws(ByteReaderError) { return .success(try AuthState(encoded: bytes)) } catch {
        return .failure(error)
      }
    }
    self = try result.get()
  }
}

extension AuthUser {
  /// A user that another program kept; the roles in any order.
  public init(name: [UInt8], hash: [UInt8], hasNoPassword: Bool, grantedRoles: [[UInt8]]) {
    self.init(
      name: name, passwordHash: hash, hasNoPassword: hasNoPassword,
      roles: grantedRoles.sorted { $0.lexicographicallyPrecedes($1) }
        .reduce(into: []) { if $0.last != $1 { $0.append($1) } })
  }
}

extension AuthRole {
  /// A role that another program kept; the permissions in any order. Those for no key at all are left out.
  public init(name: [UInt8], granted: [AuthPermission]) {
    self.init(
      name: name,
      permissions: granted.filter(\.isRange).sorted { $0.key.lexicographicallyPrecedes($1.key) })
  }
}
