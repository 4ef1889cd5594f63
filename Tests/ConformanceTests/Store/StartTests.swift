import Foundation
import TestKit
import Testing

#if canImport(Glibc)
  import Glibc
#endif

extension StoreConformance {
  /// What keeps a member from starting is said in one line.
  @Suite(.serialized) struct Start {
    /// A mistake in the flags ends with status 2, before anything is touched.
    @Test(arguments: [
      ["--no-such-flag"], ["--name"], ["--name="], ["stray"], ["--heartbeat-interval=often"],
      ["--election-timeout", "100"], ["--listen-client-urls", "localhost:2379"],
      ["--listen-client-urls", "https://127.0.0.1:2379"],
      ["--listen-peer-urls=http://127.0.0.1:99999"], ["--initial-cluster", "default"],
      ["--initial-cluster", "other=http://127.0.0.1:2380"], ["--initial-cluster-state=old"],
      ["--log-level", "loud"], ["--max-txn-ops", "0"], ["--max-request-bytes", "1e6"],
      ["--quota-backend-bytes", "99999999999999999999"],
    ])
    func flags(arguments: [String]) throws {
      let folder = TestFolder()
      let data = "\(folder.path)/data"
      let outcome = try martlet.run(["store", "--data-dir", data] + arguments, seconds: 10)
      #expect(outcome.status == 2)
      #expect(outcome.errors.hasPrefix("martlet: "))
      #expect(outcome.errors.split(separator: "\n").count == 1, "\(outcome.errors)")
      #expect(!FileManager.default.fileExists(atPath: data))
    }

    /// Every flag is read from the environment too, and the command line wins; dashes and `=` are free.
    @Test func environmentAndForms() throws {
      let member = try Lone()
      let environment = [
        "ETCD_NAME": "by-environment", "ETCD_DATA_DIR": member.data,
        "ETCD_LISTEN_CLIENT_URLS": member.client, "ETCD_LISTEN_PEER_URLS": member.peer,
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": member.peer, "ETCD_LOG_LEVEL": "loud",
      ]
      let process = try martlet.start(
        ["store", "-log-level=warn"], environment: environment)
      #expect(member.isHealthy())
      process.signal(SIGTERM)
      #expect(process.waitUntilExit(seconds: 10))
      #expect(process.status == 0)
      #expect(FileManager.default.fileExists(atPath: "\(member.data)/wal"))
    }

    @Test func aDataDirectoryInUse() throws {
      let member = try Lone()
      let process = try martlet.start(member.arguments)
      #expect(member.isHealthy())
      let other = try Lone(data: member.data)
      let outcome = try martlet.run(other.arguments, seconds: 10)
      expectFailure(outcome, naming: member.data)
      #expect(member.isHealthy(), "the one that runs is not disturbed")
      process.kill()
    }

    @Test func portsInUse() throws {
      let member = try Lone()
      let process = try martlet.start(member.arguments)
      #expect(member.isHealthy())
      let sameClient = try Lone(client: member.clientPort)
      expectFailure(try martlet.run(sameClient.arguments, seconds: 10), naming: "listen")
      let samePeer = try Lone(peer: member.peerPort)
      expectFailure(try martlet.run(samePeer.arguments, seconds: 10), naming: "listen")
      #expect(member.isHealthy())
      process.kill()
    }

    @Test func dataOfAnotherCluster() throws {
      let member = try Lone()
      try member.runOnce()
      let outcome = try martlet.run(
        member.arguments + ["--initial-cluster-token", "another"], seconds: 10)
      expectFailure(outcome, naming: "--data-dir")
    }

    @Test func dataOfEtcd() throws {
      let folder = TestFolder()
      let member = try Lone(data: folder.path)
      try FileManager.default.createDirectory(
        atPath: "\(folder.path)/member/wal", withIntermediateDirectories: true)
      expectFailure(try martlet.run(member.arguments, seconds: 10), naming: "etcd")
    }

    @Test func aFileAsDataDirectory() throws {
      let folder = TestFolder()
      try "".write(toFile: "\(folder.path)/file", atomically: false, encoding: .utf8)
      let member = try Lone(data: "\(folder.path)/file")
      expectFailure(try martlet.run(member.arguments, seconds: 10), naming: "\(folder.path)/file")
    }

