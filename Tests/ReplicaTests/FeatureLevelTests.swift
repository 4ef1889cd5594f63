import Primitives
import Testing

@testable import Replica

/// What a cluster of several releases agrees on. With real processes: ConformanceTests, `Upgrades`.
@Suite struct FeatureLevelTests {
  private static func member(_ id: UInt64) -> ClusterMember {
    ClusterMember(id: NodeID(id), name: "m\(id)", peerURLs: ["http://x:\(id)"], clientURLs: [])
  }

  private static func levels(_ lowest: UInt16, _ highest: UInt16) -> ClosedRange<FeatureLevel> {
    FeatureLevel(lowest)...FeatureLevel(highest)
  }

  @Test("The common level is the lowest of what members know at most; silence counts as the first level")
  func commonLevel() {
    var state = ClusterState(members: [Self.member(1), Self.member(2), Self.member(3)])
    #expect(state.commonLevel == .first)
    state.apply(.announceLevels(id: NodeID(1), Self.levels(1, 2)))
    state.apply(.announceLevels(id: NodeID(2), Self.levels(1, 3)))
    #expect(state.commonLevel == .first, "one is silent")
    state.apply(.announceLevels(id: NodeID(3), Self.levels(2, 3)))
    #expect(state.commonLevel == FeatureLevel(2))
    state.apply(.announceLevels(id: NodeID(1), Self.levels(1, 3)))
    #expect(state.commonLevel == FeatureLevel(3))
    state.apply(.announceLevels(id: NodeID(9), Self.levels(1, 1)))
    #expect(state.commonLevel == FeatureLevel(3), "whoever is no member has no say")
    state.apply(.addMember(Self.member(4)))
    #expect(state.commonLevel == .first, "a new one hasn't told anything")
    state.apply(.removeMember(NodeID(4)))
    #expect(state.commonLevel == FeatureLevel(3))
  }

  @Test("The cluster's level never falls")
  func neverFalls() {
    var state = ClusterState(members: [Self.member(1)])
    state.apply(.setLevel(FeatureLevel(3)))
    state.apply(.setLevel(FeatureLevel(2)))
    #expect(state.level == FeatureLevel(3))
  }

  @Test("Levels are in snapshots; a snapshot of a release that knew none is read as of the first level")
  func snapshots() throws {
    var state = ClusterState(members: [Self.member(1), Self.member(2)])
    let old = state.encode()
    #expect(try old.withUnsafeBytes { try ClusterState(decoding: $0) } == state)
    state.apply(.announceLevels(id: NodeID(2), Self.levels(1, 5)))
    state.apply(.announceLevels(id: NodeID(1), Self.levels(2, 4)))
    state.apply(.setLevel(FeatureLevel(4)))
    let bytes = state.encode()
    #expect(bytes.starts(with: old), "a release that knows no levels reads what it knows")
    let read = try bytes.withUnsafeBytes { try ClusterState(decoding: $0) }
    #expect(read == state && read.level == FeatureLevel(4))
    #expect(read.levels(of: NodeID(1)) == Self.levels(2, 4))
    // A range that ends before it begins is no range.
    var bad = bytes
    bad[bad.count - 2] = 0
    #expect(throws: ByteReaderError.self) {
      try bad.withUnsafeBytes { try ClusterState(decoding: $0) }
    }
  }

  @Test("A release that doesn't know the cluster's level says so", arguments: [1, 2, 3, 4])
  func refusal(level: UInt16) {
    let refusal = Self.levels(2, 3).refusal(of: FeatureLevel(level))?.description
    switch level {
    case 1: #expect(refusal?.contains("it is too new") == true)
    case 4: #expect(refusal?.contains("it is too old") == true)
    default: #expect(refusal == nil)
    }
  }
}
