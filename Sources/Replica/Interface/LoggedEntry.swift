import EtcdWire
import MVCC
import Primitives
import Raft

/// What an entry of the log says, taken apart for people and tools.
public struct LoggedEntry: Sendable, Hashable {
  /// One thing that the entry asks for.
  public struct Item: Sendable, Hashable {
    /// `put`, `lease-grant`, `add-member` and so on.
    public var kind: String
    public var fields: [Field]
  }

  public struct Field: Sendable, Hashable {
    public enum Value: Sendable, Hashable {
      case number(Int64)
      /// An id, which is written in hexadecimal.
      case id(UInt64)
      case flag(Bool)
      case text(String)
      case bytes([UInt8])
      case list([String])
    }
    public var name: String
    public var value: Value
  }

  public var index: LogIndex
  public var term: Term
  public var items: [Item] = []
  /// Why the rest of the entry can't be read, if it can't. Members then ignore it, all alike.
  public var problem: String?

  /// Takes an entry apart. Never fails: what can't be read is said in `problem`.
  public init(_ entry: Entry) {
    index = entry.index
    term = entry.term
    switch entry.kind {
    case .membership:
      do {
        let change = try MembershipEntry.decode(entry.payload)
        add(
          "membership",
          [
            ("voters", .list(change.membership.voters.map { "\($0)" })),
            ("outgoing", .list(change.membership.votersOutgoing.map { "\($0)" })),
            ("learners", .list(change.membership.learners.map { "\($0)" })),
          ])
      } catch {
        problem = "\(error)"
      }
      if let command = ClusterCommand.carried(by: entry) { add(command) }
    case .normal:
      if entry.payload.isEmpty {
        add("no-op", [])
      } else if entry.payload.first == ClusterCommand.marker {
        if let command = ClusterCommand.carried(by: entry) {
          add(command)
        } else {
          problem = "a command of the cluster that this release doesn't know"
        }
      } else {
        entry.payload.withUnsafeBytes { addCommands($0) }
      }
    }
  }

  private mutating func add(_ kind: String, _ fields: [(String, Field.Value)]) {
    items.append(Item(kind: kind, fields: fields.map { Field(name: $0.0, value: $0.1) }))
  }

  private mutating func add(_ command: ClusterCommand) {
    switch command {
    case .publish(let id, let name, let urls):
      add(
        "publish",
        [("member", .id(id.rawValue)), ("name", .text(name)), ("client-urls", .list(urls))])
    case .setAlarm(let alarm, let isActive, let isAutomatic):
      add(
        "alarm",
        [
          ("alarm", .text(alarm.kind == .noSpace ? "NOSPACE" : "CORRUPT")),
          ("member", .id(alarm.member.rawValue)), ("active", .flag(isActive)),
          ("automatic", .flag(isAutomatic)),
        ])
    case .addMember(let member):
      add(
        "add-member",
        [
          ("member", .id(member.id.rawValue)), ("peer-urls", .list(member.peerURLs)),
          ("learner", .flag(member.isLearner)),
        ])
    case .removeMember(let id): add("remove-member", [("member", .id(id.rawValue))])
    case .updateMember(let id, let urls):
      add("update-member", [("member", .id(id.rawValue)), ("peer-urls", .list(urls))])
    case .promoteMember(let id): add("promote-member", [("member", .id(id.rawValue))])
    case .announceLevels(let id, let levels):
      add(
        "announce-levels",
        [
          ("member", .id(id.rawValue)), ("lowest", .number(Int64(levels.lowerBound.rawValue))),
          ("highest", .number(Int64(levels.upperBound.rawValue))),
        ])
    case .setLevel(let level): add("set-level", [("level", .number(Int64(level.rawValue)))])
    }
  }

  // MARK: Clients' commands

  private mutating func addCommands(_ payload: UnsafeRawBufferPointer) {
    do throws(ByteReaderError) {
      var reader = try CommandBatchReader(payload)
      while let command = try reader.next() { add(command) }
    } catch {
      problem = "\(error)"
    }
  }

