import Foundation
import TestKit
import Testing

#if canImport(Glibc)
  import Glibc
#endif

extension StoreConformance {
  /// A backup with etcdctl, looked at and restored with our tool.
  @Suite(.serialized, .enabled(if: Peers.etcdctl != nil, Missing.etcdctl))
  struct Snapshots {
    @Test func savedAndRestoredToThreeMembers() throws {
      let folder = TestFolder()
      let file = "\(folder.path)/backup.snap"
      let old = try StoreCluster(members: 1)
      let value = String(repeating: "v", count: 50_000)
      for index in 0..<20 { _ = try ctl(old.endpoints, ["put", "k\(index)"], value) }
      _ = try ctl(old.endpoints, ["put", "k0", "new"])
      _ = try ctl(old.endpoints, ["del", "k1"])
      #expect(
        try ctl(old.endpoints, ["snapshot", "save", file]).contains("Snapshot saved at \(file)"))

      let status = try util(["status", file, "-w", "json"])
      #expect(status.status == 0, "\(status.errors)")
      struct Facts: Decodable {
        var hash: UInt32
        var revision: Int
        var totalKey: Int
        var totalSize: Int
      }
      let facts = try JSONDecoder().decode(Facts.self, from: Data(status.output.utf8))
      #expect(facts.revision == 23 && facts.totalKey == 19)
      #expect(facts.totalSize % 512 == 32, "what etcdctl takes for a file with a checksum")
      #expect(try util(["status", file, "-w", "table"]).output.contains("| TOTAL KEYS |"))

      // Three new members, each from the same file.
      let ports = try (0..<3).map { _ in (try Loopback.freePort(), try Loopback.freePort()) }
      let cluster = ports.enumerated().map { "m\($0.offset)=http://127.0.0.1:\($0.element.1)" }
        .joined(separator: ",")
      var members: [RunningProgram] = []
      defer { for member in members { member.kill() } }
      for (index, (client, peer)) in ports.enumerated() {
        let identity = [
          "--name", "m\(index)", "--data-dir", "\(folder.path)/m\(index)",
          "--initial-cluster", cluster, "--initial-advertise-peer-urls",
          "http://127.0.0.1:\(peer)",
        ]
        let restored = try util(["restore", file] + identity)
        #expect(restored.status == 0, "\(restored.errors)")
        #expect(try util(["restore", file] + identity).status == 1, "never over other data")
        members.append(
          try Peers.martlet!.start(
            ["store"] + identity + [
              "--listen-client-urls", "http://127.0.0.1:\(client)",
              "--listen-peer-urls", "http://127.0.0.1:\(peer)", "--log-level", "warn",
            ]))
      }
      for (client, _) in ports {
        let isHealthy = waitUntil(seconds: 15) {
          Loopback.get(port: client, path: "/health")?.contains(#""health":"true""#) == true
        }
        #expect(isHealthy)
        let endpoint = "127.0.0.1:\(client)"
        #expect(try ctl(endpoint, ["get", "k0", "--print-value-only"]) == "new\n")
        let keys = try ctl(endpoint, ["get", "k", "--prefix", "--keys-only"])
        #expect(keys.split(separator: "\n").count == 19)
        #expect(
          try ctl(endpoint, ["get", "k0", "-w", "fields"])
            .contains("\"Revision\" : 1000000023\n"))
        // A client of the lost cluster is told to begin anew.
        #expect(
          try ctl(endpoint, ["watch", "k0", "--rev=20"]).contains(
            "required revision has been compacted"))
      }
      #expect(try ctl("127.0.0.1:\(ports[0].0)", ["put", "k0", "newer"]) == "OK\n")
    }

    /// A changed byte is noticed before anything is made of the file.
    @Test func aDamagedSnapshot() throws {
      let folder = TestFolder()
      let file = "\(folder.path)/backup.snap"
      let cluster = try StoreCluster()
      _ = try ctl(cluster.endpoints, ["put", "a", "b"])
      _ = try ctl(cluster.endpoints, ["snapshot", "save", file])
      var bytes = try #require(FileManager.default.contents(atPath: file))
      bytes[200] ^= 1
      try bytes.write(to: URL(fileURLWithPath: file))
      for arguments in [
        ["status", file], ["restore", file, "--data-dir", "\(folder.path)/data"],
        ["restore", file, "--data-dir", "\(folder.path)/data", "--skip-hash-check"],
        ["status", "\(folder.path)/nothing"], ["restore", "/dev/null"],
      ] {
        let outcome = try util(arguments)
        #expect(outcome.status == 1, "\(arguments)")
        #expect(outcome.errors.hasPrefix("martlet: "), "\(outcome.errors)")
      }
      #expect(!FileManager.default.fileExists(atPath: "\(folder.path)/data/snap"))
      let left = try FileManager.default.contentsOfDirectory(atPath: folder.path)
      #expect(left == ["backup.snap"], "\(left)")
    }

    private func util(_ arguments: [String]) throws -> Program.Outcome {
      try Peers.martlet!.run(["util", "snapshot"] + arguments)
    }

    private func ctl(
      _ endpoints: String, _ arguments: [String], _ input: String = ""
    ) throws -> String {
      let outcome = try Peers.etcdctl!.run(
        arguments, input: input,
        environment: ["ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": endpoints], seconds: 10)
      return outcome.output + outcome.errors
    }
  }
}
