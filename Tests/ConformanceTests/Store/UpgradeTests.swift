import Foundation
import TestKit
import Testing

extension StoreConformance {
  /// Members that know different feature levels, as those of different releases do. The environment makes this
  /// release pass for an older or a newer one (`StoreConfiguration.featureLevels`).
  @Suite(.serialized, .enabled(if: Peers.etcdctl != nil, Missing.etcdctl))
  struct Upgrades {
    @Test(
      "A cluster is upgraded member by member while it serves, and rises when the last one is new")
    func rolling() throws {
      let cluster = try StoreCluster(members: 3, environment: Self.knowing("1-1"))
      let ctl = Etcdctl(endpoints: cluster.endpoints)
      try ctl(["put", "before", "1"])
      for index in 0..<3 {
        #expect(cluster.stop(index) == 0)
        // While it is down, the others serve.
        let others = cluster.members.indices.filter { $0 != index }
          .map { cluster.members[$0].endpoint }.joined(separator: ",")
        #expect(try Etcdctl(endpoints: others)(["put", "during", "\(index)"]) == "OK\n")
        try cluster.start(index, environment: [:])
        try cluster.waitUntilHealthy()
        #expect(try ctl(["put", "mixed", "\(index)"]) == "OK\n")
      }
      // All have told the new level now: an entry raises the cluster's. It is in each member's log.
      let dumps = try waitForLevel(2, in: cluster)
      for dump in dumps { #expect(dump.contains("set-level\tlevel=2"), "\(dump)") }
      // All applied the same, whatever they knew at the time.
      let hashes = try ctl(["endpoint", "hashkv"]).split(separator: "\n")
        .map { $0.split(separator: " ").last }
      #expect(Set(hashes).count == 1, "\(hashes)")
    }

    @Test(
      "A member of a release that the cluster has left behind stops, and says which one it takes")
    func tooOld() throws {
      let cluster = try StoreCluster(members: 3)
      try raised(cluster)
      _ = cluster.stop(2)
      try cluster.start(2, environment: Self.knowing("1-1"))
      #expect(waitUntil(seconds: 15) { cluster.members[2].process?.isRunning == false })
      #expect(cluster.members[2].process?.status == 1)
      #expect(
        cluster.log(of: 2).contains(
          "the cluster's data is of feature level 2, and this release knows levels 1 to 1: it is too old."
        ),
        "\(cluster.log(of: 2))")
      // Its data is untouched: the release that knows the level goes on with it.
      try cluster.start(2, environment: [:])
      try cluster.waitUntilHealthy()
    }

    @Test("A member of a release that no longer knows the cluster's level doesn't start")
    func tooNew() throws {
      let cluster = try StoreCluster(members: 1)
      try raised(cluster)
      _ = cluster.stop(0)
      try cluster.start(0, environment: Self.knowing("3-4"))
      #expect(waitUntil(seconds: 15) { cluster.members[0].process?.isRunning == false })
      #expect(
        cluster.log(of: 0).contains(
          "and this release knows levels 3 to 4: it is too new."),
        "\(cluster.log(of: 0))")
    }

    private static func knowing(_ levels: String) -> [String: String] {
      ["MARTLET_TEST_FEATURE_LEVELS": levels]
    }

    /// Waits until the cluster is at the level of this release.
    private func raised(_ cluster: StoreCluster) throws {
      let isRaised = waitUntil(seconds: 20) {
        Loopback.get(port: cluster.members[0].clientPort, path: "/metrics")?
          .contains("\nmartlet_cluster_feature_level 2\n") == true
      }
      #expect(isRaised)
    }

    /// Waits until every member is at the level, stops them all, and lists their logs.
    private func waitForLevel(_ level: Int, in cluster: StoreCluster) throws -> [String] {
      try raised(cluster)
      return try cluster.members.indices.map { index in
        let isRaised = waitUntil(seconds: 20) {
          Loopback.get(port: cluster.members[index].clientPort, path: "/metrics")?
            .contains("\nmartlet_cluster_feature_level \(level)\n") == true
        }
        #expect(isRaised)
        let copy = TestFolder()
        // A member's files are its own while it runs; a copy of the log may end in a torn batch, no more.
        try FileManager.default.copyItem(
          atPath: cluster.dataDirectory(of: index), toPath: "\(copy.path)/data")
        return try Peers.martlet!.run(
          ["util", "dump-log", "--data-dir", "\(copy.path)/data", "--type", "set-level"]).output
      }
    }
  }
}
