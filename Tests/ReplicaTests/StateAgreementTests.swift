import EtcdWire
import Primitives
import Testing

@testable import MVCC
@testable import Replica

/// Members compare what they made of the same log, and the one that differs stops.
@Suite struct StateAgreementTests {
  private func put(_ cluster: CoreCluster, _ count: Int = 1) throws {
    let leader = try #require(cluster.leader)
    for _ in 0..<count {
      // The key "k", without a value.
      let body: [UInt8] = [0x0A, 0x01, 0x6B]
      var commands: [UInt8] = []
      body.withUnsafeBytes { CommandBatch.append(.put, body: $0, to: &commands) }
      cluster.act(leader) {
        $0.submit(ProposalBatch(commands: commands, tokens: [1], sink: RecordingSink()))
      }
    }
  }

  private func cluster(_ members: Int) throws -> CoreCluster {
    let cluster = try CoreCluster(members: members)
    cluster.tick(30)
    try put(cluster, 3)
    cluster.tick(120)
    return cluster
  }

  @Test("Members that agree go on, and the leader remembers up to where they agreed")
  func agreement() throws {
    let cluster = try cluster(3)
    let leader = try #require(cluster.leader)
    #expect(cluster.cores.allSatisfy { $0.failure == nil })
    #expect(cluster.cores[leader].agreement.lastAgreed == Revision(4))
  }

  @Test("A follower whose state differs stops, and says at which revision")
  func divergedFollower() throws {
    let cluster = try cluster(3)
    let leader = try #require(cluster.leader)
    let follower = (leader + 1) % 3
    cluster.act(follower) { $0.store.stateHash ^= 1 }
    try put(cluster)
    cluster.tick(60)
    let failure = try #require(cluster.cores[follower].failure)
    #expect(failure.description.contains("differs from the majority's at revision 5 (log index"))
    #expect(failure.description.contains("last agreed at revision 4"))
    for member in 0..<3 where member != follower { #expect(cluster.cores[member].failure == nil) }
  }

  @Test("A leader whose state differs stops, and another takes over")
  func divergedLeader() throws {
    let cluster = try cluster(3)
    let old = try #require(cluster.leader)
    cluster.act(old) { $0.store.stateHash ^= 1 }
    try put(cluster)
    cluster.tick(120)
    #expect(cluster.cores[old].failure != nil)
    for member in 0..<3 where member != old { #expect(cluster.cores[member].failure == nil) }
  }

  @Test("Where no state has a majority, CORRUPT is raised and nobody is blamed")
  func nobodyKnows() throws {
    let cluster = try cluster(2)
    let leader = try #require(cluster.leader)
    cluster.act(1 - leader) { $0.store.stateHash ^= 1 }
    try put(cluster)
    cluster.tick(150)
    #expect(cluster.cores.allSatisfy { $0.failure == nil })
    #expect(cluster.cores.allSatisfy { $0.restrictions.contains(.corrupt) })
  }

  @Test("A member that is away is not waited for, and is found out when it comes back")
  func awayMember() throws {
    let cluster = try cluster(3)
    let leader = try #require(cluster.leader)
    let away = (leader + 1) % 3
    cluster.isolated = [away]
    cluster.act(away) { $0.store.stateHash ^= 1 }
    try put(cluster, 2)
    cluster.tick(120, only: [0, 1, 2].filter { $0 != away })
    #expect(cluster.cores[leader].agreement.lastAgreed == Revision(6))
    cluster.isolated = []
    cluster.tick(150)
    #expect(cluster.cores[away].failure != nil)
  }

  @Test("A question is answered when its index is applied, and not for entries long gone")
  func ring() {
    var agreement = StateAgreement()
    for index in 1...2_000 as ClosedRange<UInt64> {
      agreement.applied(
        .init(index: LogIndex(index), revision: Revision(Int64(index)), hash: index))
    }
    #expect(agreement.mark(at: LogIndex(2_000))?.hash == 2_000)
    #expect(agreement.mark(at: LogIndex(2_000 - 1_023))?.hash == 977)
    #expect(agreement.mark(at: LogIndex(976)) == nil)
    #expect(agreement.mark(at: LogIndex(2_001)) == nil)
    #expect(agreement.mark(at: .zero) == nil)
  }

  @Test("Three members of five decide; the other two may say what they like")
  func majority() {
    var agreement = StateAgreement()
    let voters = (1...5).map { NodeID($0) }
    let mark = { StateAgreement.Mark(index: LogIndex(9), revision: Revision(8), hash: $0) }
    agreement.ask(mark(1), leader: NodeID(1))
    agreement.answered(mark(2), by: NodeID(2))
    #expect(agreement.verdict(voters: voters, isLast: false) == .open)
    agreement.answered(mark(1), by: NodeID(3))
    #expect(agreement.verdict(voters: voters, isLast: false) == .open)
    agreement.answered(mark(1), by: NodeID(4))
    #expect(
      agreement.verdict(voters: voters, isLast: false) == .diverged([NodeID(2)], from: mark(1)))
    agreement.ask(mark(1), leader: NodeID(1))
    agreement.answered(mark(2), by: NodeID(2))
    #expect(agreement.verdict(voters: voters, isLast: true) == .undecided)
  }
}
