import Foundation
import TestKit
import Testing

#if canImport(Glibc)
  import Glibc
#endif

extension StoreConformance {
  /// Members come and go while the cluster works.
  @Suite(.serialized, .enabled(if: Peers.etcdctl != nil, Missing.etcdctl))
  struct Members {
    /// What can't be done to a cluster of one is refused in etcd's words.
    @Test(.enabled(if: Peers.etcd != nil, Missing.etcd)) func refusals() throws {
      let etcd = try StoreCluster(.etcd)
      let martlet = try StoreCluster(.martlet)
      let commands = [
        "member add m2 --peer-urls=http://127.0.0.1:PEER", "member add m2 --peer-urls=ftp://a:1",
        "member add m2 --peer-urls=http://127.0.0.1:1/path", "member add m2 --peer-urls=http://a",
        "member remove 1234", "member remove OWN", "member promote 1234", "member promote OWN",
        "member update 1234 --peer-urls=http://127.0.0.1:1",
        "member add m2 --learner --peer-urls=http://127.0.0.1:1",
        "member add m3 --learner --peer-urls=http://127.0.0.1:2",
        "member promote NEW", "member remove NEW", "member promote NEW", "member list",
      ]
      for command in commands {
        let expected = try say(etcd, command)
        let actual = try say(martlet, command)
        #expect(actual == expected, "\(command)")
      }
    }

    /// From one member to three, the third by way of a learner; then the leader is removed, and one that
    /// is down; all the time a client writes, and loses nothing.
    @Test func growAndShrinkUnderLoad() throws {
      let cluster = try GrowingCluster()
      let writer = Writer(cluster)
      try cluster.start(0, state: "new")
      #expect(cluster.isHealthy(0))
      writer.run()

      // The second: the quorum is not at risk before it is there.
      try cluster.add(1)
      #expect(try cluster.list().contains("unstarted"))
      try writer.expectProgress()
      try cluster.start(1, state: "existing")
      #expect(cluster.isHealthy(1))

      // The third, first as a learner, which serves only what a learner does.
      let third = try cluster.add(2, "--learner")
      #expect(try cluster.ctl(0, ["member", "promote", third]).contains("in sync with leader"))
      try cluster.start(2, state: "existing")
      #expect(
        waitUntil(seconds: 10) {
          (try? cluster.ctl(0, ["member", "promote", third]).contains("promoted in cluster"))
            == true
        })
      #expect(cluster.isHealthy(2))
      #expect(
        waitUntil(seconds: 5) {
          (try? cluster.list().split(separator: "\n").count { $0.contains(", started, ") }) == 3
        })
      try writer.expectProgress()

      // The leader goes, tells why, and does not come back.
      let leader = try cluster.leader()
      let rest = (0..<3).filter { $0 != leader }
      _ = try cluster.ctl(rest[0], ["member", "remove", try cluster.id(of: leader)])
      #expect(cluster.processes[leader]!.waitUntilExit(seconds: 10))
      #expect(cluster.processes[leader]!.status == 0)
      #expect(cluster.log(leader).contains("removed from the cluster"), "\(cluster.log(leader))")
      try cluster.start(leader, state: "existing")
      #expect(cluster.processes[leader]!.waitUntilExit(seconds: 10))
      #expect(cluster.log(leader).contains("removed from the cluster"), "\(cluster.log(leader))")
      try writer.expectProgress()

      // With fresh data it is another member.
      cluster.forget(leader)
      try cluster.add(leader)
      try cluster.start(leader, state: "existing")
      #expect(cluster.isHealthy(leader))
      try writer.expectProgress()

