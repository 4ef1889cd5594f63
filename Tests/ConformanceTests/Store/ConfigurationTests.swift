import Foundation
import TestKit
import Testing

#if canImport(Glibc)
  import Glibc
#endif

extension StoreConformance {
  /// etcd's configuration file and the flags of everyday operation.
  @Suite(.serialized, .enabled(if: Peers.etcdctl != nil, Missing.etcdctl))
  struct Configuration {
    @Test func theFileIsAllThereIs() throws {
      let folder = TestFolder()
      let (client, peer, metrics) = (
        try Loopback.freePort(), try Loopback.freePort(), try Loopback.freePort()
      )
      let file = "\(folder.path)/store.yaml"
      try """
      # etcd's own form.
      name: 'from-file'
      data-dir: \(folder.path)/data
      listen-client-urls: http://127.0.0.1:\(client)
      advertise-client-urls: http://127.0.0.1:\(client)
      listen-peer-urls: http://127.0.0.1:\(peer)
      initial-advertise-peer-urls: http://127.0.0.1:\(peer)
      initial-cluster: from-file=http://127.0.0.1:\(peer)
      listen-metrics-urls: http://127.0.0.1:\(metrics)
      log-level: warn
      quota-backend-bytes: 0
      snapshot-count:
      strict-reconfig-check: false
      auto-compaction-mode: periodic
      auto-compaction-retention: "1s"
      client-transport-security:
        cert-file:
        client-cert-auth: false
      """.write(toFile: file, atomically: false, encoding: .utf8)
      // The environment and other flags don't count.
      let process = try Peers.martlet!.start(
        ["store", "--config-file", file, "--name", "other"], environment: ["ETCD_LOG_LEVEL": "x"])
      defer { process.kill() }
      let isHealthy = waitUntil(seconds: 15) {
        Loopback.get(port: client, path: "/health")?.contains(#""health":"true""#) == true
      }
      #expect(isHealthy, "\(process.errors)")
      let endpoint = "127.0.0.1:\(client)"
      #expect(
        waitUntil(seconds: 5) {
          (try? ctl(endpoint, ["member", "list"]).contains("from-file")) == true
        })

      // The observers' port shows how it is, and nothing of what it holds.
      #expect(
        Loopback.get(port: metrics, path: "/metrics")?.contains("etcd_server_has_leader") == true)
      #expect(Loopback.get(port: metrics, path: "/health")?.hasPrefix("HTTP/1.1 200") == true)
      #expect(Loopback.get(port: metrics, path: "/v3/kv/range")?.hasPrefix("HTTP/1.1 404") == true)
      #expect(try ctl("127.0.0.1:\(metrics)", ["get", "a"]).contains("rror"))

      // History older than a second goes by itself.
      #expect(try ctl(endpoint, ["put", "a", "1"]) == "OK\n")
      #expect(try ctl(endpoint, ["put", "a", "2"]) == "OK\n")
      #expect(try ctl(endpoint, ["get", "a", "--rev=2", "--print-value-only"]) == "1\n")
      #expect(
        waitUntil(seconds: 8, every: 0.3) {
          (try? ctl(endpoint, ["get", "a", "--rev=2"]))?.contains("has been compacted") == true
        })
      #expect(try ctl(endpoint, ["get", "a", "--print-value-only"]) == "2\n")
    }

    /// What can't be meant is said in a sentence.
    @Test(arguments: [
      (["--wal-dir", "/tmp/x"], "--wal-dir does not apply: the log lies in --data-dir"),
      (["--enable-v2=true"], "--enable-v2 does not apply"),
      (["--auto-compaction-retention", "often"], "must be a duration"),
      (["--auto-compaction-mode", "sometimes"], "'periodic' or 'revision'"),
      (
        ["--auto-compaction-mode=revision", "--auto-compaction-retention=1h"], "number of revisions"
      ),
      (["--watch-progress-notify-interval", "1ms"], "at least 100ms"),
      (["--max-learners", "0"], "1 to 64"), (["--listen-metrics-urls", "x"], "http://"),
      (["--config-file", "/nowhere/store.yaml"], "/nowhere/store.yaml"),
    ])
    func mistakes(arguments: [String], expected: String) throws {
      let outcome = try Peers.martlet!.run(["store"] + arguments, seconds: 10)
      #expect([1, 2].contains(outcome.status))
      #expect(outcome.errors.contains(expected), "\(outcome.errors)")
      #expect(outcome.errors.split(separator: "\n").count == 1)
    }

    @Test(arguments: [
      ("- a\n- b\n", "a mapping"), ("name: [", "is not YAML"), ("name: {a: b}\n", "a value"),
      ("no-such-flag: 1\n", "no-such-flag"), ("enable-v2: true\n", "--enable-v2 does not apply"),
    ])
    func mistakesInTheFile(text: String, expected: String) throws {
      let folder = TestFolder()
      let file = "\(folder.path)/store.yaml"
      try text.write(toFile: file, atomically: false, encoding: .utf8)
      let outcome = try Peers.martlet!.run(["store", "--config-file=\(file)"], seconds: 10)
      #expect(outcome.status == 2)
      #expect(outcome.errors.contains(expected), "\(outcome.errors)")
    }

    /// etcdctl's lock and elect do all of their work in the client; they find here what they need.
    @Test func locksAndElections() throws {
      let cluster = try StoreCluster()
      let first = try Peers.etcdctl!.start(
        ["--endpoints", cluster.endpoints, "lock", "mutex"], environment: ["ETCDCTL_API": "3"])
      #expect(waitUntil(seconds: 5) { first.output.hasPrefix("mutex/") })
      let second = try Peers.etcdctl!.start(
        ["--endpoints", cluster.endpoints, "lock", "mutex", "echo", "mine"],
        environment: ["ETCDCTL_API": "3"])
      usleep(300_000)
      #expect(second.output.isEmpty, "one at a time")
      first.signal(SIGINT)
      #expect(second.waitUntilExit(seconds: 5) && second.output == "mine\n", "\(second.errors)")
      first.kill()

      let leader = try Peers.etcdctl!.start(
        ["--endpoints", cluster.endpoints, "elect", "office", "one"],
        environment: ["ETCDCTL_API": "3"])
      #expect(waitUntil(seconds: 5) { leader.output.hasSuffix("one\n") })
      let observer = try Peers.etcdctl!.start(
        ["--endpoints", cluster.endpoints, "elect", "-l", "office"],
        environment: ["ETCDCTL_API": "3"])
      #expect(waitUntil(seconds: 5) { observer.output.hasSuffix("one\n") }, "\(observer.errors)")
      observer.kill()
      leader.signal(SIGINT)
      #expect(leader.waitUntilExit(seconds: 5))
    }

    private func ctl(_ endpoint: String, _ arguments: [String]) throws -> String {
      let outcome = try Peers.etcdctl!.run(
        ["--endpoints", endpoint, "--command-timeout", "3s", "--dial-timeout", "1s"] + arguments)
      return outcome.output + outcome.errors
    }
  }
}
