import ArgumentParser
import Crypto
import Foundation
import Persistence
import Primitives
import Replica

#if canImport(Glibc)
  import Glibc
#endif

/// `martlet util snapshot`: what `etcdctl snapshot save` wrote of a Martlet store.
struct SnapshotTool: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "snapshot",
    abstract: "Take a snapshot, check one, or found a cluster from one.",
    discussion: """
      A snapshot is made by the running store; etcdctl and any other client of etcd's get the same:

        martlet util snapshot save backup.snap --endpoints http://127.0.0.1:2379
        martlet util snapshot status backup.snap -w table
        martlet util snapshot restore backup.snap --data-dir restored
        martlet store --data-dir restored
      """,
    subcommands: [Save.self, Status.self, Restore.self])

  /// A snapshot as a client got it, or a file of a member's `snap` folder.
  struct Blob {
    /// The snapshot file proper: `path` itself, or a part of it in a file of its own.
    let file: String
    private let copy: String?

    /// Checks the SHA-256 that a client's snapshot ends with, and takes the file out of it.
    init(_ path: String, skipsHashCheck: Bool) throws {
      guard let handle = FileHandle(forReadingAtPath: path) else {
        throw StartFailure("cannot read \(path): \(String(cString: strerror(errno)))")
      }
      defer { try? handle.close() }
      let size = try handle.seekToEnd()
      let checksumBytes = UInt64(SnapshotBlob.checksumBytes)
      guard size > checksumBytes + 16 else {
        throw StartFailure("\(path) is too short to be a snapshot")
      }
      try handle.seek(toOffset: size - checksumBytes - 16)
      let footer = [UInt8](try handle.read(upToCount: 16) ?? Data())
      let expected = [UInt8](try handle.read(upToCount: SnapshotBlob.checksumBytes) ?? Data())
      guard
        let length = SnapshotBlob.fileBytes(ofBlob: size - checksumBytes, footer: footer)
      else {
        if (try? EtcdSnapshotFile(path).backend()) != nil {
          throw StartFailure("\(path) is a snapshot of etcd: use 'martlet util import'")
        }
        // A member's own snapshot has checksums inside, which reading it verifies.
        file = path
        copy = nil
        return
      }
      let target = "\(path).\(getpid()).tmp"
      guard FileManager.default.createFile(atPath: target, contents: nil),
        let output = FileHandle(forWritingAtPath: target)
      else { throw StartFailure("cannot write \(target) beside the snapshot") }
      defer { try? output.close() }
      file = target
      copy = target
      try handle.seek(toOffset: 0)
      var digest = SHA256()
      var offset: UInt64 = 0
      while offset < size - checksumBytes {
        let count = Int(min(1 << 20, size - checksumBytes - offset))
        let piece = try handle.read(upToCount: count) ?? Data()
        guard !piece.isEmpty else { throw StartFailure("\(path) became shorter while it was read") }
        digest.update(data: piece)
        if offset < length { try output.write(contentsOf: piece.prefix(Int(length - offset))) }
        offset += UInt64(piece.count)
      }
      guard skipsHashCheck || Array(digest.finalize()) == expected else {
        try? FileManager.default.removeItem(atPath: target)
        throw StartFailure(
          "\(path) is damaged: its SHA-256 does not match; use another snapshot "
            + "(--skip-hash-check ignores this, but not damage inside)")
      }
    }

    func remove() { if let copy { try? FileManager.default.removeItem(atPath: copy) } }
  }

  struct Save: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Get a snapshot from a member that runs: 'martlet ctl snapshot save'.")

    @OptionGroup var save: SaveSnapshotCommand.Save

    func run() async throws { try await save.run() }
  }

  struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Verify a snapshot and tell its hash, revision, keys and size.")

    @Argument(help: "The snapshot file.")
    var file: String

    @Option(name: [.short, .long], help: "simple, table or json.")
    var writeOut = "simple"

    func run() throws {
      guard ["simple", "table", "json"].contains(writeOut) else {
        throw UsageFailure("--write-out must be simple, table or json, not '\(writeOut)'")
      }
      let blob = try Blob(file, skipsHashCheck: false)
      defer { blob.remove() }
      let facts: SnapshotFacts
      do {
        facts = try SnapshotRestore.facts(of: blob.file, fileSystem: LinuxFileSystem())
      } catch {
        throw StartFailure("\(file) is no sound snapshot: \(error)")
      }
      let size = (try FileManager.default.attributesOfItem(atPath: file)[.size] as? Int) ?? 0
      let hash = UInt32(truncatingIfNeeded: facts.stateHash ^ (facts.stateHash >> 32))
      let revision = facts.revision.rawValue
      switch writeOut {
      case "json":
        print(
          #"{"hash":\#(hash),"revision":\#(revision),"totalKey":\#(facts.keys),"totalSize":\#(size)}"#
        )
      case "table":
        Self.printTable(
          ["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"],
          [String(hash, radix: 16), "\(revision)", "\(facts.keys)", Self.humanSize(size)])
      default:
        print(
          "\(String(hash, radix: 16)), \(revision), \(facts.keys), \(Self.humanSize(size))")
      }
    }

    /// As etcd writes sizes: powers of a thousand, two digits.
    static func humanSize(_ bytes: Int) -> String {
      let units = ["B", "kB", "MB", "GB", "TB"]
      var value = Double(bytes)
      var unit = 0
      while value >= 1000, unit < units.count - 1 {
        value /= 1000
        unit += 1
      }
      if unit == 0 { return "\(bytes) B" }
      return String(format: value < 10 ? "%.1f %@" : "%.0f %@", value, units[unit])
    }

    private static func printTable(_ titles: [String], _ values: [String]) {
      let widths = zip(titles, values).map { max($0.count, $1.count) }
      let line = "+" + widths.map { String(repeating: "-", count: $0 + 2) + "+" }.joined()
      func row(_ cells: [String]) -> String {
        "|"
          + zip(cells, widths).map { cell, width in
            let space = width - cell.count
            return " " + String(repeating: " ", count: space) + cell + " |"
          }.joined()
      }
      print([line, row(titles), line, row(values), line].joined(separator: "\n"))
    }
  }

  struct Restore: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Make the data directory of a new cluster's member from a snapshot.",
      discussion: """
        Every member of the new cluster is restored from the same file, each with its own name and peer
        URL and all with the same --initial-cluster. Revisions are passed over by default, and all before
        compacted: clients that watched the lost cluster are told to begin anew, and none takes a new
        revision for an old one that it has seen.
        """)

    @Argument(help: "The snapshot file.")
    var file: String

    @OptionGroup(title: "Member")
    var member: FoundingMember

    @Option(help: "How many revisions are passed over.")
    var bumpRevision: Int64 = 1_000_000_000

    @Flag(inversion: .prefixedNo, help: "Compact everything before (needed with a bump).")
    var markCompacted = true

    @Flag(help: "Ignore the SHA-256 at the snapshot's end.")
    var skipHashCheck = false

    func run() throws {
      guard bumpRevision >= 0 else { throw UsageFailure("--bump-revision must not be negative") }
      guard markCompacted || bumpRevision == 0 else {
        throw UsageFailure(
          "--no-mark-compacted needs --bump-revision 0: the revisions passed over never happened")
      }
      let place = try member.place()
      let blob = try Blob(file, skipsHashCheck: skipHashCheck)
      defer { blob.remove() }
      do {
        let revision = try SnapshotRestore.restore(
          blob.file, into: place.directory, identity: place.identity, founders: place.founders,
          bump: bumpRevision, fileSystem: LinuxFileSystem())
        print("restored \(place.directory) at revision \(revision)")
      } catch {
        throw StartFailure("cannot restore \(file): \(error)")
      }
    }
  }
}
