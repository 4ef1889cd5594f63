import Foundation
import TestKit
import Testing

extension StoreConformance {
  /// What etcdctl says of a cluster of three: etcd's own and ours, compared.
  @Suite(
    .serialized, .enabled(if: Peers.etcd != nil, Missing.etcd),
    .enabled(if: Peers.etcdctl != nil, Missing.etcdctl))
  struct Cluster {
    @Test func membersStatusAndHealth() throws {
      let etcd = try StoreCluster(.etcd, members: 3)
      let martlet = try StoreCluster(.martlet, members: 3)
      for tool in [Peers.etcdctl, Peers.debianEtcdctl].compactMap({ $0 }) {
        for command in ["member list", "endpoint health", "endpoint health --cluster"] {
          // Members publish their names after the start: for a moment, either may say "unstarted".
          var expected = ""
          var actual = ""
          _ = try waitUntil(seconds: 5) {
            expected = try ask(etcd, command, tool)
            actual = try ask(martlet, command, tool)
            return actual == expected
          }
          #expect(actual == expected, "\(tool.path) \(command)")
        }
        for command in [
          "member list -w table", "endpoint status", "endpoint status -w table",
          "endpoint hashkv",
        ] {
          let outcome = try run(martlet, command, tool)
          #expect(outcome.status == 0, "\(tool.path) \(command): \(outcome.errors)")
        }
      }
    }

    @Test func statusAgrees() throws {
      let cluster = try StoreCluster(members: 3)
      for index in 0..<20 {
        _ = try run(cluster, "put key-\(index) value", Peers.etcdctl!)
      }
      let text = try run(cluster, "endpoint status -w json", Peers.etcdctl!).output
      let entries = try JSONDecoder().decode([Status].self, from: Data(text.utf8))
      #expect(entries.map(\.Endpoint) == cluster.members.map(\.endpoint))
      #expect(Set(entries.map(\.Status.leader)).count == 1)
      #expect(Set(entries.map(\.Status.header.cluster_id)).count == 1)
      #expect(Set(entries.map(\.Status.header.member_id)).count == 3)
      #expect(
        entries[try cluster.leader()].Status.leader
          == entries[try cluster.leader()].Status.header.member_id)
      #expect(entries.allSatisfy { $0.Status.header.revision <= 21 && $0.Status.dbSize > 0 })
      // The same after a while: all have everything.
      let isEverywhere = try waitUntil(seconds: 5) {
        try (0..<3).allSatisfy {
          try cluster.metric("etcd_debugging_mvcc_current_revision", of: $0) == 21
        }
      }
      #expect(isEverywhere)
      let hashes = try run(cluster, "endpoint hashkv", Peers.etcdctl!).output
        .split(separator: "\n").map { $0.split(separator: " ").last ?? "" }
      #expect(hashes.count == 3 && Set(hashes).count == 1, "\(hashes)")
    }

    /// Plain HTTP on the client port, as probes and monitoring use it.
    @Test func plainHTTP() throws {
      let cluster = try StoreCluster()
      let port = cluster.members[0].clientPort
      for path in ["/health", "/version", "/metrics", "/readyz", "/livez"] {
        let answer = try #require(Loopback.get(port: port, path: path))
        #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n"), "\(path): \(answer.prefix(80))")
      }
      #expect(Loopback.get(port: port, path: "/version")!.contains(#""etcdcluster":"3.5.0""#))
    }

    private struct Status: Decodable {
      struct Header: Decodable {
        var cluster_id: UInt64
        var member_id: UInt64
        var revision: Int
      }
      struct Body: Decodable {
        var header: Header
        var leader: UInt64
        var dbSize: Int
      }
      var Endpoint: String
      var Status: Body
    }

    private func run(
      _ cluster: StoreCluster, _ command: String, _ tool: Program
    ) throws -> Program.Outcome {
      try tool.run(
        command.split(separator: " ").map(String.init),
        environment: ["ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": cluster.endpoints])
    }

    /// Both outputs with addresses named after their members, without ids and times, lines in order.
    private func ask(_ cluster: StoreCluster, _ command: String, _ tool: Program) throws -> String {
      let outcome = try run(cluster, command, tool)
      var text = outcome.output + outcome.errors
      for member in cluster.members {
        text = text.replacingOccurrences(
          of: ":\(member.clientPort)", with: ":\(member.name)-client"
        )
        .replacingOccurrences(of: ":\(member.peerPort)", with: ":\(member.name)-peer")
      }
      text.replace(/\b[0-9a-f]{15,16}\b/) { _ in "ID" }
      text.replace(/took = [0-9.]+[mµ]?s/) { _ in "took = *" }
      return text.split(separator: "\n").sorted().joined(separator: "\n")
    }
  }
}
