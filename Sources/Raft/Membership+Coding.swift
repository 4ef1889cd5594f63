import Primitives

// The byte forms of memberships and of what carries them. Tables in Docs/Formats/Raft.md.

extension Membership {
  static let formatVersion: UInt8 = 1

  var encodedSize: Int {
    10 + 8 * (voters.count + votersOutgoing.count + learners.count + learnersNext.count)
  }

  public func encode(into bytes: inout [UInt8]) {
    bytes.append(Membership.formatVersion)
    bytes.append(leavesAutomatically ? 1 : 0)
    for list in [voters, votersOutgoing, learners, learnersNext] {
      bytes.append(littleEndian: UInt16(list.count))
      for id in list { bytes.append(littleEndian: id.rawValue) }
    }
  }

  /// Reads a membership that fills `bytes`. Never traps.
  public static func decode(
    _ bytes: UnsafeRawBufferPointer
  ) throws(RaftDecodingError) -> Membership {
    var reader = CheckedReader(bytes)
    try reader.version(formatVersion)
    let flags = try reader.integer(UInt8.self)
    guard flags <= 1 else { throw reader.failure(.unknownField) }
    let voters = try decodeList(from: &reader)
    let votersOutgoing = try decodeList(from: &reader)
    let learners = try decodeList(from: &reader)
    let learnersNext = try decodeList(from: &reader)
    try reader.end()
    let membership = Membership(
      voters: voters, votersOutgoing: votersOutgoing, learners: learners,
      learnersNext: learnersNext, leavesAutomatically: flags == 1)
    // What the initializer puts right was not written by us.
    guard
      membership.voters == voters, membership.votersOutgoing == votersOutgoing,
      membership.learners == learners, membership.learnersNext == learnersNext,
      membership.leavesAutomatically == (flags == 1)
    else { throw reader.failure(.outOfRange) }
    return membership
  }

  private static func decodeList(
    from reader: inout CheckedReader
  ) throws(RaftDecodingError) -> [NodeID] {
    let count = Int(try reader.integer(UInt16.self))
    guard count <= Limits.members else { throw reader.failure(.outOfRange) }
    var list: [NodeID] = []
    list.reserveCapacity(count)
    for _ in 0..<count { list.append(NodeID(try reader.integer(UInt64.self))) }
    return list
  }
}

extension SnapshotMetadata {
  static let formatVersion: UInt8 = 1

  public func encode(into bytes: inout [UInt8]) {
    bytes.append(SnapshotMetadata.formatVersion)
    bytes.append(littleEndian: index.rawValue)
    bytes.append(littleEndian: term.rawValue)
    membership.encode(into: &bytes)
  }

  /// Reads metadata that fill `bytes`. Never traps.
  public static func decode(
    _ bytes: UnsafeRawBufferPointer
  ) throws(RaftDecodingError) -> SnapshotMetadata {
    var reader = CheckedReader(bytes)
    try reader.version(formatVersion)
    let index = try reader.logIndex()
    let term = try reader.term()
    let membership = try Membership.decode(reader.bytes(reader.remaining))
    return SnapshotMetadata(index: index, term: term, membership: membership)
  }
}

extension MembershipEntry {
  static let formatVersion: UInt8 = 1

  public func encode(into bytes: inout [UInt8]) {
    bytes.append(MembershipEntry.formatVersion)
    bytes.append(littleEndian: UInt32(membership.encodedSize))
    membership.encode(into: &bytes)
    bytes.append(contentsOf: context)
  }

  /// Reads the payload of a `.membership` entry. Never traps.
  public static func decode(
    _ bytes: UnsafeRawBufferPointer
  ) throws(RaftDecodingError) -> MembershipEntry {
    var reader = CheckedReader(bytes)
    try reader.version(formatVersion)
    let length = Int(try reader.integer(UInt32.self))
    let membership = try Membership.decode(reader.bytes(length))
    let context = [UInt8](try reader.bytes(reader.remaining))
    return MembershipEntry(membership: membership, context: context)
  }

  /// Reads the payload of a `.membership` entry. Never traps.
  public static func decode(_ bytes: [UInt8]) throws(RaftDecodingError) -> MembershipEntry {
    // `withUnsafeBytes` would erase the error's type, so the result is carried out as a value.
    let result = bytes.withUnsafeBytes { buffer -> Result<MembershipEntry, RaftDecodingError> in
      do throws(RaftDecodingError) {
        return .success(try decode(buffer))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }
}

extension MembershipChange {
  static let formatVersion: UInt8 = 1

  var encodedSize: Int { 4 + 9 * steps.count + context.count }

  func encode(into bytes: inout [UInt8]) {
    bytes.append(MembershipChange.formatVersion)
    bytes.append(transition.rawValue)
    bytes.append(littleEndian: UInt16(steps.count))
    for step in steps {
      switch step {
      case .addVoter(let id):
        bytes.append(1)
        bytes.append(littleEndian: id.rawValue)
      case .addLearner(let id):
        bytes.append(2)
        bytes.append(littleEndian: id.rawValue)
      case .remove(let id):
        bytes.append(3)
        bytes.append(littleEndian: id.rawValue)
      }
    }
    bytes.append(contentsOf: context)
  }

  static func decode(
    _ bytes: UnsafeRawBufferPointer
  ) throws(RaftDecodingError) -> MembershipChange {
    var reader = CheckedReader(bytes)
    try reader.version(formatVersion)
    guard let transition = Transition(rawValue: try reader.integer(UInt8.self)) else {
      throw reader.failure(.unknownField)
    }
    let count = Int(try reader.integer(UInt16.self))
    guard count <= Limits.members else { throw reader.failure(.outOfRange) }
    var steps: [Step] = []
    for _ in 0..<count {
      let kind = try reader.integer(UInt8.self)
      let id = NodeID(try reader.integer(UInt64.self))
      switch kind {
      case 1: steps.append(.addVoter(id))
      case 2: steps.append(.addLearner(id))
      case 3: steps.append(.remove(id))
      default: throw reader.failure(.unknownField)
      }
    }
    let context = [UInt8](try reader.bytes(reader.remaining))
    return MembershipChange(steps, transition: transition, context: context)
  }
}
