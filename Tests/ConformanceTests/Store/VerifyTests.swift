import Foundation
import TestKit
import Testing

extension StoreConformance {
  /// A member's files, looked at while it is stopped.
  @Suite(.serialized, .enabled(if: Peers.etcdctl != nil, Missing.etcdctl))
  struct Verification {
    @Test("A stopped member's files are sound, and the log says what was asked")
    func sound() throws {
      let cluster = try StoreCluster(members: 1, flags: ["--snapshot-count", "40"])
      let ctl = Etcdctl(endpoints: cluster.endpoints)
      for index in 0..<60 { try ctl(["put", "k\(index)", "value"]) }
      try ctl(["txn"], input: "\nput t1 a\n\n\n")
      try ctl(["del", "k", "--prefix"])
      try ctl(["lease", "grant", "100"])
      try ctl(["user", "add", "alice:secret"])
      let data = cluster.dataDirectory(of: 0)
      let running = try util(["verify", "--data-dir", data])
      #expect(running.status == 1 && running.errors.contains("a member runs on"), "\(running)")
      #expect(cluster.stop(0) == 0)

      let verified = try util(["verify", "--data-dir", data])
      #expect(verified.status == 0, "\(verified)")
      #expect(verified.output.hasSuffix("\nsound\n"))
      #expect(verified.output.contains(".snapshot: index "))

      let log = try util(["dump-log", "--data-dir", data])
      #expect(log.status == 0, "\(log.errors)")
      for expected in [
        "\tput\tkey=\"k59\" value-bytes=5 lease=0\n", "\tdelete-range\tkey=\"k\" range-end=\"l\"\n",
        "\ttxn\tcompares=0 success=1 failure=0\n", "ttl=100\n", "\tuser-add\tname=\"alice\"",
        "\tpublish\tmember=",
      ] {
        #expect(log.output.contains(expected), "\(expected)")
      }
      #expect(!log.output.contains("secret") && !log.output.contains("$2"), "no password, no hash")
      let some = try util(["dump-log", "--data-dir", data, "--type", "txn", "-w", "json"])
      let line = try #require(some.output.split(separator: "\n").first)
      #expect(some.output.split(separator: "\n").count == 1)
      let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
      #expect(object?["type"] as? String == "txn" && object?["success"] as? Int == 1)
      let index = try #require(object?["index"] as? Int)
      let range = try util([
        "dump-log", "--data-dir", data, "--start-index", "\(index)", "--end-index", "\(index)",
      ])
      #expect(
        range.output.hasPrefix("\(index)\t") && range.output.split(separator: "\n").count == 1)
      // Nothing was changed: the member goes on.
      try cluster.start(0)
      try cluster.waitUntilHealthy()
    }

    @Test("Damage is told with file and byte, and what comes after it is read all the same")
    func damaged() throws {
      let cluster = try StoreCluster(members: 1)
      let ctl = Etcdctl(endpoints: cluster.endpoints)
      for index in 0..<30 { try ctl(["put", "k\(index)", String(repeating: "v", count: 300)]) }
      #expect(cluster.stop(0) == 0)
      let data = cluster.dataDirectory(of: 0)
      let segment = "\(data)/wal/0000000000000001.wal"
      let handle = try #require(FileHandle(forUpdatingAtPath: segment))
      try handle.seek(toOffset: 6_000)
      let byte = try #require(try handle.read(upToCount: 1)?.first)
      try handle.seek(toOffset: 6_000)
      try handle.write(contentsOf: Data([byte ^ 1]))
      try handle.close()
      let verified = try util(["verify", "--data-dir", data, "-w", "json"])
      #expect(verified.status == 1)
      let first = try #require(
        verified.output.split(separator: "\n").first { $0.contains("problem") })
      let problem = try JSONSerialization.jsonObject(with: Data(first.utf8)) as? [String: Any]
      #expect(problem?["file"] as? String == segment)
      let offset = try #require(problem?["offset"] as? Int)
      #expect(offset <= 6_000 && offset > 5_000)
      let log = try util(["dump-log", "--data-dir", data, "--type", "put"])
      #expect(log.status == 1)
      #expect(log.output.contains("\"k29\"") && log.output.split(separator: "\n").count == 29)

      let snapshot = try #require(
        try FileManager.default.contentsOfDirectory(atPath: "\(data)/snap").first)
      var bytes = try #require(FileManager.default.contents(atPath: "\(data)/snap/\(snapshot)"))
      bytes[70] ^= 1
      try bytes.write(to: URL(fileURLWithPath: "\(data)/snap/\(snapshot)"))
      let both = try util(["verify", "--data-dir", data])
      #expect(both.output.contains("\(snapshot) at byte "), "\(both.output)")
      #expect(try util(["verify", "--data-dir", "/nowhere"]).status == 1)
    }

    private func util(_ arguments: [String]) throws -> Program.Outcome {
      try Peers.martlet!.run(["util"] + arguments)
    }
  }
}
