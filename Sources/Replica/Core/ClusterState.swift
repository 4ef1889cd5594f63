import Primitives
import Raft

/// What the cluster agrees on about itself: its members' attributes, and its alarms.
///
/// Replicated like keys, through the log, but kept apart from them: clients can't write it, and it costs
/// no revision. Which members vote is Raft's configuration, not this: a member that was added as a voter
/// is one here at once, and one in Raft when it has caught up.
///
/// Applying a command never fails. What can be wrong with one is checked by the leader before it
/// proposes it, and what is wrong nevertheless changes nothing, on any member.
struct ClusterState: Sendable, Equatable {
  /// Sorted by id, so that every member encodes the same bytes.
  private(set) var members: [ClusterMember]
  /// The members that were removed last, oldest first: their ids are never used again, and they are told
  /// why nobody speaks with them.
  private(set) var removed: [NodeID] = []
  /// Sorted by member.
  private(set) var alarms: [RaisedAlarm] = []
  /// What the members may use of what releases have added. Never falls.
  private(set) var level = FeatureLevel.first
  /// What members have told of the levels that they know; sorted by member.
  private(set) var knownLevels: [KnownLevels] = []

  struct RaisedAlarm: Sendable, Equatable {
    var alarm: Alarm
    /// The member raised it by itself and will clear it by itself.
    var isAutomatic: Bool
  }

  /// How many removed members are remembered: far more than ever try to come back.
  static let rememberedRemovals = 1_024

  init(members: [ClusterMember]) {
    self.members = members.sorted { $0.id < $1.id }
  }

  func member(_ id: NodeID) -> ClusterMember? { members.first { $0.id == id } }

  /// Takes over who was removed.
  mutating func forget(_ removed: [NodeID]) { self.removed = removed }

  /// The levels that a member has told; nil if it has told none.
  func levels(of id: NodeID) -> ClosedRange<FeatureLevel>? {
    knownLevels.first { $0.member == id }?.levels
  }

  /// The highest level that every member knows, learners and those included that never started.
  var commonLevel: FeatureLevel? {
    members.map { levels(of: $0.id)?.upperBound ?? .first }.min()
  }

  /// Takes over the level.
  mutating func adopt(_ level: FeatureLevel) { self.level = level }

  func has(_ kind: Alarm.Kind) -> Bool { alarms.contains { $0.alarm.kind == kind } }

  func raised(_ alarm: Alarm) -> RaisedAlarm? { alarms.first { $0.alarm == alarm } }

  mutating func apply(_ command: ClusterCommand) {
    switch command {
    case .publish(let id, let name, let clientURLs):
      guard let position = members.firstIndex(where: { $0.id == id }) else { return }
      members[position].name = name
      members[position].clientURLs = clientURLs
    case .setAlarm(let alarm, let isActive, let isAutomatic):
      set(alarm, isActive: isActive, isAutomatic: isAutomatic)
    case .addMember(let new):
      guard member(new.id) == nil, !removed.contains(new.id) else { return }
      members.insert(new, at: members.firstIndex { $0.id > new.id } ?? members.count)
    case .removeMember(let id):
      // A newcomer starts with the members that there are, and may then read the log from its beginning: of one
      // that left before it came, the alarms stand in the log, too, and must go.
      members.removeAll { $0.id == id }
      alarms.removeAll { $0.alarm.member == id }
      knownLevels.removeAll { $0.member == id }
      if removed.contains(id) { return }
      if removed.count == ClusterState.rememberedRemovals { removed.removeFirst() }
      removed.append(id)
    case .updateMember(let id, let peerURLs):
      guard let position = members.firstIndex(where: { $0.id == id }) else { return }
      members[position].peerURLs = peerURLs
    case .promoteMember(let id):
      guard let position = members.firstIndex(where: { $0.id == id }) else { return }
      members[position].isLearner = false
    case .announceLevels(let id, let levels):
      guard member(id) != nil else { return }
      knownLevels.removeAll { $0.member == id }
      knownLevels.insert(
        KnownLevels(member: id, levels: levels),
        at: knownLevels.firstIndex { $0.member > id } ?? knownLevels.count)
    case .setLevel(let level):
      self.level = max(self.level, level)
    }
  }

  private mutating func set(_ alarm: Alarm, isActive: Bool, isAutomatic: Bool) {
    guard isActive else {
      alarms.removeAll { raised in
        raised.alarm.kind == alarm.kind
          && (alarm.member.rawValue == 0 || raised.alarm.member == alarm.member)
          // What an operator raised, only an operator clears.
          && (!isAutomatic || raised.isAutomatic)
      }
      return
    }
    if let position = alarms.firstIndex(where: { $0.alarm == alarm }) {
      if !isAutomatic { alarms[position].isAutomatic = false }
      return
    }
    alarms.insert(
      RaisedAlarm(alarm: alarm, isAutomatic: isAutomatic),
      at: alarms.firstIndex { $0.alarm > alarm } ?? alarms.count)
  }
}

