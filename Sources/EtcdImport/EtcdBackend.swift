import Bolt
import EtcdWire
import MVCC
import Primitives

// From etcd's backend to a store
// ==============================
//
// etcd 3.x keeps all its state in a bbolt database, in buckets of which these matter here:
//
//     key         revision -> mvccpb.KeyValue, all revisions that were not compacted yet
//     meta        scheduledCompactRev, finishedCompactRev -> revision
//     lease       id, big-endian -> leasepb.Lease
//     auth        authEnabled -> one byte; authRevision -> u64, big-endian
//     authUsers   name -> authpb.User
//     authRoles   name -> authpb.Role
//     alarm       etcdserverpb.AlarmMember -> nothing
//
// A revision is 17 bytes: i64 main, '_', i64 sub, both big-endian; a deletion's key has a 't' behind them.
//
// Compaction in etcd runs in the background: below the revision that was *scheduled*, any records may be there
// or not, except for the newest of each key that was not a deletion. What the store shows at that revision is
// the same either way; that, and every change from it on, is what is taken over. Members (etcd's `members`
// bucket) are not: an imported state founds a cluster of its own.
//
// The records are walked through twice: the first time to learn the newest revision, and which keys name leases
// that the file doesn't have.
//
// Source: etcd 3.5's documentation of the persistent storage files.

/// The state in an etcd snapshot: what `etcdctl snapshot save` wrote, without the checksum behind it.
public struct EtcdBackend {
  private let database: BoltDatabase

  /// Looks at a bbolt database.
  ///
  /// - Parameters:
  ///   - size: of the database in bytes.
  ///   - read: reads bytes of the file: where, and how many.
  /// - Throws: `BoltError` if it is none, and what `read` throws.
  public init(size: UInt64, read: @escaping BoltDatabase.Read) throws {
    database = try BoltDatabase(size: size, read: read)
  }

  /// What was taken over, for the operator.
  public struct Summary: Hashable, Sendable {
    public var revision: Int64 = 1
    /// -1 for none.
    public var compactRevision: Int64 = -1
    public var keys = 0
    /// Records of superseded values and of deletions.
    public var olderRecords = 0
    public var leases = 0
    public var users = 0
    public var roles = 0
    public var isAuthEnabled = false
    public var alarms: [EtcdAlarm] = []
    /// Keys that named a lease which the file doesn't have; they were taken over without it.
    public var keysWithoutTheirLease = 0

    public init() {}
  }

  /// Reads the whole state. O(database).
  ///
  /// - Parameter stateHash: where the rolling hash begins: the same for all members of a new cluster.
  /// - Throws: `BoltError`, `EtcdBackendError`, and what reading the file throws.
  public func load(stateHash: UInt64) throws -> (store: Store, summary: Summary) {
    var summary = Summary()
    let leases = try readLeases()
    let auth = try readAuth()
    summary.leases = leases.count
    summary.users = auth.users.count
    summary.roles = auth.roles.count
    summary.isAuthEnabled = auth.isEnabled
    summary.alarms = try readAlarms()
    guard let records = try database.bucket("key") else {
      throw EtcdBackendError("there is no bucket 'key': this is no etcd v3 database")
    }
    let compacted = try compactRevision()
    let survey = try RecordSurvey(records, leases: Set(leases.map(\.id)))
    summary.compactRevision = compacted
    summary.revision = max(survey.newestRevision, compacted, 1)
    summary.keysWithoutTheirLease = survey.strays.count
    var assembler: StoreAssembler
    do {
      assembler = try StoreAssembler(
        revision: summary.revision, compactRevision: compacted, stateHash: stateHash,
        leases: leases, auth: auth)
    } catch {
      throw EtcdBackendError("the leases make no sense: \(error.message)")
    }
    let count = try RecordTransfer(records, compactRevision: compacted, strays: survey.strays)
      .run(into: &assembler)
    do {
      let store = try assembler.finish()
      summary.keys = store.publish().keyCount
      summary.olderRecords = count - summary.keys
      return (store, summary)
    } catch {
      throw EtcdBackendError("the records make no whole: \(error.message)")
    }
  }

  private func compactRevision() throws -> Int64 {
    guard let meta = try database.bucket("meta") else { return -1 }
    var revision: Int64 = -1
    var entries = meta.entries()
    while let entry = try entries.next() {
      let name = String(decoding: entry.key, as: UTF8.self)
      guard name == "scheduledCompactRev" || name == "finishedCompactRev" else { continue }
      guard let compacted = RecordKey(entry.value) else {
        throw EtcdBackendError("'\(name)' is no revision")
      }
      revision = max(revision, compacted.main)
    }
    return revision
  }

  private func readLeases() throws -> [StoreAssembler.Lease] {
    guard let bucket = try database.bucket("lease") else { return [] }
    var leases: [StoreAssembler.Lease] = []
    var entries = bucket.entries()
    while let entry = try entries.next() {
      guard let id = bigEndian(entry.key, at: 0), entry.key.count == 8 else {
        throw EtcdBackendError("a lease's id is not 8 bytes long")
      }
      var granted: Int64 = 0
      var remaining: Int64 = 0
      try fields(of: entry.value, "lease \(String(id, radix: 16))") { reader throws(WireError) in
        switch reader.tag {
        case 0x10: granted = try reader.int64()
        case 0x18: remaining = try reader.int64()
        default: try reader.skip()
        }
      }
      let lease = Int64(bitPattern: id)
      guard lease != 0, granted >= 1 else {
        throw EtcdBackendError("lease \(String(id, radix: 16)) has a time to live of \(granted) s")
      }
      // Without a checkpoint etcd keeps nothing of the time that has gone by.
      leases.append(
        .init(
          id: lease, granted: granted,
          remaining: remaining > 0 ? min(remaining, granted) : granted))
    }
    return leases
  }

