import Primitives

// A log entry's payload
// =====================
//
// One entry of the replicated log carries everything that a member drained from its inbox at once,
// so that the work per entry (a Raft proposal, a log record, a commit) is shared by hundreds of
// commands. The client's protobuf bytes travel untouched: they are copied once from the
// connection's buffer into this form, and the same bytes go to the disk, to the peers and into
// `Store.apply`.
//
// All integers are little-endian.
//
//     header, 24 bytes
//      0  u8   format version, 1
//      1  u8   reserved, 0
//      2  u16  reserved, 0
//      4  u32  number of commands
//      8  u64  id of the member that proposed the batch
//     16  u64  sequence of the first command; command i has sequence first + i
//
//     each command
//      0  u32  length of the command with this header, at least 8
//      4  u8   kind
//      5  u8   flags; bit 0: an auth section follows the extra bytes
//      6  u16  length of the extra bytes
//      8       extra bytes, then the auth section (u64 auth revision, u16 length of the user's name,
//              the name), then the body: the client's request
//
// What the extra bytes and the body of each kind are, `CommandKind` says.

/// What a command does. An open enumeration: a store that doesn't know a kind answers its command
/// with ``ApplyError/unsupportedCommand`` on every member alike.
public struct CommandKind: RawRepresentable, Hashable, Sendable {
  public var rawValue: UInt8
  @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// Body: `PutRequest`.
  public static let put = CommandKind(rawValue: 1)
  /// Body: `DeleteRangeRequest`.
  public static let deleteRange = CommandKind(rawValue: 2)
  /// Body: `TxnRequest`.
  public static let txn = CommandKind(rawValue: 3)
  /// Body: `CompactionRequest`.
  public static let compact = CommandKind(rawValue: 4)
  /// Body: `LeaseGrantRequest`. Extra: i64 lease id, chosen by the client or by the proposer; and,
  /// if 16 bytes long, i64 the least time to live in seconds, a setting of the proposer.
  public static let leaseGrant = CommandKind(rawValue: 5)
  /// Body: `LeaseRevokeRequest`.
  public static let leaseRevoke = CommandKind(rawValue: 6)
  /// Body: u64 term of the leader that saw the leases expire, u32 n, n x i64 lease id.
  public static let leaseExpire = CommandKind(rawValue: 7)
  /// Body: u32 n, n x (i64 lease id, i64 remaining seconds).
  public static let leaseCheckpoint = CommandKind(rawValue: 8)
  /// Body: an ``AuthCommand``.
  public static let auth = CommandKind(rawValue: 16)
}

/// Writing and naming the parts of a batch. Reading is ``CommandBatchReader``'s.
public enum CommandBatch {
  public static let formatVersion: UInt8 = 1
  public static let headerSize = 24
  public static let commandHeaderSize = 8

  /// The first 24 bytes of a payload.
  public struct Header: Hashable, Sendable {
    public var count: UInt32
    public var proposer: NodeID
    public var firstSequence: UInt64

    public init(count: UInt32, proposer: NodeID, firstSequence: UInt64) {
      self.count = count
      self.proposer = proposer
      self.firstSequence = firstSequence
    }

    public func append(to payload: inout [UInt8]) {
      payload.append(CommandBatch.formatVersion)
      payload.append(0)
      payload.append(littleEndian: 0 as UInt16)
      payload.append(littleEndian: count)
      payload.append(littleEndian: proposer.rawValue)
      payload.append(littleEndian: firstSequence)
    }
  }

  /// On whose behalf a command was sent, as the proposer saw it.
  public struct Authorization {
    public var revision: UInt64
    /// UTF-8, at most 65,535 bytes.
    public var user: UnsafeRawBufferPointer

    public init(revision: UInt64, user: UnsafeRawBufferPointer) {
      self.revision = revision
      self.user = user
    }
  }

  /// Appends a command whose body is a request as it came from the client.
  ///
  /// O(body), with no allocation but the array's own growth. The body's length is the caller's to
  /// bound: see ``Limits/maximumCommandBytes``.
  @inlinable
  public static func append(
    _ kind: CommandKind, body: UnsafeRawBufferPointer, to commands: inout [UInt8]
  ) {
    appendHeader(kind, flags: 0, extraCount: 0, following: body.count, to: &commands)
    commands.append(contentsOf: body)
  }

  /// Appends a command with extra bytes or on behalf of a user.
  public static func append(
    _ kind: CommandKind, extra: UnsafeRawBufferPointer,
    authorization: Authorization?, body: UnsafeRawBufferPointer, to commands: inout [UInt8]
  ) {
    invariant(extra.count <= Int(UInt16.max), "extra bytes longer than their length field")
    var following = extra.count + body.count
    if let authorization {
      invariant(authorization.user.count <= Int(UInt16.max), "a user's name of over 64 KiB")
      following += 10 + authorization.user.count
    }
    appendHeader(
      kind, flags: authorization == nil ? 0 : 1, extraCount: UInt16(extra.count),
      following: following, to: &commands)
    commands.append(contentsOf: extra)
    if let authorization {
      commands.append(littleEndian: authorization.revision)
      commands.append(littleEndian: UInt16(authorization.user.count))
      commands.append(contentsOf: authorization.user)
    }
    commands.append(contentsOf: body)
  }

