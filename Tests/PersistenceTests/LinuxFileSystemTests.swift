import Foundation
import Persistence
import Primitives
import Raft
import Testing

/// A folder of its own, removed at the end of the test.
final class TemporaryFolder {
  let path: String
  init() throws {
    path = FileManager.default.temporaryDirectory.path + "/martlet-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// The same on a real disk.
@Suite struct LinuxFileSystemTests {
  @Test func theLogSurvivesReopening() throws {
    let folder = try TemporaryFolder()
    let disk = LinuxFileSystem()
    let settings = LogSettings(segmentBytes: 1 << 20, compressionThreshold: 4096)
    func open(after index: LogIndex = .zero, term: Term = .zero) throws -> (
      WriteAheadLog, RecoveredLog
    ) {
      let opened = try WriteAheadLog.recover(
        directory: folder.path + "/member/wal", identity: LogHarness.identity,
        snapshotIndex: index, snapshotTerm: term, fileSystem: disk, settings: settings)
      return (opened.log, opened.recovered)
    }
    var (log, _) = try open()
    var expected: [Entry] = []
    for index in 1...300 as ClosedRange<UInt64> {
      let entries = makeEntries(index, bytes: Int(index) * 50)
      expected += entries
      try log.completed(log.append(hardState: nil, entries: entries).perform(on: disk))
      while let job = log.takeMaintenance() { try log.completed(job.perform(on: disk)) }
    }
    let read = try log.readJob(from: LogIndex(5), through: LogIndex(9), maxBytes: .max)
    #expect(
      try log.entries(of: read, from: read.job.perform(on: disk)) == [Entry](expected[4...8]))
    let locked = #expect(throws: PersistenceError.self) { try open() }
    #expect(locked?.code == .locked)
    try log.close(on: disk)
    let (again, recovered) = try open(after: LogIndex(100), term: Term(1))
    #expect(recovered.entries == [Entry](expected[100...]))
    #expect(again.lastIndex == LogIndex(300))
  }

  @Test func snapshotsSurviveToo() throws {
    let folder = try TemporaryFolder()
    let disk = LinuxFileSystem()
    let directory = folder.path + "/snapshots"
    var catalog = try SnapshotCatalog.open(
      directory: directory, clusterID: 0xC1, fileSystem: disk)
    let sample = SampleSnapshot.large(bytes: 3_000_000)
    var writer = try SnapshotWriter(
      directory: directory, clusterID: 0xC1, index: sample.index, term: sample.term)
    var rest = sample.pieces[...]
    catalog.add(try writer.write(on: disk) { rest.popFirst() })
    var reopened = try SnapshotCatalog.open(
      directory: directory, clusterID: 0xC1, fileSystem: disk)
    #expect(reopened.files == catalog.files)
    let newest = try reopened.newest(disk)
    var reader = try #require(newest.reader)
    #expect(try SampleSnapshot.contents { try reader.next() } == sample.contents)
  }

  @Test func errorsNameThePathAndTheCause() throws {
    let folder = try TemporaryFolder()
    let disk = LinuxFileSystem()
    let path = folder.path + "/none"
    let missing = #expect(throws: PersistenceError.self) {
      try disk.read(path, at: 0, count: 1)
    }
    #expect(missing?.code == .missing)
    #expect(missing?.path == path)
    #expect(missing?.message.contains("No such file or directory") == true)
    #expect(try disk.size(path) == nil)
    // A file where a directory should be.
    _ = try disk.perform(.write(path: path, offset: 0, bytes: .array([1])))
    #expect(throws: PersistenceError.self) {
      try disk.perform(.createDirectory(path: path))
    }
    #expect(throws: PersistenceError.self) { try disk.list(path) }
  }

  @Test func operationsDoWhatTheySay() throws {
    let folder = try TemporaryFolder()
    let disk = LinuxFileSystem()
    let path = folder.path + "/a/b/file"
    _ = try disk.perform(.createDirectory(path: folder.path + "/a/b"))
    _ = try disk.perform(.createDirectory(path: folder.path + "/a/b"))
    _ = try disk.perform(.write(path: path, offset: 3, bytes: .array([1, 2, 3])))
    #expect(try disk.read(path, at: 0, count: 100) == [0, 0, 0, 1, 2, 3])
    #expect(try disk.read(path, at: 99, count: 100) == [])
    _ = try disk.perform(.allocate(path: path, size: 5_000_000))
    #expect(try disk.size(path) == 5_000_000)
    #expect(try disk.read(path, at: 0, count: 6) == [0, 0, 0, 0, 0, 0])
    _ = try disk.perform(.syncData(path: path))
    _ = try disk.perform(.truncate(path: path, size: 10))
    _ = try disk.perform(.rename(from: path, to: path + "2"))
    #expect(try disk.list(folder.path + "/a/b") == ["file2"])
    // The open file is found under its new name only.
    #expect(throws: PersistenceError.self) { try disk.read(path, at: 0, count: 1) }
    #expect(try disk.read(path + "2", at: 0, count: 100).count == 10)
    _ = try disk.perform(.remove(path: path + "2"))
    _ = try disk.perform(.remove(path: path + "2"))
    #expect(try disk.size(path + "2") == nil)
    guard case .space(let available, let total) = try disk.perform(.space(path: folder.path)) else {
      Issue.record("no answer")
      return
    }
    #expect(available > 0 && available <= total)
  }
}
