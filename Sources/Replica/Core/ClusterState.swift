import Primitives

/// What the cluster agrees on about itself: its members' attributes.
///
/// Replicated like keys, through the log, but kept apart from them: clients can't write it, and it costs
/// no revision. Which members vote is Raft's configuration, not this.
struct ClusterState: Sendable, Equatable {
  /// Sorted by id, so that every member encodes the same bytes.
  private(set) var members: [ClusterMember]

  init(members: [ClusterMember]) {
    self.members = members.sorted { $0.id < $1.id }
  }

  mutating func apply(_ command: ClusterCommand) {
    switch command {
    case .publish(let id, let name, let clientURLs):
      guard let position = members.firstIndex(where: { $0.id == id }) else { return }
      members[position].name = name
      members[position].clientURLs = clientURLs
    }
  }
}

/// A change of `ClusterState`, as it stands in a log entry whose first byte is `ClusterCommand.marker`.
enum ClusterCommand: Sendable, Equatable {
  /// A member tells its name and where clients reach it, at each start.
  case publish(id: NodeID, name: String, clientURLs: [String])

  /// Tells these entries from `CommandBatch`es, whose first byte is their format version, 1.
  static let marker: UInt8 = 2

  private enum Kind: UInt8 {
    case publish = 1
  }

  func encode() -> [UInt8] {
    var bytes: [UInt8] = [ClusterCommand.marker]
    switch self {
    case .publish(let id, let name, let clientURLs):
      bytes.append(Kind.publish.rawValue)
      bytes.append(littleEndian: id.rawValue)
      bytes.append(string: name)
      bytes.append(strings: clientURLs)
    }
    return bytes
  }

  /// Reads a command; nil for one that this version doesn't know, which every member ignores alike.
  static func decode(_ payload: UnsafeRawBufferPointer) -> ClusterCommand? {
    var reader = ByteReader(payload)
    guard let marker: UInt8 = try? reader.read(), marker == ClusterCommand.marker,
      let kind: UInt8 = try? reader.read()
    else { return nil }
    switch Kind(rawValue: kind) {
    case .publish:
      guard let id: UInt64 = try? reader.read(), let name = try? reader.readString(),
        let clientURLs = try? reader.readStrings(), reader.isAtEnd
      else { return nil }
      return .publish(id: NodeID(id), name: name, clientURLs: clientURLs)
    case nil:
      return nil
    }
  }
}

extension ClusterState {
  /// The section of a snapshot that holds the members.
  func encode() -> [UInt8] {
    var bytes: [UInt8] = [1]
    bytes.append(varint: UInt64(members.count))
    for member in members {
      bytes.append(littleEndian: member.id.rawValue)
      bytes.append(string: member.name)
      bytes.append(strings: member.peerURLs)
      bytes.append(strings: member.clientURLs)
      bytes.append(member.isLearner ? 1 : 0)
    }
    return bytes
  }

  init(decoding bytes: UnsafeRawBufferPointer) throws(ByteReaderError) {
    var reader = ByteReader(bytes)
    let version: UInt8 = try reader.read()
    guard version == 1 else { throw ByteReaderError(.outOfRange, offset: 0) }
    var members: [ClusterMember] = []
    for _ in 0..<(try reader.readCount()) {
      let id: UInt64 = try reader.read()
      members.append(
        ClusterMember(
          id: NodeID(id), name: try reader.readString(), peerURLs: try reader.readStrings(),
          clientURLs: try reader.readStrings(), isLearner: try reader.read(UInt8.self) != 0))
    }
    self.init(members: members)
  }
}

extension [UInt8] {
  fileprivate mutating func append(string: String) {
    append(varint: UInt64(string.utf8.count))
    append(contentsOf: string.utf8)
  }

  fileprivate mutating func append(strings: [String]) {
    append(varint: UInt64(strings.count))
    for string in strings { append(string: string) }
  }
}

extension ByteReader {
  fileprivate mutating func readString() throws(ByteReaderError) -> String {
    String(decoding: try readLengthPrefixed(), as: UTF8.self)
  }

  /// A count of things of at least one byte each, so that no count can ask for more than there is.
  fileprivate mutating func readCount() throws(ByteReaderError) -> Int {
    let count = try readVarint()
    guard count <= UInt64(remaining) else { throw ByteReaderError(.outOfRange, offset: offset) }
    return Int(count)
  }

  fileprivate mutating func readStrings() throws(ByteReaderError) -> [String] {
    var strings: [String] = []
    for _ in 0..<(try readCount()) { strings.append(try readString()) }
    return strings
  }
}