  /// Appends a `leaseGrant`.
  ///
  /// - Parameters:
  ///   - id: the lease's id, never zero.
  ///   - minimumSeconds: shorter times to live are raised to this.
  public static func appendLeaseGrant(
    id: LeaseID, minimumSeconds: Int64, body: UnsafeRawBufferPointer, to commands: inout [UInt8]
  ) {
    appendHeader(.leaseGrant, flags: 0, extraCount: 16, following: 16 + body.count, to: &commands)
    commands.append(littleEndian: id.rawValue)
    commands.append(littleEndian: minimumSeconds)
    commands.append(contentsOf: body)
  }

  /// Appends a `leaseExpire`: `leases` ran out under the leader of `term`.
  public static func appendLeaseExpire(
    term: Term, leases: [LeaseID], to commands: inout [UInt8]
  ) {
    appendHeader(
      .leaseExpire, flags: 0, extraCount: 0, following: 12 + 8 * leases.count, to: &commands)
    commands.append(littleEndian: term.rawValue)
    commands.append(littleEndian: UInt32(leases.count))
    for lease in leases { commands.append(littleEndian: lease.rawValue) }
  }

  /// Appends a `leaseCheckpoint`: what is left of leases, in seconds.
  public static func appendLeaseCheckpoint(
    _ leases: [(id: LeaseID, remaining: Int64)], to commands: inout [UInt8]
  ) {
    appendHeader(
      .leaseCheckpoint, flags: 0, extraCount: 0, following: 4 + 16 * leases.count, to: &commands)
    commands.append(littleEndian: UInt32(leases.count))
    for lease in leases {
      commands.append(littleEndian: lease.id.rawValue)
      commands.append(littleEndian: lease.remaining)
    }
  }

  @inlinable
  static func appendHeader(
    _ kind: CommandKind, flags: UInt8, extraCount: UInt16, following: Int,
    to commands: inout [UInt8]
  ) {
    invariant(following <= Limits.maximumCommandBytes, "a command longer than its limit")
    // One append of eight bytes instead of four small ones.
    let header =
      UInt64(UInt32(following + commandHeaderSize)) | UInt64(kind.rawValue) << 32
      | UInt64(flags) << 40 | UInt64(extraCount) << 48
    commands.append(littleEndian: header)
  }
}

/// One command of a batch, borrowed from its payload.
public struct Command {
  public var kind: CommandKind
  public var extra: UnsafeRawBufferPointer
  public var authorization: CommandBatch.Authorization?
  public var body: UnsafeRawBufferPointer
}

/// Walks through a payload's commands, never past its end.
///
/// The initialiser checks the header and `next()` each command as it comes. What is malformed
/// throws, and everything before it was valid.
public struct CommandBatchReader {
  public let header: CommandBatch.Header
  private var reader: ByteReader
  private var remaining: UInt32

  public init(_ payload: UnsafeRawBufferPointer) throws(ByteReaderError) {
    reader = ByteReader(payload)
    let version = try reader.read(UInt8.self)
    let reserved = try reader.read(UInt8.self)
    let reserved2 = try reader.read(UInt16.self)
    guard version == CommandBatch.formatVersion, reserved == 0, reserved2 == 0 else {
      throw ByteReaderError(.outOfRange, offset: 0)
    }
    remaining = try reader.read()
    header = CommandBatch.Header(
      count: remaining, proposer: NodeID(try reader.read()), firstSequence: try reader.read())
  }

  /// The next command; nil after the last one.
  ///
  /// - Throws: where a length runs past the payload, or bytes follow the last command.
  public mutating func next() throws(ByteReaderError) -> Command? {
    guard remaining > 0 else {
      guard reader.isAtEnd else { throw ByteReaderError(.outOfRange, offset: reader.offset) }
      return nil
    }
    let start = reader.offset
    let header: UInt64 = try reader.read()
    let length = Int(header & 0xFFFF_FFFF)
    guard length >= CommandBatch.commandHeaderSize else {
      throw ByteReaderError(.outOfRange, offset: start)
    }
    var parts = ByteReader(try reader.readBytes(length &- CommandBatch.commandHeaderSize))
    let kind = CommandKind(rawValue: UInt8(truncatingIfNeeded: header >> 32))
    let flags = UInt8(truncatingIfNeeded: header >> 40)
    guard flags <= 1 else { throw ByteReaderError(.outOfRange, offset: start) }
    let extra = try parts.readBytes(Int(header >> 48))
    var authorization: CommandBatch.Authorization?
    if flags & 1 != 0 {
      let revision: UInt64 = try parts.read()
      let length: UInt16 = try parts.read()
      authorization = CommandBatch.Authorization(
        revision: revision, user: try parts.readBytes(Int(length)))
    }
    remaining &-= 1
    return Command(
      kind: kind, extra: extra, authorization: authorization,
      body: try parts.readBytes(parts.remaining))
  }
}
