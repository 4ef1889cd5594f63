import ArgumentParser
import Bolt
import Crypto
import EtcdImport
import Foundation
import Persistence
import Primitives
import Replica

#if canImport(Glibc)
  import Glibc
#endif

/// `martlet util import`: the way from etcd to Martlet.
struct ImportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import",
    abstract: "Make the data directory of a new cluster's member from an etcd snapshot.",
    discussion: """
      Takes over all of an etcd v3 store: keys with the history that the snapshot has, their revisions and
      versions, leases, users, roles and alarms. Members are not: as with 'etcdutl snapshot restore', the
      flags say who the new cluster's are, and each of them is made from the same file.

        etcdctl snapshot save etcd.snap
        martlet util import etcd.snap --data-dir imported
        martlet store --data-dir imported

      Revisions stay what they are, so take the snapshot when nobody writes any more. Where somebody may have,
      --bump-revision passes revisions over, and clients that watch are told to begin anew.
      """)

  @Argument(help: "The snapshot file, of etcd 3.")
  var file: String

  @OptionGroup(title: "Member")
  var member: FoundingMember

  @Option(help: "How many revisions are passed over.")
  var bumpRevision: Int64 = 0

  @Flag(help: "Compact everything before (required with --bump-revision, disallowed otherwise).")
  var markCompacted = false

  @Flag(help: "Ignore the SHA-256 at the snapshot's end, or that there is none.")
  var skipHashCheck = false

  func run() throws {
    guard bumpRevision >= 0 else { throw UsageFailure("--bump-revision must not be negative") }
    guard markCompacted == (bumpRevision > 0) else {
      throw UsageFailure(
        "--mark-compacted is required if --bump-revision is above 0, and disallowed otherwise")
    }
    let place = try member.place()
    let snapshot = try EtcdSnapshotFile(file)
    let digest = try snapshot.verify(skipsHashCheck: skipHashCheck)
    do {
      // Members of one cluster are made from one file, so its hash is as good a beginning as any.
      let (store, summary) = try snapshot.backend().load(stateHash: digest)
      let revision = try SnapshotRestore.found(
        store, into: place.directory, identity: place.identity, founders: place.founders,
        alarms: summary.alarms.compactMap(Alarm.init), bump: bumpRevision,
        fileSystem: LinuxFileSystem())
      report(summary, revision, place.directory)
    } catch {
      throw StartFailure("cannot import \(file): \(error)")
    }
  }

  private func report(
    _ summary: EtcdBackend.Summary, _ revision: Revision, _ directory: String
  ) {
    print(
      """
      imported \(directory) at revision \(revision): \(summary.keys) keys, \(summary.olderRecords) older \
      records\(summary.compactRevision < 0 ? "" : " (compacted at \(summary.compactRevision))"), \
      \(summary.leases) leases, \(summary.users) users, \(summary.roles) roles, authentication \
      \(summary.isAuthEnabled ? "enabled" : "disabled")
      """)
    if summary.keysWithoutTheirLease > 0 {
      print(
        "note: \(summary.keysWithoutTheirLease) keys named leases that the snapshot doesn't have; they are "
          + "kept, and don't expire")
    }
    for alarm in summary.alarms {
      print(
        "note: alarm \(alarm.kind) of member \(String(alarm.member, radix: 16)) is raised, as it was; "
          + "see 'etcdctl alarm list'")
    }
  }
}

/// A snapshot of etcd: a bbolt database, and the SHA-256 of it unless it is a copy of a member's file.
final class EtcdSnapshotFile {
  private let path: String
  private let descriptor: CInt
  private let size: UInt64
  private static let checksumBytes: UInt64 = 32

  init(_ path: String) throws {
    self.path = path
    descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw StartFailure("cannot read \(path): \(String(cString: strerror(errno)))")
    }
    let end = lseek(descriptor, 0, SEEK_END)
    size = UInt64(max(end, 0))
  }

  deinit { close(descriptor) }

  /// Whether the file ends with a checksum: a database is made of pages, so that its size tells.
  private var hasChecksum: Bool { size % 512 == Self.checksumBytes }
  private var databaseBytes: UInt64 { hasChecksum ? size - Self.checksumBytes : size }

  func backend() throws -> EtcdBackend {
    try EtcdBackend(size: databaseBytes) { [self] offset, count in try read(offset, count) }
  }

  /// Checks the checksum. O(file).
  ///
  /// - Returns: the first 64 bits of the database's SHA-256.
  func verify(skipsHashCheck: Bool) throws -> UInt64 {
    do { _ = try backend() } catch {
      let isOurs = try size > 48 && read(size - 40, 8) == Array("MARTLETB".utf8)
      throw StartFailure(
        isOurs
          ? "\(path) is a snapshot of Martlet: use 'martlet util snapshot restore'"
          : "\(path) is no etcd snapshot: \(error)")
    }
    guard hasChecksum || skipsHashCheck else {
      throw StartFailure(
        "\(path) has no SHA-256 at its end, as a copy of a member's file hasn't; snapshot missing hash but "
          + "--skip-hash-check=false")
    }
    var digest = SHA256()
    var offset: UInt64 = 0
    while offset < databaseBytes {
      let piece = try read(offset, Int(min(1 << 20, databaseBytes - offset)))
      guard !piece.isEmpty else { throw StartFailure("\(path) became shorter while it was read") }
      digest.update(data: piece)
      offset += UInt64(piece.count)
    }
    let sum = Array(digest.finalize())
    if hasChecksum, !skipsHashCheck {
      guard try read(databaseBytes, 32) == sum else {
        throw StartFailure(
          "\(path) is damaged: its SHA-256 does not match; use another snapshot "
            + "(--skip-hash-check ignores this)")
      }
    }
    return sum.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
  }

  private func read(_ offset: UInt64, _ count: Int) throws -> [UInt8] {
    guard offset <= UInt64(Int64.max) else { return [] }
    var filled = 0
    let bytes = try [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      while filled < count {
        let got = pread(
          descriptor, buffer.baseAddress! + filled, count - filled, off_t(offset) + off_t(filled))
        if got < 0 && errno == EINTR { continue }
        guard got >= 0 else {
          throw StartFailure("cannot read \(path): \(String(cString: strerror(errno)))")
        }
        if got == 0 { break }
        filled += got
      }
      initialized = filled
    }
    return bytes
  }
}

extension Alarm {
  /// An alarm of etcd's; nil for a kind that there isn't.
  fileprivate init?(_ alarm: EtcdAlarm) {
    guard let kind = UInt8(exactly: alarm.kind).flatMap(Kind.init(rawValue:)) else { return nil }
    self.init(kind, member: NodeID(alarm.member))
  }
}
