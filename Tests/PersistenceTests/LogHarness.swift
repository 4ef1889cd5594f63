import Persistence
import Primitives
import Raft
import SimulatedStorage

/// What the tests of the log share: a small log on a simulated disk.
struct LogHarness {
  static let identity = LogIdentity(clusterID: 0xC1, memberID: NodeID(0xA))
  static let directory = "/data/wal"

  let disk: SimulatedDisk
  var settings: LogSettings
  var log: WriteAheadLog
  var recovered: RecoveredLog

  init(
    disk: SimulatedDisk = SimulatedDisk(seed: 1),
    settings: LogSettings = LogSettings(segmentBytes: 4096, compressionThreshold: nil),
    snapshotIndex: LogIndex = .zero, snapshotTerm: Term = .zero
  ) throws {
    self.disk = disk
    self.settings = settings
    (log, recovered) = try WriteAheadLog.recover(
      directory: Self.directory, identity: Self.identity, snapshotIndex: snapshotIndex,
      snapshotTerm: snapshotTerm, fileSystem: disk, settings: settings)
  }

  /// Appends, writes and syncs.
  mutating func append(_ entries: [Entry], hardState: HardState? = nil) throws {
    let job = log.append(hardState: hardState, entries: entries)
    try log.completed(job.perform(on: disk))
  }

  mutating func runMaintenance() throws {
    while let job = log.takeMaintenance() { try log.completed(job.perform(on: disk)) }
  }

  mutating func read(_ range: ClosedRange<LogIndex>, maxBytes: Int = .max) throws -> [Entry] {
    let read = try log.readJob(
      from: range.lowerBound, through: range.upperBound, maxBytes: maxBytes)
    return try log.entries(of: read, from: read.job.perform(on: disk))
  }

  /// Opens the log anew, as after a crash.
  func reopened(snapshotIndex: LogIndex = .zero, snapshotTerm: Term = .zero) throws -> LogHarness {
    disk.killProcess()
    return try LogHarness(
      disk: disk, settings: settings, snapshotIndex: snapshotIndex, snapshotTerm: snapshotTerm)
  }

  /// The segment files, by name.
  var segments: [String] { disk.paths.filter { $0.hasSuffix(".wal") } }
}

/// Entries `first...` of one term with payloads of `bytes` bytes that name their index.
func makeEntries(_ first: UInt64, count: Int = 1, term: UInt64 = 1, bytes: Int = 24) -> [Entry] {
  (0..<count).map { step in
    let index = first + UInt64(step)
    var payload = [UInt8]("entry \(index) of term \(term) ".utf8)
    while payload.count < bytes { payload.append(UInt8(truncatingIfNeeded: payload.count)) }
    return Entry(index: LogIndex(index), term: Term(term), payload: payload)
  }
}