  private mutating func add(_ command: Command) {
    let before = items.count
    do throws(WireError) {
      try addRequest(command)
    } catch {
      add("kind-\(command.kind.rawValue)", [("unreadable", .text("\(error)"))])
    }
    if items.count > before, let authorization = command.authorization {
      items[items.count - 1].fields.append(
        Field(name: "user", value: .text(String(decoding: authorization.user, as: UTF8.self))))
    }
  }

  private mutating func addRequest(_ command: Command) throws(WireError) {
    switch command.kind {
    case .put:
      let request = try PutRequest(command.body)
      add(
        "put",
        [
          ("key", .bytes(Array(request.key))), ("value-bytes", .number(Int64(request.value.count))),
          ("lease", .id(UInt64(bitPattern: request.lease))),
        ])
    case .deleteRange:
      let request = try DeleteRangeRequest(command.body)
      add(
        "delete-range",
        [("key", .bytes(Array(request.key))), ("range-end", .bytes(Array(request.rangeEnd)))])
    case .txn:
      let request = try TxnRequest(command.body)
      add(
        "txn",
        [
          ("compares", .number(Int64(count(request.compare)))),
          ("success", .number(Int64(count(request.success)))),
          ("failure", .number(Int64(count(request.failure)))),
        ])
    case .compact:
      add("compact", [("revision", .number(try CompactionRequest(command.body).revision))])
    case .leaseGrant:
      let request = try LeaseGrantRequest(command.body)
      let id =
        command.extra.count >= 8
        ? UInt64(littleEndian: command.extra.loadUnaligned(as: UInt64.self))
        : UInt64(bitPattern: request.id)
      add("lease-grant", [("lease", .id(id)), ("ttl", .number(request.timeToLive))])
    case .leaseRevoke:
      let request = try LeaseRevokeRequest(command.body)
      add("lease-revoke", [("lease", .id(UInt64(bitPattern: request.id)))])
    case .leaseExpire, .leaseCheckpoint:
      var reader = ByteReader(command.body)
      let isExpiry = command.kind == .leaseExpire
      if isExpiry { try? reader.skip(8) }
      let leases = (try? reader.read(UInt32.self)) ?? 0
      add(
        isExpiry ? "lease-expire" : "lease-checkpoint", [("leases", .number(Int64(leases)))])
    case .auth: addAuth(command.body)
    default:
      add(
        "kind-\(command.kind.rawValue)",
        [("unknown to this release", .flag(true)), ("bytes", .number(Int64(command.body.count)))])
    }
  }

  /// Users and roles. Passwords' hashes and tokens are left out.
  private mutating func addAuth(_ body: UnsafeRawBufferPointer) {
    func text(_ bytes: [UInt8]) -> Field.Value { .text(String(decoding: bytes, as: UTF8.self)) }
    guard let command = try? AuthCommand(body) else {
      return add("auth", [("unreadable", .flag(true))])
    }
    switch command {
    case .enable: add("auth-enable", [])
    case .disable: add("auth-disable", [])
    case .authenticate(let user, _, _): add("authenticate", [("name", text(user))])
    case .addUser(let name, _, let hasNoPassword):
      add("user-add", [("name", text(name)), ("no-password", .flag(hasNoPassword))])
    case .deleteUser(let name): add("user-delete", [("name", text(name))])
    case .changePassword(let name, _): add("user-change-password", [("name", text(name))])
    case .grantRole(let user, let role):
      add("user-grant-role", [("name", text(user)), ("role", text(role))])
    case .revokeRole(let user, let role):
      add("user-revoke-role", [("name", text(user)), ("role", text(role))])
    case .addRole(let name): add("role-add", [("role", text(name))])
    case .deleteRole(let name): add("role-delete", [("role", text(name))])
    case .grantPermission(let role, let permission):
      add(
        "role-grant-permission",
        [
          ("role", text(role)), ("permission", .text("\(permission.kind)")),
          ("key", .bytes(permission.key)), ("range-end", .bytes(permission.rangeEnd)),
        ])
    case .revokePermission(let role, let key, let rangeEnd):
      add(
        "role-revoke-permission",
        [("role", text(role)), ("key", .bytes(key)), ("range-end", .bytes(rangeEnd))])
    }
  }

  private func count<Element>(_ field: RepeatedField<Element>) -> Int {
    field.reduce(0) { count, _ in count + 1 }
  }
}