    /// A damaged byte with whole records behind it is no torn end: the member says where, and stops.
    @Test(.enabled(if: Peers.etcdctl != nil, Missing.etcdctl)) func aDamagedLog() throws {
      let member = try Lone()
      let process = try martlet.start(member.arguments)
      #expect(member.isHealthy())
      for index in 0..<10 { try put(member, "key-\(index)") }
      process.kill()
      let log = "\(member.data)/wal/0000000000000001.wal"
      let handle = try #require(FileHandle(forUpdatingAtPath: log))
      let start = try #require(try handle.read(upToCount: 1 << 16))
      let key = try #require(start.range(of: Data("key-4".utf8)))
      try handle.seek(toOffset: UInt64(key.lowerBound))
      try handle.write(contentsOf: Data("KEY".utf8))
      try handle.close()
      let outcome = try martlet.run(member.arguments, seconds: 10)
      expectFailure(outcome, naming: log)
      #expect(outcome.errors.contains("at byte "), "\(outcome.errors)")
    }

    /// The snapshot before the newest is kept, with the log behind it, for just this case.
    @Test(.enabled(if: Peers.etcdctl != nil, Missing.etcdctl)) func aDamagedSnapshot() throws {
      let member = try Lone()
      let arguments = member.arguments + ["--snapshot-count", "15"]
      let process = try martlet.start(arguments)
      #expect(member.isHealthy())
      for index in 0..<50 { try put(member, "key-\(index)") }
      process.kill()
      let folder = "\(member.data)/snap"
      let files = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
      #expect(files.count == 2)
      let newest = "\(folder)/\(try #require(files.last))"
      var bytes = try #require(FileManager.default.contents(atPath: newest))
      bytes[bytes.count / 2] ^= 0xFF
      try bytes.write(to: URL(fileURLWithPath: newest))
      let again = try martlet.start(arguments)
      #expect(member.isHealthy())
      let outcome = try Peers.etcdctl!.run(
        ["--endpoints", "127.0.0.1:\(member.clientPort)", "get", "key", "--prefix", "--keys-only"])
      #expect(outcome.output.split(separator: "\n").count == 50)
      #expect(again.errors.contains(newest), "it says which file is damaged: \(again.errors)")
      again.kill()
    }

    private func put(_ member: Lone, _ key: String) throws {
      let outcome = try Peers.etcdctl!.run(
        ["--endpoints", "127.0.0.1:\(member.clientPort)", "put", key, "value"])
      #expect(outcome.output == "OK\n", "\(outcome.errors)")
    }

    private var martlet: Program { Peers.martlet! }

    /// Status 1, and one line that says what is the matter.
    private func expectFailure(_ outcome: Program.Outcome, naming text: String) {
      #expect(outcome.status == 1, "\(outcome.errors)")
      let complaint = outcome.errors.split(separator: "\n").filter { $0.hasPrefix("martlet: ") }
      #expect(complaint.count == 1 && complaint[0].contains(text), "\(outcome.errors)")
    }
  }
}

/// Flags of a member alone.
private final class Lone {
  let clientPort: Int
  let peerPort: Int
  let data: String
  private let folder = TestFolder()

  init(data: String? = nil, client: Int? = nil, peer: Int? = nil) throws {
    clientPort = try client ?? Loopback.freePort()
    peerPort = try peer ?? Loopback.freePort()
    self.data = data ?? "\(folder.path)/data"
  }

  var client: String { "http://127.0.0.1:\(clientPort)" }
  var peer: String { "http://127.0.0.1:\(peerPort)" }

  var arguments: [String] {
    [
      "store", "--data-dir", data, "--listen-client-urls", client, "--listen-peer-urls", peer,
      "--initial-advertise-peer-urls", peer, "--log-level", "warn",
    ]
  }

  func isHealthy() -> Bool {
    waitUntil(seconds: 15) {
      Loopback.get(port: clientPort, path: "/health")?.contains(#""health":"true""#) == true
    }
  }

  /// Starts it, waits until it is healthy, and kills it.
  func runOnce() throws {
    let process = try Peers.martlet!.start(arguments)
    #expect(isHealthy())
    process.kill()
  }
}
