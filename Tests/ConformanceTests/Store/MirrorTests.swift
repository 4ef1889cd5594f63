import Foundation
import TestKit
import Testing

extension StoreConformance {
  /// The way back: what is in Martlet is copied to a real etcd, and stays a copy.
  @Suite(
    .serialized, .enabled(if: Peers.etcd != nil, Missing.etcd),
    .enabled(if: Peers.etcdctl != nil, Missing.etcdctl))
  struct Mirrors {
    @Test("make-mirror copies all keys to an etcd, then every change")
    func toEtcd() throws {
      let source = try StoreCluster(.martlet, members: 3)
      let destination = try StoreCluster(.etcd)
      let ours = Etcdctl(endpoints: source.endpoints)
      let etcd = Etcdctl(endpoints: destination.endpoints)
      for index in 0..<30 { try ours(["put", "app/k\(index)", "value \(index)"]) }
      try ours(["put", "app/large"], input: String(repeating: "x", count: 800_000))
      try ours(["put", "other", "not copied"])
      let mirror = try Peers.martlet!.start([
        "ctl", "--endpoints", source.endpoints, "make-mirror", "--prefix", "app/",
        "--dest-prefix=copy/", "--max-txn-ops", "7", destination.endpoints,
      ])
      defer { mirror.kill() }
      func count() throws -> String {
        try etcd(["get", "copy/", "--prefix", "--count-only", "-w", "fields"])
      }
      #expect(try waitUntil(seconds: 15, every: 0.2) { try count().contains("\"Count\" : 31\n") })
      try ours(["del", "app/k1"])
      try ours(["txn"], input: "\nput app/t1 1\nput app/t2 2\ndel app/k2\n\n\n")
      // Also over a change of leader and a member's death.
      let leader = try #require(leaderIndex(of: source))
      source.kill(leader)
      let left = source.members.indices.filter { $0 != leader }
        .map { source.members[$0].endpoint }.joined(separator: ",")
      let isWritten = try waitUntil(seconds: 15, every: 0.2) {
        try Etcdctl(endpoints: left)(["put", "app/last", "1"]) == "OK\n"
      }
      #expect(isWritten)
      #expect(
        try waitUntil(seconds: 20, every: 0.2) {
          try etcd(["get", "copy/last"]) == "copy/last\n1\n"
        })
      let expected = try Etcdctl(endpoints: left)(["get", "app/", "--prefix"])
        .replacingOccurrences(of: "app/", with: "copy/")
      #expect(try etcd(["get", "copy/", "--prefix"]) == expected)
      #expect(try etcd(["get", "other"]) == "")
    }

    private func leaderIndex(of cluster: StoreCluster) -> Int? {
      cluster.members.firstIndex {
        Loopback.get(port: $0.clientPort, path: "/metrics")?
          .contains("\netcd_server_is_leader 1\n") == true
      }
    }
  }
}
