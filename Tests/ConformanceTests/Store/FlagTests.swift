import Foundation
import TestKit
import Testing

extension StoreConformance {
  /// Every flag of etcd's is in the table of `Docs/Compatibility.md`, and the binary does with it what that says.
  @Suite(.serialized) struct Flags {
    struct Row {
      var name: String
      /// What follows the flag's name; empty for nothing.
      var example: String
      var isTaken: Bool
    }

    /// The rows of the table: a flag, an example of its value, and "taken", "without effect" or "refused".
    static let rows: [Row] = {
      let text = try? String(
        contentsOfFile: "\(Peers.repository)/Docs/Compatibility.md", encoding: .utf8)
      return (text ?? "").split(separator: "\n").compactMap { line in
        guard line.hasPrefix("| `--") else { return nil }
        let cells = line.split(separator: "|").map { cell in
          String(cell.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
        }
        guard cells.count >= 3, ["taken", "without effect", "refused"].contains(cells[1]) else {
          return nil
        }
        let flag = cells[0].replacing("`", with: "").dropFirst(2)
        let parts = flag.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        return Row(
          name: String(parts[0]), example: parts.count > 1 ? "=\(parts[1])" : "",
          isTaken: cells[1] != "refused")
      }
    }()

    /// A mistake that is noticed after the flags have been looked at, so that nothing starts.
    static let mistake = "--heartbeat-interval=0"

    @Test("Each flag of the table is taken, or refused with a reason")
    func theTableIsTrue() throws {
      #expect(Self.rows.count > 100)
      let folder = TestFolder()
      for row in Self.rows where row.name != "heartbeat-interval" {
        for dashes in ["-", "--"] {
          let outcome = try Peers.martlet!.run(
            [
              "store", Self.mistake, "--data-dir", "\(folder.path)/data",
              "\(dashes)\(row.name)\(row.example)",
            ], seconds: 10)
          #expect(outcome.status == 2, "\(row.name): \(outcome.errors)")
          if row.isTaken {
            #expect(
              outcome.errors.contains("--heartbeat-interval must be"), "\(row.name): \(outcome.errors)")
          } else {
            #expect(
              outcome.errors.contains("--\(row.name)")
                && outcome.errors.contains("does not apply: "), "\(row.name): \(outcome.errors)")
          }
        }
      }
    }

    @Test("Each flag that the real etcd knows is in the table", .enabled(if: Peers.etcd != nil, Missing.etcd))
    func theTableIsComplete() throws {
      let help = try Peers.etcd!.run(["--help"], seconds: 10)
      let names = Set(Self.rows.map(\.name))
      var seen = 0
      for line in (help.output + help.errors).split(separator: "\n") {
        let word = line.drop { $0 == " " }
        guard word.hasPrefix("--") else { continue }
        let name = String(word.dropFirst(2).prefix { $0.isLetter || $0.isNumber || $0 == "-" })
        seen += 1
        let isListed =
          names.contains(name)
          || (name.hasPrefix("experimental-")
            && names.contains(String(name.dropFirst("experimental-".count))))
        #expect(isListed || name == "config-file" || name == "version", "--\(name)")
      }
      #expect(seen > 80)
    }

    @Test("What kubeadm gives etcd starts a member")
    func kubeadm() throws {
      let folder = TestFolder()
      let (client, peer, metrics) = (
        try Loopback.freePort(), try Loopback.freePort(), try Loopback.freePort()
      )
      let process = try Peers.martlet!.start([
        "store", "--advertise-client-urls=http://127.0.0.1:\(client)", "--client-cert-auth=F",
        "--data-dir=\(folder.path)/etcd", "--experimental-initial-corrupt-check=true",
        "--experimental-watch-progress-notify-interval=5s",
        "--initial-advertise-peer-urls=http://127.0.0.1:\(peer)",
        "--initial-cluster=master=http://127.0.0.1:\(peer)",
        "--listen-client-urls=http://127.0.0.1:\(client)",
        "--listen-metrics-urls=http://127.0.0.1:\(metrics)",
        "--listen-peer-urls=http://127.0.0.1:\(peer)", "--name=master",
        "--peer-client-cert-auth=0", "--snapshot-count=10000", "--feature-gates=InitialCorruptCheck=true",
        "--logger=zap", "--log-outputs=stderr", "--enable-pprof=false", "--pre-vote", "--max-wals", "5",
      ])
      defer { process.kill() }
      #expect(
        waitUntil(seconds: 15) {
          Loopback.get(port: metrics, path: "/health")?.contains(#""health":"true""#) == true
        }, "\(process.errors)")
      #expect(process.errors.contains("a flag has no effect"))
      #expect(process.errors.contains("--initial-corrupt-check: members compare their states"))
    }

    @Test("Go's booleans, and what is none")
    func booleans() throws {
      for (value, expected) in [("T", "heartbeat"), ("1", "heartbeat"), ("False", "heartbeat"), ("yes", "must be true or false")] {
        let outcome = try Peers.martlet!.run(
          ["store", Self.mistake, "--strict-reconfig-check=\(value)"], seconds: 10)
        #expect(outcome.status == 2)
        #expect(outcome.errors.contains(expected), "\(value): \(outcome.errors)")
      }
    }

    @Test("Clients come over a unix socket, and HTTP has a port of its own")
    func socketsAndHTTP() throws {
      let folder = TestFolder()
      let (client, peer, http) = (
        try Loopback.freePort(), try Loopback.freePort(), try Loopback.freePort()
      )
      let socket = "\(folder.path)/store.sock"
      let process = try Peers.martlet!.start([
        "store", "--data-dir=\(folder.path)/data",
        "--listen-client-urls=http://127.0.0.1:\(client),unix://\(socket)",
        "--advertise-client-urls=http://127.0.0.1:\(client)",
        "--listen-client-http-urls=http://127.0.0.1:\(http)",
        "--listen-peer-urls=http://127.0.0.1:\(peer)",
        "--initial-advertise-peer-urls=http://127.0.0.1:\(peer)",
        "--initial-cluster=default=http://127.0.0.1:\(peer)",
      ])
      defer { process.kill() }
      #expect(
        waitUntil(seconds: 15) {
          Loopback.get(port: http, path: "/health")?.contains(#""health":"true""#) == true
        }, "\(process.errors)")
      #expect(Loopback.get(port: client, path: "/health")?.contains("HTTP/1.1 200") != true)
      let range = Loopback.get(port: http, path: "/v3/kv/range")
      #expect(range?.hasPrefix("HTTP/1.1 405") == true, "the gateway is there: \(range ?? "nothing")")
      if let etcdctl = Peers.etcdctl {
        for endpoint in ["unix://\(socket)", "127.0.0.1:\(client)"] {
          let outcome = try etcdctl.run(
            ["--endpoints", endpoint, "put", "a", "b"], environment: ["ETCDCTL_API": "3"], seconds: 10)
          #expect(outcome.output == "OK\n", "\(endpoint): \(outcome.errors)")
        }
      }
    }
  }
}
