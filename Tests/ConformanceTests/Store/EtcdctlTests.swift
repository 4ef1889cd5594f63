import Foundation
import TestKit
import Testing

extension StoreConformance {
  /// etcdctl's commands print on our store what they print on etcd.
  ///
  /// The transcripts in `Golden` are etcd's own answers: `REWRITE=1` records them from the real etcd 3.5.1,
  /// never from ours. Nothing in them is specific to us: there are no deliberate differences.
  @Suite(.serialized) struct EtcdctlTranscripts {
    static let files = GoldenRunner().files

    @Test(
      .enabled(if: Peers.etcdctl != nil, Missing.etcdctl),
      .enabled(if: Peers.etcd != nil, Missing.etcd),
      arguments: files)
    func theTranscriptsAreEtcds(file: String) throws {
      let cluster = try StoreCluster(.etcd)
      let session = EtcdctlSession(try #require(Peers.etcdctl), endpoints: cluster.endpoints)
      try GoldenRunner().run(file, session.perform)
    }

    @Test(.enabled(if: Peers.etcdctl != nil, Missing.etcdctl), arguments: files)
    func threeMembersAnswerTheSame(file: String) throws {
      let cluster = try StoreCluster(.martlet, members: 3)
      let session = EtcdctlSession(try #require(Peers.etcdctl), endpoints: cluster.endpoints)
      try GoldenRunner(mayRewrite: false).run(file, session.perform)
    }

    /// An older client, which prints some things otherwise: compared side by side.
    @Test(
      .enabled(if: Peers.debianEtcdctl != nil, Missing.debianEtcdctl),
      .enabled(if: Peers.etcd != nil, Missing.etcd),
      arguments: files)
    func soDoesOneMemberToAnOlderClient(file: String) throws {
      let etcdctl = try #require(Peers.debianEtcdctl)
      let etcd = try StoreCluster(.etcd)
      let martlet = try StoreCluster(.martlet)
      let expected = EtcdctlSession(etcdctl, endpoints: etcd.endpoints)
      let actual = EtcdctlSession(etcdctl, endpoints: martlet.endpoints)
      for command in try GoldenRunner().commands(of: file) {
        let etcdSays = try expected.perform(command)
        let martletSays = try actual.perform(command)
        #expect(martletSays == etcdSays, "\(file):\(command.line): \(command.text)")
      }
    }
  }
}