      // All restart with the flags they joined with; the addresses come from the data.
      for member in 0..<3 {
        cluster.stop(member)
        try cluster.start(member, state: member == 0 && leader != 0 ? "new" : "existing")
        #expect(cluster.isHealthy(member))
      }
      try writer.expectProgress()
      let written = writer.stop()
      for member in 0..<3 {
        let kept = Set(
          try cluster.ctl(member, ["get", "load/", "--prefix", "--keys-only"])
            .split(separator: "\n").map(String.init))
        #expect(written.isSubset(of: kept), "member \(member) lost \(written.subtracting(kept))")
      }
    }

    /// A leader that is asked to stop hands over first: nobody waits for an election.
    @Test func aLeaderThatStopsHandsOver() throws {
      let cluster = try StoreCluster(members: 3, flags: ["--election-timeout", "5000"])
      let leader = try cluster.leader()
      #expect(cluster.stop(leader) == 0)
      let other = (leader + 1) % 3
      let started = ContinuousClock.now
      let put = try Peers.etcdctl!.run(
        ["--endpoints", cluster.members[other].endpoint, "put", "a", "b"])
      #expect(put.output == "OK\n", "\(put.errors)")
      #expect(ContinuousClock.now - started < .seconds(3), "well within an election time-out")
    }

    /// What keeps a member from joining is said in one line.
    @Test func joiningWhatIsNotThere() throws {
      let cluster = try GrowingCluster()
      try cluster.start(0, state: "new")
      #expect(cluster.isHealthy(0))
      // Not added.
      try cluster.start(1, state: "existing", members: [0, 1])
      #expect(cluster.processes[1]!.waitUntilExit(seconds: 10))
      #expect(cluster.processes[1]!.status == 1)
      #expect(cluster.log(1).contains("member count is unequal"), "\(cluster.log(1))")
      // Nobody there.
      try cluster.start(2, state: "existing", members: [1, 2])
      #expect(cluster.processes[2]!.waitUntilExit(seconds: 10))
      #expect(cluster.processes[2]!.status == 1)
      #expect(cluster.log(2).contains("cannot join the cluster"), "\(cluster.log(2))")
    }

    private func say(_ cluster: StoreCluster, _ command: String) throws -> String {
      let members = try members(cluster)
      let own = members.first { !$0.name.isEmpty }?.id ?? ""
      let new = members.first { $0.name.isEmpty }?.id ?? "5678"
      let member = cluster.members[0]
      let arguments = command.split(separator: " ").map {
        $0.replacingOccurrences(of: "PEER", with: "\(member.peerPort)")
          .replacingOccurrences(of: "OWN", with: own).replacingOccurrences(of: "NEW", with: new)
      }
      let outcome = try Peers.etcdctl!.run(
        arguments, environment: ["ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": cluster.endpoints])
      let errors = outcome.errors.split(separator: "\n").filter { !$0.hasPrefix("{") }
      var text = outcome.output + errors.map { $0 + "\n" }.joined()
      text = text.replacingOccurrences(of: ":\(member.clientPort)", with: ":client")
        .replacingOccurrences(of: ":\(member.peerPort)", with: ":peer")
      text.replace(/\b[0-9a-f]{12,16}\b/) { _ in "ID" }
      // etcd lists members in the order of a hash map's keys.
      text.replace(/ETCD_INITIAL_CLUSTER="(.*)"/) { match in
        match.1.split(separator: ",").sorted().joined(separator: ",")
      }
      return text.split(separator: "\n").sorted().joined(separator: "\n")
    }

    private func members(_ cluster: StoreCluster) throws -> [(id: String, name: String)] {
      try Peers.etcdctl!.run(["--endpoints", cluster.endpoints, "member", "list"]).output
        .split(separator: "\n").map { line in
          let fields = line.components(separatedBy: ", ")
          return (fields[0], fields[2])
        }
    }
  }
}

/// Members that are started one by one, as an operator does it.
private final class GrowingCluster: @unchecked Sendable {
  // Changed by the test's thread only; the writer's thread reads `ports`, which never change.
  let ports: [(client: Int, peer: Int)]
  private(set) var processes: [Int: RunningProgram] = [:]
  private let folder = TestFolder()
  private var added: Set<Int> = [0]

  init() throws {
    ports = try (0..<3).map { _ in (try Loopback.freePort(), try Loopback.freePort()) }
  }

  deinit { for process in processes.values { process.kill() } }

  private func peer(_ index: Int) -> String { "http://127.0.0.1:\(ports[index].peer)" }

  func log(_ index: Int) -> String { processes[index]?.errors ?? "" }

