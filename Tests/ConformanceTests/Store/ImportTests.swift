import Foundation
import TestKit
import Testing

#if canImport(Glibc)
  import Glibc
#endif

extension StoreConformance {
  /// A real etcd's snapshot, imported: afterwards the same commands print the same.
  @Suite(
    .serialized, .enabled(if: Peers.etcd != nil, Missing.etcd),
    .enabled(if: Peers.etcdctl != nil, Missing.etcdctl))
  struct Imports {
    @Test("Keys, history, leases, users and roles of a real etcd come over whole")
    func everything() throws {
      let folder = TestFolder()
      let file = "\(folder.path)/etcd.snap"
      let etcd = try StoreCluster(.etcd)
      let ctl = Etcdctl(endpoints: etcd.endpoints)
      try fill(ctl)
      try ctl(["snapshot", "save", file], user: "root:secret")

      let copy = try ImportedStore(file, in: folder)
      defer { copy.process.kill() }
      let ours = Etcdctl(endpoints: copy.endpoint)
      for (arguments, user) in Self.questions {
        let expected = try ctl(arguments, user: user)
        #expect(try ours(arguments, user: user) == expected, "\(arguments)")
      }
      // From a revision on, all that happened, in order.
      for revision in [8, 20] {
        let watch = ["watch", "--prefix", "", "--rev=\(revision)", "-w", "json"]
        let expected = try ctl.watched(watch)
        #expect(expected.count > 10)
        #expect(try ours.watched(watch) == expected)
      }
      #expect(
        try ours(["watch", "k1", "--rev=5"], user: "root:secret")
          .contains("required revision has been compacted"))
      // The leases live on: one expires, and takes its key along.
      #expect(try ours(["get", "leased/short"], user: "root:secret") != "")
      let isGone = try waitUntil(seconds: 20, every: 0.2) {
        try ours(["get", "leased/short"], user: "root:secret") == ""
      }
      #expect(isGone)
      #expect(try ours(["put", "written/after", "v"], user: "writer:w") == "OK\n")
    }