extension ClusterState {
  /// The section of a snapshot that holds the members.
  func encode() -> [UInt8] {
    var bytes: [UInt8] = [2]
    bytes.append(varint: UInt64(members.count))
    for member in members {
      bytes.append(littleEndian: member.id.rawValue)
      bytes.append(string: member.name)
      bytes.append(strings: member.peerURLs)
      bytes.append(strings: member.clientURLs)
      bytes.append(member.isLearner ? 1 : 0)
    }
    bytes.append(varint: UInt64(removed.count))
    for id in removed { bytes.append(littleEndian: id.rawValue) }
    bytes.append(varint: UInt64(alarms.count))
    for raised in alarms {
      bytes.append(littleEndian: raised.alarm.member.rawValue)
      bytes.append(raised.alarm.kind.rawValue)
      bytes.append(raised.isAutomatic ? 1 : 0)
    }
    // Until levels are told, the form is that of releases which know none. These stop reading here in any case.
    if level == .first, knownLevels.isEmpty { return bytes }
    bytes.append(littleEndian: level.rawValue)
    bytes.append(varint: UInt64(knownLevels.count))
    for known in knownLevels {
      bytes.append(littleEndian: known.member.rawValue)
      bytes.append(littleEndian: known.levels.lowerBound.rawValue)
      bytes.append(littleEndian: known.levels.upperBound.rawValue)
    }
    return bytes
  }

  init(decoding bytes: UnsafeRawBufferPointer) throws(ByteReaderError) {
    var reader = ByteReader(bytes)
    let version: UInt8 = try reader.read()
    guard version == 1 || version == 2 else { throw ByteReaderError(.outOfRange, offset: 0) }
    var members: [ClusterMember] = []
    for _ in 0..<(try reader.readCount()) {
      let id: UInt64 = try reader.read()
      members.append(
        ClusterMember(
          id: NodeID(id), name: try reader.readString(), peerURLs: try reader.readStrings(),
          clientURLs: try reader.readStrings(), isLearner: try reader.read(UInt8.self) != 0))
    }
    self.init(members: members)
    // The first version knew neither.
    if version == 1 { return }
    for _ in 0..<(try reader.readCount()) { removed.append(NodeID(try reader.read())) }
    for _ in 0..<(try reader.readCount()) {
      let member = NodeID(try reader.read())
      guard let kind = Alarm.Kind(rawValue: try reader.read()) else {
        throw ByteReaderError(.outOfRange, offset: reader.offset)
      }
      let isAutomatic = try reader.read(UInt8.self) != 0
      alarms.append(RaisedAlarm(alarm: Alarm(kind, member: member), isAutomatic: isAutomatic))
    }
    // A release before level 2 wrote it.
    if reader.isAtEnd { return }
    level = FeatureLevel(try reader.read())
    for _ in 0..<(try reader.readCount()) {
      let member = NodeID(try reader.read())
      guard let levels = try reader.readLevels(), knownLevels.last.map({ $0.member < member }) ?? true
      else { throw ByteReaderError(.outOfRange, offset: reader.offset) }
      knownLevels.append(KnownLevels(member: member, levels: levels))
    }
  }
}

extension ClusterCommand {
  /// The command in a log entry: as such, or as the context of a change of Raft's membership.
  static func carried(by entry: Entry) -> ClusterCommand? {
    switch entry.kind {
    case .normal:
      guard entry.payload.first == marker else { return nil }
      return entry.payload.withUnsafeBytes { decode($0) }
    case .membership:
      guard let change = try? MembershipEntry.decode(entry.payload), !change.context.isEmpty else {
        return nil
      }
      return change.context.withUnsafeBytes { decode($0) }
    }
  }
}

extension ClusterRoster {
  /// The form in which a member tells who there is to one that joins: as in snapshots.
  public func encode() -> [UInt8] {
    var state = ClusterState(members: members)
    state.forget(removed)
    state.adopt(level)
    return state.encode()
  }

  /// - Throws: `ByteReaderError` for bytes that are no roster.
  public init(decoding bytes: UnsafeRawBufferPointer) throws(ByteReaderError) {
    let state = try ClusterState(decoding: bytes)
    self.init(members: state.members, removed: state.removed, level: state.level)
  }
}