  private func readAlarms() throws -> [EtcdAlarm] {
    guard let bucket = try database.bucket("alarm") else { return [] }
    var alarms: [EtcdAlarm] = []
    var entries = bucket.entries()
    while let entry = try entries.next() {
      var alarm = EtcdAlarm(member: 0, kind: 0)
      try fields(of: entry.key, "an alarm") { reader throws(WireError) in
        switch reader.tag {
        case 0x08: alarm.member = try reader.varint()
        case 0x10: alarm.kind = try reader.enumeration()
        default: try reader.skip()
        }
      }
      alarms.append(alarm)
    }
    return alarms
  }

  private func readAuth() throws -> AuthState {
    var isEnabled = false
    var revision: UInt64 = 1
    if let bucket = try database.bucket("auth") {
      var entries = bucket.entries()
      while let entry = try entries.next() {
        switch String(decoding: entry.key, as: UTF8.self) {
        case "authEnabled": isEnabled = entry.value.elementsEqual([1])
        case "authRevision":
          guard let value = bigEndian(entry.value, at: 0) else {
            throw EtcdBackendError("'authRevision' is not 8 bytes long")
          }
          revision = value
        default: break
        }
      }
    }
    let (users, roles) = (try readUsers(), try readRoles())
    do {
      return try AuthState(isEnabled: isEnabled, revision: revision, users: users, roles: roles)
    } catch {
      throw EtcdBackendError("the users and roles make no sense: \(error)")
    }
  }

  private func readUsers() throws -> [AuthUser] {
    guard let bucket = try database.bucket("authUsers") else { return [] }
    var users: [AuthUser] = []
    var entries = bucket.entries()
    while let entry = try entries.next() {
      let name = Array(entry.key)
      var hash: [UInt8] = []
      var roles: [[UInt8]] = []
      var hasNoPassword = false
      try fields(of: entry.value, "user \(String(decoding: name, as: UTF8.self))") {
        reader throws(WireError) in
        switch reader.tag {
        case 0x12: hash = Array(try reader.bytes())
        case 0x1A: roles.append(Array(try reader.bytes()))
        case 0x22:
          var options = FieldReader(try reader.bytes())
          while try options.next() {
            if options.tag == 0x08 {
              hasNoPassword = try options.bool()
            } else {
              try options.skip()
            }
          }
        default: try reader.skip()
        }
      }
      users.append(
        AuthUser(name: name, hash: hash, hasNoPassword: hasNoPassword, grantedRoles: roles))
    }
    return users
  }

  private func readRoles() throws -> [AuthRole] {
    guard let bucket = try database.bucket("authRoles") else { return [] }
    var roles: [AuthRole] = []
    var entries = bucket.entries()
    while let entry = try entries.next() {
      let name = Array(entry.key)
      var permissions: [AuthPermission] = []
      try fields(of: entry.value, "role \(String(decoding: name, as: UTF8.self))") {
        reader throws(WireError) in
        guard reader.tag == 0x12 else { return try reader.skip() }
        permissions.append(try AuthPermission(encoded: try reader.bytes()))
      }
      roles.append(AuthRole(name: name, granted: permissions))
    }
    return roles
  }
}

/// An alarm as etcd stores it.
public struct EtcdAlarm: Hashable, Sendable {
  public var member: UInt64
  /// As in `AlarmType`: 1 no space, 2 corrupt.
  public var kind: Int32

  public init(member: UInt64, kind: Int32) {
    self.member = member
    self.kind = kind
  }
}

/// Why a bbolt database can't be taken for etcd's.
public struct EtcdBackendError: Error, Hashable, Sendable, CustomStringConvertible {
  public var description: String
  init(_ description: String) { self.description = description }
}

extension AuthPermission {
  /// Reads an `authpb.Permission`.
  init(encoded bytes: UnsafeRawBufferPointer) throws(WireError) {
    self.init(kind: .read, key: [], rangeEnd: [])
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x08:
        let number = try reader.enumeration()
        guard let kind = UInt8(exactly: number).flatMap(Kind.init(rawValue:)) else {
          throw .malformedTag
        }
        self.kind = kind
      case 0x12: key = Array(try reader.bytes())
      case 0x1A: rangeEnd = Array(try reader.bytes())
      default: try reader.skip()
      }
    }
  }
}

/// Hands the fields of a protobuf message out one by one.
func fields(
  of bytes: ArraySlice<UInt8>, _ what: String,
  _ take: (inout FieldReader) throws(WireError) -> Void
) throws(EtcdBackendError) {
  var failure: WireError?
  bytes.withUnsafeBytes { bytes in
    var reader = FieldReader(bytes)
    do throws(WireError) {
      while try reader.next() { try take(&reader) }
    } catch {
      failure = error
    }
  }
  if let failure { throw EtcdBackendError("\(what) can't be read: \(failure)") }
}

/// A big-endian integer; nil where there are fewer bytes.
func bigEndian(_ bytes: ArraySlice<UInt8>, at offset: Int) -> UInt64? {
  guard bytes.count >= offset + 8 else { return nil }
  return bytes.dropFirst(offset).prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
}
