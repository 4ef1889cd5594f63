import Foundation
import TestKit
import Testing

extension StoreConformance {
  /// Dashboards and alerts that were made for etcd find what they ask for.
  @Suite(.serialized) struct MetricNames {
    /// The names in the table of `Docs/Compatibility.md`: those of etcd's own dashboard and alerts.
    static func listed() throws -> [String] {
      let text = try String(
        contentsOfFile: "\(Peers.repository)/Docs/Compatibility.md", encoding: .utf8)
      let section = text.components(separatedBy: "## Metrics").last ?? ""
      return section.split(separator: "\n").filter { $0.hasPrefix("| `") }.flatMap { line in
        line.split(separator: "|")[0].split(separator: "`", omittingEmptySubsequences: false)
          .enumerated().filter { $0.offset % 2 == 1 }.map { String($0.element) }
      }
    }

    @Test("Every metric that the documents list is served by every member, with a number")
    func names() throws {
      let cluster = try StoreCluster(.martlet, members: 3)
      if let etcdctl = Peers.etcdctl {
        _ = try etcdctl.run(
          ["--endpoints", cluster.members[0].endpoint, "put", "a", "b"], environment: ["ETCDCTL_API": "3"],
          seconds: 10)
      }
      let names = try Self.listed()
      #expect(names.count > 25)
      for member in cluster.members {
        let page = try #require(Loopback.get(port: member.clientPort, path: "/metrics"))
        for name in names where Peers.etcdctl != nil || !name.hasPrefix("grpc_") {
          // A counter of calls has lines for those that were made.
          if name.hasPrefix("grpc_"), member.name != "m0" { continue }
          let line = page.split(separator: "\n").first {
            $0.hasPrefix(name) && ($0.dropFirst(name.count).first.map { " {".contains($0) } ?? false)
          }
          let number = line.flatMap { $0.split(separator: " ").last }
            .flatMap { Double($0.split(separator: "\r").first ?? "") }
          #expect(number != nil, "\(member.name) \(name)")
        }
        #expect(page.contains("etcd_network_active_peers{Local=\""))
      }
    }
  }
}
