import Primitives

/// A change of what the cluster agrees on about itself: members and alarms.
///
/// It stands in a log entry whose first byte is `ClusterCommand.marker`, or, if it changes who takes part, in
/// the context of a Raft membership entry. `Docs/Formats.md` gives the bytes.
public enum ClusterCommand: Sendable, Equatable {
  /// A member tells its name and where clients reach it, at each start.
  case publish(id: NodeID, name: String, clientURLs: [String])
  /// Raises or clears an alarm. One that a member raised by itself is also cleared by itself. To clear
  /// those of member zero means those of all members.
  case setAlarm(Alarm, isActive: Bool, isAutomatic: Bool)
  /// A new member, which has neither name nor client URLs yet.
  case addMember(ClusterMember)
  case removeMember(NodeID)
  case updateMember(id: NodeID, peerURLs: [String])
  /// Makes a learner a voter.
  case promoteMember(NodeID)
  /// A member tells which feature levels it knows.
  case announceLevels(id: NodeID, ClosedRange<FeatureLevel>)
  /// All members know this level: what it added may be used from here on.
  case setLevel(FeatureLevel)

  /// Tells these entries from `CommandBatch`es, whose first byte is their format version, 1.
  static let marker: UInt8 = 2

  private enum Kind: UInt8 {
    case publish = 1
    case setAlarm = 2
    case addMember = 3
    case removeMember = 4
    case updateMember = 5
    case promoteMember = 6
    case announceLevels = 7
    case setLevel = 8
  }

  func encode() -> [UInt8] {
    var bytes: [UInt8] = [ClusterCommand.marker]
    switch self {
    case .publish(let id, let name, let clientURLs):
      bytes.append(Kind.publish.rawValue)
      bytes.append(littleEndian: id.rawValue)
      bytes.append(string: name)
      bytes.append(strings: clientURLs)
    case .setAlarm(let alarm, let isActive, let isAutomatic):
      bytes.append(Kind.setAlarm.rawValue)
      bytes.append(alarm.kind.rawValue)
      bytes.append((isActive ? 1 : 0) | (isAutomatic ? 2 : 0))
      bytes.append(littleEndian: alarm.member.rawValue)
    case .addMember(let member):
      bytes.append(Kind.addMember.rawValue)
      bytes.append(littleEndian: member.id.rawValue)
      bytes.append(member.isLearner ? 1 : 0)
      bytes.append(strings: member.peerURLs)
    case .removeMember(let id):
      bytes.append(Kind.removeMember.rawValue)
      bytes.append(littleEndian: id.rawValue)
    case .updateMember(let id, let peerURLs):
      bytes.append(Kind.updateMember.rawValue)
      bytes.append(littleEndian: id.rawValue)
      bytes.append(strings: peerURLs)
    case .promoteMember(let id):
      bytes.append(Kind.promoteMember.rawValue)
      bytes.append(littleEndian: id.rawValue)
    case .announceLevels(let id, let levels):
      bytes.append(Kind.announceLevels.rawValue)
      bytes.append(littleEndian: id.rawValue)
      bytes.append(littleEndian: levels.lowerBound.rawValue)
      bytes.append(littleEndian: levels.upperBound.rawValue)
    case .setLevel(let level):
      bytes.append(Kind.setLevel.rawValue)
      bytes.append(littleEndian: level.rawValue)
    }
    return bytes
  }

  /// Reads a command; nil for one that this version doesn't know, which every member ignores alike.
  static func decode(_ payload: UnsafeRawBufferPointer) -> ClusterCommand? {
    var reader = ByteReader(payload)
    guard let command = try? decode(&reader), reader.isAtEnd else { return nil }
    return command
  }

  private static func decode(
    _ reader: inout ByteReader
  ) throws(ByteReaderError) -> ClusterCommand? {
    guard try reader.read(UInt8.self) == marker else { return nil }
    switch Kind(rawValue: try reader.read()) {
    case .publish:
      return .publish(
        id: NodeID(try reader.read()), name: try reader.readString(),
        clientURLs: try reader.readStrings())
    case .setAlarm:
      let kind = Alarm.Kind(rawValue: try reader.read())
      let flags: UInt8 = try reader.read()
      let member = NodeID(try reader.read())
      guard let kind, flags <= 3 else { return nil }
      return .setAlarm(
        Alarm(kind, member: member), isActive: flags & 1 != 0, isAutomatic: flags & 2 != 0)
    case .addMember:
      let id = NodeID(try reader.read())
      let isLearner = try reader.read(UInt8.self) != 0
      return .addMember(
        ClusterMember(
          id: id, name: "", peerURLs: try reader.readStrings(), clientURLs: [],
          isLearner: isLearner))
    case .removeMember: return .removeMember(NodeID(try reader.read()))
    case .updateMember:
      return .updateMember(id: NodeID(try reader.read()), peerURLs: try reader.readStrings())
    case .promoteMember: return .promoteMember(NodeID(try reader.read()))
    case .announceLevels:
      let id = NodeID(try reader.read())
      guard let levels = try reader.readLevels() else { return nil }
      return .announceLevels(id: id, levels)
    case .setLevel: return .setLevel(FeatureLevel(try reader.read()))
    case nil: return nil
    }
  }
}

extension [UInt8] {
  mutating func append(string: String) {
    append(varint: UInt64(string.utf8.count))
    append(contentsOf: string.utf8)
  }

  mutating func append(strings: [String]) {
    append(varint: UInt64(strings.count))
    for string in strings { append(string: string) }
  }
}

extension ByteReader {
  mutating func readString() throws(ByteReaderError) -> String {
    String(decoding: try readLengthPrefixed(), as: UTF8.self)
  }

  /// A count of things of at least one byte each, so that no count can ask for more than there is.
  mutating func readCount() throws(ByteReaderError) -> Int {
    let count = try readVarint()
    guard count <= UInt64(remaining) else { throw ByteReaderError(.outOfRange, offset: offset) }
    return Int(count)
  }

  /// Nil for a range that ends before it begins.
  mutating func readLevels() throws(ByteReaderError) -> ClosedRange<FeatureLevel>? {
    let (lower, upper) = (FeatureLevel(try read()), FeatureLevel(try read()))
    return lower <= upper ? lower...upper : nil
  }

  mutating func readStrings() throws(ByteReaderError) -> [String] {
    var strings: [String] = []
    for _ in 0..<(try readCount()) { strings.append(try readString()) }
    return strings
  }
}
