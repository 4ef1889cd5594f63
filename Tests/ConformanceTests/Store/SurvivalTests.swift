import Foundation
import TestKit
import Testing

#if canImport(Glibc)
  import Glibc
#endif

extension StoreConformance {
  /// Members are killed under load; nothing that was acknowledged is lost.
  ///
  /// `Clients/load.py` writes from eight connections and watches everything; `Clients/verify.py` then asks
  /// every member for what was acknowledged, compares the members' hashes, and checks the watch: every event
  /// once, in order, none missing, however often it had to resume.
  @Suite(.serialized, .enabled(if: Peers.python != nil, Missing.python))
  struct Survival {
    @Test func nothingAcknowledgedIsLost() throws {
      let cluster = try StoreCluster(members: 3, flags: ["--snapshot-count", "200"])
      let load = try Load(on: cluster)
      try load.goOn(seconds: 2)

      // The leader, and back.
      let first = try cluster.leader()
      cluster.kill(first)
      try load.goOn(seconds: 3)
      try cluster.start(first)
      try cluster.waitUntilHealthy()

      // The next leader at once, then a member that doesn't lead.
      let second = try cluster.leader()
      cluster.kill(second)
      try load.goOn(seconds: 3)
      try cluster.start(second)
      try cluster.waitUntilHealthy()
      let third = (try cluster.leader() + 1) % 3
      cluster.kill(third)
      try load.goOn(seconds: 1)
      try cluster.start(third)
      try cluster.waitUntilHealthy()

      // All at once.
      for member in 0..<3 { cluster.kill(member) }
      for member in 0..<3 { try cluster.start(member) }
      try cluster.waitUntilHealthy()
      try load.goOn(seconds: 2)

      // All, while it is written to, one after the other, the others not yet back.
      for member in 0..<3 {
        cluster.kill(member)
        usleep(200_000)
        try cluster.start(member)
      }
      try cluster.waitUntilHealthy()
      try load.goOn(seconds: 1)
      try load.stopAndVerify()
    }

    @Test func aMemberThatWasAwayComesBackBySnapshot() throws {
      let cluster = try StoreCluster(members: 3, flags: ["--snapshot-count", "50"])
      let load = try Load(on: cluster)
      try load.goOn(seconds: 1)
      let away = (try cluster.leader() + 1) % 3
      cluster.kill(away)
      let before = cluster.newestSnapshot(of: away)
      try load.goOn(seconds: 4)
      try load.stop()
      try cluster.start(away)
      try cluster.waitUntilHealthy()
      try load.verify()
      // With hardly a write since, the member took no snapshot of its own: it got this one from the leader.
      #expect(try cluster.metric("martlet_snapshots_taken_total", of: away) == 0)
      #expect(cluster.newestSnapshot(of: away) > before)
    }

    @Test func stoppedMembersComeBackWithEverything() throws {
      let cluster = try StoreCluster(members: 3)
      let load = try Load(on: cluster)
      try load.goOn(seconds: 2)
      for member in 0..<3 {
        #expect(cluster.stop(member) == 0, "SIGTERM ends a member with status 0")
        try cluster.start(member)
        try cluster.waitUntilHealthy()
      }
      try load.stopAndVerify()
    }
  }
}

/// A load that runs on a cluster in the background.
private final class Load {
  private let cluster: StoreCluster
  private let folder = TestFolder()
  private let program: RunningProgram

  init(on cluster: StoreCluster) throws {
    self.cluster = cluster
    guard let python = Peers.python else { throw ProgramError("there is no Python here") }
    program = try python.start(
      ["\(PythonClient.folder)/load.py", cluster.endpoints, "\(folder.path)/record.json"],
      environment: PythonClient.environment)
  }

  /// Lets it run, and makes sure that the store takes writes the while.
  func goOn(seconds: Double) throws {
    let before = try cluster.newestRevision()
    usleep(UInt32(seconds * 1e6))
    let isWritten = try waitUntil(seconds: 10) { try cluster.newestRevision() > before }
    #expect(isWritten, "the cluster took no write for \(seconds + 10) s")
    #expect(program.isRunning, "\(program.errors)")
  }

  func stopAndVerify() throws {
    try stop()
    try verify()
  }

  func stop() throws {
    program.signal(SIGTERM)
    #expect(program.waitUntilExit(seconds: 30), "the load did not end")
    #expect(program.status == 0, "\(program.errors)")
  }

  /// Asks every member for what was acknowledged.
  func verify() throws {
    let report = try PythonClient.run(
      "verify.py", [cluster.endpoints, "\(folder.path)/record.json"])
    #expect(!report.contains("FAULT") && report.hasPrefix("acknowledged: "), "\(report)")
    print(report)
  }
}

extension StoreCluster {
  /// A number of a member's `/metrics`.
  func metric(_ name: String, of index: Int) throws -> Int {
    let page = Loopback.get(port: members[index].clientPort, path: "/metrics") ?? ""
    for line in page.split(separator: "\n") where line.hasPrefix(name + " ") {
      return Int(Double(line.split(separator: " ")[1].trimmingCharacters(in: .whitespaces)) ?? 0)
    }
    throw ProgramError("\(members[index].name) has no metric \(name)")
  }

  /// The name of a member's newest snapshot file: names are in order of what they hold.
  func newestSnapshot(of index: Int) -> String {
    let folder = "\(dataDirectory(of: index))/snap"
    let files = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return files.filter { $0.hasSuffix(".snapshot") }.max() ?? ""
  }

  /// The member that leads, as soon as one does.
  func leader() throws -> Int {
    var leader: Int?
    _ = waitUntil(seconds: 10) {
      leader = members.indices.first { (try? metric("etcd_server_is_leader", of: $0)) == 1 }
      return leader != nil
    }
    guard let leader else { throw ProgramError("no member leads") }
    return leader
  }

  /// The greatest revision that a running member has.
  func newestRevision() throws -> Int {
    members.indices.compactMap { try? metric("etcd_debugging_mvcc_current_revision", of: $0) }
      .max() ?? 0
  }
}
