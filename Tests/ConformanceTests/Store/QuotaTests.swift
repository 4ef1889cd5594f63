import Foundation
import TestKit
import Testing

extension StoreConformance {
  /// A store that has reached its quota: what it refuses, what it takes, and how it comes back.
  @Suite(.serialized, .enabled(if: Peers.etcdctl != nil, Missing.etcdctl))
  struct Quota {
    private static let flags = ["--quota-backend-bytes", "1048576"]

    /// The same commands on etcd and on ours, once both are full.
    @Test(.enabled(if: Peers.etcd != nil, Missing.etcd)) func aFullStoreAnswersAsEtcds() throws {
      let etcd = try StoreCluster(.etcd, flags: Self.flags)
      let martlet = try StoreCluster(.martlet, flags: Self.flags)
      for cluster in [etcd, martlet] { try fill(cluster) }
      let put = "\n\nput a b\n\nput a b\n\n"
      let commands: [(arguments: [String], input: String)] = [
        (["alarm", "list"], ""), (["put", "a", "b"], ""), (["put", "k0"], "x"),
        (["lease", "grant", "60"], ""), (["txn"], put), (["get", "k0", "--keys-only"], ""),
        (["endpoint", "health"], ""), (["del", "k0"], ""), (["compaction", "2"], ""),
        (["alarm", "disarm"], ""),
      ]
      for command in commands {
        #expect(
          try say(martlet, command.arguments, command.input)
            == say(etcd, command.arguments, command.input), "\(command.arguments)")
      }
      for path in ["/health", "/health?exclude=NOSPACE", "/health?serializable=true"] {
        // Disarmed above, and raised anew: by a refused put in etcd, by itself in ours.
        for cluster in [etcd, martlet] {
          // A large one: ours has room for a small one again, where etcd's file never shrinks.
          _ = try say(cluster, ["put", "a"], String(repeating: "x", count: 200_000))
          #expect(
            waitUntil(seconds: 5) {
              Loopback.get(port: cluster.members[0].clientPort, path: "/health")?
                .contains("NOSPACE") == true
            })
        }
        #expect(body(martlet, path) == body(etcd, path), "\(path)")
      }
      #expect(try errors(martlet) == errors(etcd))
    }

    /// Deletion and compaction make room; nobody has to disarm anything. Only with a tenth to spare.
    @Test func theAlarmClearsByItself() throws {
      let cluster = try StoreCluster(members: 3, flags: Self.flags)
      let keys = try fill(cluster)
      #expect(waitUntil(seconds: 5) { (try? alarms(cluster))?.isEmpty == false })
      #expect(try say(cluster, ["put", "a", "b"]).contains("database space exceeded"))

      // A restart does not make it forget.
      cluster.stop(0)
      try cluster.start(0)
      _ = waitUntil(seconds: 10) {
        Loopback.get(port: cluster.members[0].clientPort, path: "/livez") != nil
      }
      #expect(try !alarms(cluster).isEmpty)
      #expect(try say(cluster, ["put", "a", "b"]).contains("database space exceeded"))

      #expect(try say(cluster, ["del", "k", "--prefix"]) == "\(keys)\n")
      #expect(try !alarms(cluster).isEmpty, "the history still takes the space")
      let revision = keys + 2
      #expect(
        try say(cluster, ["compaction", "\(revision)"]) == "compacted revision \(revision)\n")
      #expect(waitUntil(seconds: 10) { (try? alarms(cluster))?.isEmpty == true })
      #expect(waitUntil(seconds: 5) { (try? say(cluster, ["put", "a", "b"])) == "OK\n" })
      try cluster.waitUntilHealthy()
    }

    @Test func withoutAQuota() throws {
      let cluster = try StoreCluster(flags: ["--quota-backend-bytes", "-1"])
      #expect(try say(cluster, ["put", "a", "b"]) == "OK\n")
      #expect(try alarms(cluster).isEmpty)
    }

    // MARK: Helpers

    /// Puts values of 200 kB until one is refused.
    ///
    /// - Returns: how many were taken.
    @discardableResult
    private func fill(_ cluster: StoreCluster) throws -> Int {
      let value = String(repeating: "x", count: 200_000)
      for index in 0..<20 {
        let said = try say(cluster, ["put", "k\(index)"], value)
        if said.contains("database space exceeded") { return index }
        #expect(said == "OK\n")
      }
      Issue.record("nothing was refused")
      return 0
    }

    private func alarms(_ cluster: StoreCluster) throws -> [Substring] {
      try say(cluster, ["alarm", "list"]).split(separator: "\n")
    }

    private func errors(_ cluster: StoreCluster) throws -> [String] {
      struct Entry: Decodable {
        struct Body: Decodable { var errors: [String]? }
        var Status: Body
      }
      let text = try say(cluster, ["endpoint", "status", "-w", "json"])
      return try JSONDecoder().decode([Entry].self, from: Data(text.utf8))
        .flatMap { $0.Status.errors ?? [] }
    }

    private func say(
      _ cluster: StoreCluster, _ arguments: [String], _ input: String = ""
    ) throws -> String {
      let outcome = try Peers.etcdctl!.run(
        arguments, input: input,
        environment: ["ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": cluster.endpoints])
      let errors = outcome.errors.split(separator: "\n").filter { !$0.hasPrefix("{") }
      var text = outcome.output + errors.map { $0 + "\n" }.joined()
      for member in cluster.members {
        text = text.replacingOccurrences(of: ":\(member.clientPort)", with: ":\(member.name)")
      }
      text.replace(/memberID:[0-9]+/) { _ in "memberID:*" }
      return text
    }

    private func body(_ cluster: StoreCluster, _ path: String) -> String? {
      let answer = Loopback.get(port: cluster.members[0].clientPort, path: path)
      return answer?.components(separatedBy: "\r\n\r\n").last?
        .trimmingCharacters(in: .whitespacesAndNewlines)
    }
  }
}