  func start(_ index: Int, state: String, members: [Int]? = nil) throws {
    let client = "http://127.0.0.1:\(ports[index].client)"
    let named = members ?? (state == "new" ? [0] : added.sorted())
    let cluster = named.map { "m\($0)=\(peer($0))" }.joined(separator: ",")
    processes[index] = try Peers.martlet!.start([
      "store", "--name", "m\(index)", "--data-dir", "\(folder.path)/m\(index)",
      "--listen-client-urls", client, "--advertise-client-urls", client,
      "--listen-peer-urls", peer(index), "--initial-advertise-peer-urls", peer(index),
      "--initial-cluster", cluster, "--initial-cluster-state", state, "--log-level", "warn",
    ])
  }

  func stop(_ index: Int) {
    processes[index]?.signal(SIGTERM)
    if processes[index]?.waitUntilExit(seconds: 10) == false { processes[index]?.kill() }
  }

  /// Removes a member's data.
  func forget(_ index: Int) {
    try? FileManager.default.removeItem(atPath: "\(folder.path)/m\(index)")
    added.remove(index)
  }

  func isHealthy(_ index: Int) -> Bool {
    waitUntil(seconds: 15) {
      Loopback.get(port: ports[index].client, path: "/health")?.contains(#""health":"true""#)
        == true
    }
  }

  /// What etcdctl prints, errors after what it printed, asking the member of that position.
  func ctl(_ index: Int, _ arguments: [String]) throws -> String {
    let outcome = try Peers.etcdctl!.run(
      ["--endpoints", "127.0.0.1:\(ports[index].client)"] + arguments)
    return outcome.output + outcome.errors
  }

  /// Adds a member through one that runs, and gives its id.
  @discardableResult
  func add(_ index: Int, _ flags: String...) throws -> String {
    let through = added.first { processes[$0]?.isRunning == true } ?? 0
    var said = ""
    // Like etcd, right after a change the cluster may be found unhealthy.
    _ = waitUntil(seconds: 10, every: 0.2) {
      said =
        (try? ctl(
          through, ["member", "add", "m\(index)", "--peer-urls", peer(index)] + flags)) ?? ""
      return said.contains("added to cluster")
    }
    added.insert(index)
    guard let match = said.firstMatch(of: /Member +([0-9a-f]+) added/) else {
      throw ProgramError("a member could not be added: \(said)")
    }
    return String(match.1)
  }

  func list() throws -> String { try ctl(added.sorted().first!, ["member", "list"]) }

  func id(of index: Int) throws -> String {
    let line = try list().split(separator: "\n").first { $0.contains(":\(ports[index].peer)") }
    return String(try #require(line).prefix { $0 != "," })
  }

  func leader() throws -> Int {
    try #require(
      (0..<3).first { index in
        Loopback.get(port: ports[index].client, path: "/metrics")?
          .contains("etcd_server_is_leader 1\n") == true
      })
  }
}

/// A client that puts one key after another, and remembers which were acknowledged.
private final class Writer: @unchecked Sendable {
  // `written` and `isStopped` are guarded by `lock`.
  private let lock = NSLock()
  private var written: Set<String> = []
  private var isStopped = false
  private let done = DispatchSemaphore(value: 0)
  private let cluster: GrowingCluster

  init(_ cluster: GrowingCluster) { self.cluster = cluster }

  func run() {
    let endpoints = cluster.ports.map { "127.0.0.1:\($0.client)" }.joined(separator: ",")
    Thread { [self] in
      var number = 0
      while !lock.withLock({ isStopped }) {
        let key = String(format: "load/%06d", number)
        number += 1
        let outcome = try? Peers.etcdctl!.run(
          ["--endpoints", endpoints, "--command-timeout", "2s", "put", key, "value"])
        if outcome?.output == "OK\n" { lock.withLock { _ = written.insert(key) } }
      }
      done.signal()
    }.start()
  }

  /// Within a while, five more puts are acknowledged.
  func expectProgress() throws {
    let before = lock.withLock { written.count }
    #expect(waitUntil(seconds: 15) { self.lock.withLock { self.written.count } >= before + 5 })
  }

  func stop() -> Set<String> {
    lock.withLock { isStopped = true }
    done.wait()
    return written
  }
}
