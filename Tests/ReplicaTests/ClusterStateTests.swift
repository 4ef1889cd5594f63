import Primitives
import Testing

@testable import Replica

/// What the cluster knows of itself, changed by commands and kept in snapshots.
@Suite struct ClusterStateTests {
  static let commands: [ClusterCommand] = [
    .publish(id: NodeID(1), name: "one", clientURLs: ["http://a:1", "http://b:2"]),
    .setAlarm(Alarm(.noSpace, member: NodeID(1)), isActive: true, isAutomatic: true),
    .setAlarm(Alarm(.corrupt, member: NodeID(0)), isActive: false, isAutomatic: false),
    .addMember(
      ClusterMember(
        id: NodeID(9), name: "", peerURLs: ["http://c:3"], clientURLs: [], isLearner: true)),
    .updateMember(id: NodeID(9), peerURLs: ["http://d:4"]),
    .announceLevels(id: NodeID(9), .first...FeatureLevel(3)), .setLevel(FeatureLevel(2)),
    .promoteMember(NodeID(9)), .removeMember(NodeID(1)),
  ]

  @Test(arguments: commands)
  func everyCommandComesBackAsItWas(command: ClusterCommand) {
    let bytes = command.encode()
    #expect(bytes.withUnsafeBytes { ClusterCommand.decode($0) } == command)
    #expect(bytes.dropLast().withUnsafeBytes { ClusterCommand.decode($0) } == nil)
    #expect((bytes + [0]).withUnsafeBytes { ClusterCommand.decode($0) } == nil)
  }

  @Test func snapshotsKeepAllOfIt() throws {
    var state = ClusterState(members: [
      ClusterMember(id: NodeID(1), name: "", peerURLs: ["http://x:1"], clientURLs: [])
    ])
    for command in Self.commands {
      state.apply(command)
      let bytes = state.encode()
      #expect(try bytes.withUnsafeBytes { try ClusterState(decoding: $0) } == state)
    }
    #expect(state.members.map(\.id) == [NodeID(9)])
    #expect(state.members[0].peerURLs == ["http://d:4"] && !state.members[0].isLearner)
    #expect(state.removed == [NodeID(1)])
    #expect(state.alarms.isEmpty, "those of a removed member went with it")
  }

  /// Seed 640 of the simulator with members that come and go: one that joined after a member with an alarm had been
  /// removed kept that alarm, refused what the others took, and its state differed from theirs.
  @Test func whoeverReadsTheLogFromItsBeginningComesToTheSame() {
    func member(_ id: UInt64) -> ClusterMember {
      ClusterMember(id: NodeID(id), name: "", peerURLs: ["http://m\(id):1"], clientURLs: [])
    }
    let log: [ClusterCommand] = [
      .setAlarm(Alarm(.noSpace, member: NodeID(1)), isActive: true, isAutomatic: true),
      .addMember(member(3)), .removeMember(NodeID(1)), .addMember(member(4)),
    ]
    var founder = ClusterState(members: [member(1), member(2)])
    for command in log { founder.apply(command) }
    // It asked the others who there is before it started.
    var newcomer = ClusterState(members: founder.members)
    for command in log { newcomer.apply(command) }
    #expect(newcomer == founder)
  }

  @Test func snapshotsOfTheFirstVersionAreRead() throws {
    var bytes = ClusterState(members: [
      ClusterMember(id: NodeID(1), name: "n", peerURLs: [], clientURLs: [])
    ]).encode()
    bytes[0] = 1
    bytes.removeLast(2)
    let state = try bytes.withUnsafeBytes { try ClusterState(decoding: $0) }
    #expect(state.members.map(\.name) == ["n"] && state.alarms.isEmpty)
  }

  @Test func anIdIsNeverUsedAgain() {
    let member = ClusterMember(id: NodeID(1), name: "", peerURLs: [], clientURLs: [])
    var state = ClusterState(members: [member])
    state.apply(.removeMember(NodeID(1)))
    state.apply(.addMember(member))
    #expect(state.members.isEmpty)
  }

  @Test func onlyAnOperatorClearsWhatAnOperatorRaised() {
    var state = ClusterState(members: [])
    let alarm = Alarm(.noSpace, member: NodeID(1))
    state.apply(.setAlarm(alarm, isActive: true, isAutomatic: true))
    state.apply(.setAlarm(alarm, isActive: true, isAutomatic: false))
    state.apply(.setAlarm(alarm, isActive: false, isAutomatic: true))
    #expect(state.has(.noSpace))
    state.apply(.setAlarm(Alarm(.corrupt, member: NodeID(1)), isActive: true, isAutomatic: false))
    state.apply(
      .setAlarm(Alarm(.noSpace, member: NodeID(0)), isActive: false, isAutomatic: false))
    #expect(state.alarms.map(\.alarm) == [Alarm(.corrupt, member: NodeID(1))])
  }
}