    @Test("Revisions are passed over when asked for, and everything before is compacted")
    func bumped() throws {
      let folder = TestFolder()
      let file = "\(folder.path)/etcd.snap"
      let etcd = try StoreCluster(.etcd)
      let ctl = Etcdctl(endpoints: etcd.endpoints)
      for index in 0..<20 { try ctl(["put", "k\(index % 7)", "v\(index)"]) }
      try ctl(["snapshot", "save", file])
      let copy = try ImportedStore(
        file, in: folder, ["--bump-revision", "1000", "--mark-compacted"])
      defer { copy.process.kill() }
      let ours = Etcdctl(endpoints: copy.endpoint)
      #expect(try ours(["get", "k1", "-w", "fields"]).contains("\"Revision\" : 1021\n"))
      #expect(try ours(["get", "k1", "--print-value-only"]) == "v15\n")
      #expect(
        try ours(["watch", "k1", "--rev=20"]).contains("required revision has been compacted"))
    }

    @Test("What is no whole etcd snapshot is refused, and nothing is made of it")
    func refused() throws {
      let folder = TestFolder()
      let file = "\(folder.path)/etcd.snap"
      let etcd = try StoreCluster(.etcd)
      let ctl = Etcdctl(endpoints: etcd.endpoints)
      try ctl(["put", "a", "b"])
      try ctl(["snapshot", "save", file])
      let whole = try #require(FileManager.default.contents(atPath: file))
      func tool(_ content: Data, _ flags: [String] = []) throws -> String {
        try content.write(to: URL(fileURLWithPath: "\(folder.path)/other"))
        let outcome = try Peers.martlet!.run(
          ["util", "import", "\(folder.path)/other", "--data-dir", "\(folder.path)/data"] + flags)
        return "\(outcome.status) \(outcome.errors)"
      }
      var flipped = whole
      flipped[whole.count / 2] ^= 1
      #expect(try tool(flipped).contains("1 martlet: \(folder.path)/other is damaged"))
      #expect(try tool(whole.dropLast(32)).contains("snapshot missing hash"))
      #expect(try tool(whole.prefix(8192)).contains("cut short"))
      #expect(try tool(Data("no database at all".utf8)).contains("no etcd snapshot"))
      #expect(try tool(whole, ["--bump-revision", "5"]).hasPrefix("2 martlet: --mark-compacted"))
      #expect(try tool(whole, ["--mark-compacted"]).hasPrefix("2 martlet: --mark-compacted"))
      #expect(!FileManager.default.fileExists(atPath: "\(folder.path)/data"))
      #expect(try tool(whole.dropLast(32), ["--skip-hash-check"]).hasPrefix("0 "))
      #expect(try tool(whole).contains("the directory is not empty"))
    }

    /// Commands whose output must be the same before and after.
    private static let questions: [([String], String)] = [
      (["get", "", "--prefix", "-w", "fields"], "root:secret"),
      (["get", "", "--prefix", "--rev=12", "-w", "fields"], "root:secret"),
      (["get", "", "--prefix", "--rev=25"], "root:secret"),
      (["get", "", "--prefix", "--rev=9"], "root:secret"),
      (["get", "", "--prefix", "--count-only", "-w", "fields"], "root:secret"),
      (["lease", "list"], "root:secret"),
      (["lease", "timetolive", "7b", "--keys"], "root:secret"),
      (["user", "list"], "root:secret"),
      (["user", "get", "writer", "--detail"], "root:secret"),
      (["user", "get", "root"], "root:secret"),
      (["role", "list"], "root:secret"),
      (["role", "get", "writing"], "root:secret"),
      (["role", "get", "root"], "root:secret"),
      (["auth", "status"], "root:secret"),
      (["alarm", "list"], "root:secret"),
      (["get", "k1"], "writer:wrong"),
      (["get", "k1"], "writer:w"),
      (["get", "written/1"], "writer:w"),
    ]

    private func fill(_ ctl: Etcdctl) throws {
      for index in 0..<12 { try ctl(["put", "k\(index % 4)", "value \(index)"]) }
      try ctl(["del", "k2"])
      try ctl(["compact", "8"])
      try ctl(["put", "k2", "again"])
      try ctl(["put", "large"], input: String(repeating: "0123456789", count: 90_000))
      try ctl(["put", "written/1", "by root"])
      for index in 0..<40 { try ctl(["put", "many/\(index)", "x"]) }
      try ctl(["del", "many/1", "--prefix"])
      // etcd's JSON gateway would do, but its etcdctl can't choose a lease's id: txn neither.
      let lease = try ctl.grantLease(id: 0x7B, seconds: 900)
      try ctl(["put", "leased/long", "l", "--lease=\(lease)"])
      let short = try ctl.grantLease(id: 0x7C, seconds: 8)
      try ctl(["put", "leased/short", "s", "--lease=\(short)"])
      try ctl(["txn"], input: "\nput t1 a\nput t2 b\ndel k3\n\n\n")
      try ctl(["user", "add", "root:secret"])
      try ctl(["user", "grant-role", "root", "root"])
      try ctl(["user", "add", "writer:w"])
      try ctl(["user", "add", "nobody", "--no-password"])
      try ctl(["role", "add", "writing"])
      try ctl(["role", "grant-permission", "writing", "readwrite", "written/", "written0"])
      try ctl(["role", "grant-permission", "writing", "read", "large"])
      try ctl(["user", "grant-role", "writer", "writing"])
      try ctl(["auth", "enable"])
    }
  }

  /// etcdctl for one cluster; ids in its output are masked.
  struct Etcdctl {
    var endpoints: String

    /// - Returns: standard output and errors.
    @discardableResult
    func callAsFunction(
      _ arguments: [String], user: String? = nil, input: String = ""
    ) throws -> String {
      let outcome = try Peers.etcdctl!.run(
        arguments + (user.map { ["--user", $0] } ?? []), input: input,
        environment: ["ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": endpoints], seconds: 20)
      let errors = outcome.errors.split(separator: "\n").filter { !$0.hasPrefix(#"{"level":"#) }
        .joined(separator: "\n")
      return Self.masked(outcome.output + errors)
    }

    /// The lines that a watch prints at once.
    func watched(_ arguments: [String]) throws -> [String] {
      let running = try Peers.etcdctl!.start(
        arguments + ["--user", "root:secret"],
        environment: ["ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": endpoints])
      defer { running.kill() }
      // Events come in as many messages as the server likes: their order alone is promised.
      func events() -> [String] {
        running.output.split(separator: "\n").dropLast(running.output.hasSuffix("\n") ? 0 : 1)
          .flatMap { line in line.split(separator: #"{"kv":"#).dropFirst().map { Self.event($0) } }
      }
      var count = -1
      _ = waitUntil(seconds: 10, every: 0.3) {
        defer { count = events().count }
        return count > 0 && events().count == count
      }
      return events()
    }

    /// An event without the brackets of what it stands in.
    private static func event(_ text: Substring) -> String {
      var text = String(text.prefix { $0 != "}" })
      text.replace(/"type":1/) { _ in "" }
      return text
    }

    /// Makes a lease of a chosen id, through the JSON gateway.
    func grantLease(id: Int64, seconds: Int) throws -> String {
      let outcome = try Program(path: "/usr/bin/curl").run([
        "-s", "http://\(endpoints)/v3/lease/grant", "-d", #"{"ID":\#(id),"TTL":\#(seconds)}"#,
      ])
      guard outcome.output.contains("\"ID\":\"\(id)\"") else {
        throw ProgramError("no lease: \(outcome.output)\(outcome.errors)")
      }
      return String(id, radix: 16)
    }

    private static func masked(_ text: String) -> String {
      var text = text
      text.replace(/"(ClusterID|MemberID|RaftTerm)" : [0-9]+/) { "\"\($0.1)\" : *" }
      // etcd lists leases in the order of their expiry.
      if text.hasPrefix("found ") {
        text = text.split(separator: "\n").sorted().joined(separator: "\n")
      }
      text.replace(/remaining\([0-9]+s\)/) { _ in "remaining(*)" }
      return text
    }
  }

  /// A member that was made from an etcd snapshot.
  struct ImportedStore {
    let endpoint: String
    let process: RunningProgram

    init(_ file: String, in folder: TestFolder, _ flags: [String] = []) throws {
      let (client, peer) = (try Loopback.freePort(), try Loopback.freePort())
      let identity = [
        "--name", "m0", "--data-dir", "\(folder.path)/m0",
        "--initial-cluster", "m0=http://127.0.0.1:\(peer)",
        "--initial-advertise-peer-urls", "http://127.0.0.1:\(peer)",
      ]
      let outcome = try Peers.martlet!.run(["util", "import", file] + identity + flags)
      guard outcome.status == 0 else { throw ProgramError(outcome.errors) }
      process = try Peers.martlet!.start(
        ["store"] + identity + [
          "--listen-client-urls", "http://127.0.0.1:\(client)",
          "--listen-peer-urls", "http://127.0.0.1:\(peer)", "--log-level", "warn",
        ])
      endpoint = "127.0.0.1:\(client)"
      let isHealthy = waitUntil(seconds: 15) {
        Loopback.get(port: client, path: "/health")?.contains(#""health":"true""#) == true
      }
      guard isHealthy else { throw ProgramError("not healthy: \(process.errors)") }
    }
  }
}
