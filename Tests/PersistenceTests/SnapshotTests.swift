import Foundation
import Persistence
import Primitives
import SimulatedStorage
import Testing

/// A snapshot's content as a test writes it.
struct SampleSnapshot {
  static let directory = "/data/snapshots"
  var index = LogIndex(7)
  var term = Term(2)
  var pieces: [SnapshotPiece] = [
    .section(id: 1, name: "raft"), .bytes([UInt8]("index 7, term 2".utf8)),
    .section(id: 2, name: "records"),
    .bytes([UInt8](repeating: 0x61, count: 300)), .bytes([UInt8]("the end".utf8)),
    .section(id: 9, name: "empty"),
  ]

  /// Sections of `bytes` bytes each, half noise, half text.
  static func large(bytes: Int) -> SampleSnapshot {
    var random = RandomSource(seed: 5)
    var sample = SampleSnapshot()
    sample.pieces = []
    for id in 1...3 as ClosedRange<UInt32> {
      sample.pieces.append(.section(id: id, name: "section \(id)"))
      var left = bytes
      while left > 0 {
        let count = min(left, Int(random.below(700_000)) + 1)
        let isNoise = random.oneIn(2)
        let noise = random.next()
        sample.pieces.append(
          .bytes(
            (0..<count).map { place in
              isNoise
                ? UInt8(truncatingIfNeeded: (noise &* UInt64(place | 1)) >> 29)
                : UInt8(truncatingIfNeeded: place / 50)
            }))
        left -= count
      }
    }
    return sample
  }

  func writer() throws -> SnapshotWriter {
    try SnapshotWriter(directory: Self.directory, clusterID: 0xC1, index: index, term: term)
  }

  func write(on fileSystem: some FileSystem) throws -> SnapshotFile {
    var writer = try writer()
    var rest = pieces[...]
    return try writer.write(on: fileSystem) { rest.popFirst() }
  }

  /// The content by section, pieces joined.
  static func contents(_ next: () throws -> SnapshotPiece?) rethrows -> [UInt32: [UInt8]] {
    var found: [UInt32: [UInt8]] = [:]
    var current: UInt32 = 0
    while let piece = try next() {
      switch piece {
      case .section(let id, _):
        current = id
        found[id] = []
      case .bytes(let bytes): found[current, default: []] += bytes
      }
    }
    return found
  }

  var contents: [UInt32: [UInt8]] {
    var rest = pieces[...]
    return Self.contents { rest.popFirst() }
  }

  static func makeDisk(seed: UInt64 = 1) throws -> SimulatedDisk {
    let disk = SimulatedDisk(seed: seed)
    _ = try SnapshotCatalog.open(directory: directory, clusterID: 0xC1, fileSystem: disk)
    return disk
  }
}

@Suite struct SnapshotTests {
  static func read(_ file: SnapshotFile, on disk: any FileSystem) throws -> [UInt32: [UInt8]] {
    var reader = try SnapshotReader(path: file.path, clusterID: 0xC1, fileSystem: disk)
    return try SampleSnapshot.contents { try reader.next() }
  }

  @Test(arguments: [0, 1, 5_000, 3_000_000]) func whatWasWrittenIsRead(bytes: Int) throws {
    let disk = try SampleSnapshot.makeDisk()
    let sample = SampleSnapshot.large(bytes: bytes)
    let file = try sample.write(on: disk)
    #expect(try Self.read(file, on: disk) == sample.contents)
    #expect(disk.contents(of: file.path).map { UInt64($0.count) } == file.bytes)
  }

  @Test func smallSectionsAreReadById() throws {
    let disk = try SampleSnapshot.makeDisk()
    let file = try SampleSnapshot().write(on: disk)
    let reader = try SnapshotReader(path: file.path, clusterID: nil, fileSystem: disk)
    #expect(try reader.contents(ofSection: 1) == [UInt8]("index 7, term 2".utf8))
    #expect(try reader.contents(ofSection: 9) == [])
    #expect(try reader.contents(ofSection: 3) == nil)
    #expect(throws: PersistenceError.self) { try reader.contents(ofSection: 2, maxBytes: 100) }
    #expect(reader.sections.map(\.name) == ["raft", "records", "empty"])
  }

  @Test func everyStepIsBounded() throws {
    let disk = try SampleSnapshot.makeDisk()
    var sample = SampleSnapshot()
    // One piece far larger than a step.
    sample.pieces = [
      .section(id: 1, name: "large"), .bytes([UInt8](repeating: 1, count: 10 << 20)),
    ]
    var writer = try sample.writer()
    var rest = sample.pieces[...]
    var steps = 0
    while let job = try writer.step({ rest.popFirst() }) {
      for case .write(_, _, let bytes) in job.operations { #expect(bytes.count < 2 << 20) }
      try writer.completed(job.perform(on: disk))
      steps += 1
    }
    #expect(steps >= 10)
    #expect(try Self.read(#require(writer.file), on: disk) == sample.contents)
  }

  @Test func damageToAnyByteIsDetected() throws {
    let disk = try SampleSnapshot.makeDisk()
    let file = try SampleSnapshot().write(on: disk)
    for offset in 0..<Int(file.bytes) {
      for bit in 0..<8 as Range<UInt8> {
        disk.flipBit(file.path, at: offset, bit: bit)
        defer { disk.flipBit(file.path, at: offset, bit: bit) }
        let error = #expect(throws: PersistenceError.self) {
          try SnapshotReader(path: file.path, clusterID: 0xC1, fileSystem: disk)
        }
        #expect(error?.code == .corrupt, "byte \(offset)")
      }
    }
    #expect(try Self.read(file, on: disk) == SampleSnapshot().contents)
  }

  @Test func aFileCutAtAnyLengthIsDetected() throws {
    let disk = try SampleSnapshot.makeDisk()
    let file = try SampleSnapshot().write(on: disk)
    let whole = try #require(disk.contents(of: file.path))
    for length in 0..<whole.count {
      disk.overwrite(file.path, with: [UInt8](whole[..<length]))
      #expect(throws: PersistenceError.self) { try Self.read(file, on: disk) }
    }
  }

  @Test func anotherClustersSnapshotIsRefused() throws {
    let disk = try SampleSnapshot.makeDisk()
    let file = try SampleSnapshot().write(on: disk)
    let error = #expect(throws: PersistenceError.self) {
      try SnapshotReader(path: file.path, clusterID: 0xC2, fileSystem: disk)
    }
    #expect(error?.code == .foreign)
  }

  /// Whenever the power fails, the snapshot is there whole or the one before is.
  @Test func aCrashWhileWritingLeavesTheOlderOne() throws {
    let sample = SampleSnapshot.large(bytes: 400_000)
    for seed in 0..<120 as Range<UInt64> {
      let disk = try SampleSnapshot.makeDisk(seed: seed)
      var older = SampleSnapshot()
      older.index = LogIndex(3)
      _ = try older.write(on: disk)
      disk.failPower(after: Int(seed % 12) + 1)
      let isWritten = (try? sample.write(on: disk)) != nil
      disk.crash()
      var catalog = try SnapshotCatalog.open(
        directory: SampleSnapshot.directory, clusterID: 0xC1, fileSystem: disk)
      let (reader, rejected) = try catalog.newest(disk)
      #expect(rejected.isEmpty, "seed \(seed)")
      let index = try #require(reader).file.index
      #expect(index == LogIndex(7) || (!isWritten && index == LogIndex(3)), "seed \(seed)")
      if let purge = catalog.takePurge(keeping: 1) { _ = purge.perform(on: disk) }
      #expect(disk.paths.count == 1)
    }
  }

  @Test func aFullDiskEndsTheWriterOnly() throws {
    let disk = try SampleSnapshot.makeDisk()
    let older = try SampleSnapshot().write(on: disk)
    disk.capacity = older.bytes + 1000
    var sample = SampleSnapshot.large(bytes: 400_000)
    sample.index = LogIndex(8)
    var writer = try sample.writer()
    var rest = sample.pieces[...]
    let error = #expect(throws: PersistenceError.self) {
      try writer.write(on: disk) { rest.popFirst() }
    }
    #expect(error?.code == .diskFull)
    _ = try writer.abandon().perform(on: disk).outcome.get()
    #expect(disk.paths == [older.path])
  }

  @Test func aDamagedNewestGivesWayToTheOneBefore() throws {
    let disk = try SampleSnapshot.makeDisk()
    var catalog = try SnapshotCatalog.open(
      directory: SampleSnapshot.directory, clusterID: 0xC1, fileSystem: disk)
    var sample = SampleSnapshot()
    for index in 1...3 as ClosedRange<UInt64> {
      sample.index = LogIndex(index)
      catalog.add(try sample.write(on: disk))
    }
    disk.flipBit(catalog.files[0].path, at: 90)
    let (reader, rejected) = try catalog.newest(disk)
    #expect(reader?.file.index == LogIndex(2))
    #expect(rejected.map(\.code) == [.corrupt])
    // The damaged one doesn't count among those kept, and stays until it is replaced.
    #expect(catalog.takePurge(keeping: 2) == nil)
    sample.index = LogIndex(4)
    catalog.add(try sample.write(on: disk))
    let job = catalog.takePurge(keeping: 2)
    let purge = try #require(job)
    _ = try purge.perform(on: disk).outcome.get()
    #expect(catalog.files.map(\.index) == [LogIndex(4), LogIndex(2)])
    #expect(disk.paths == catalog.files.map(\.path).sorted())
  }

  @Test func aTransferContinuesWhereItBrokeOff() throws {
    let source = try SampleSnapshot.makeDisk()
    let sample = SampleSnapshot.large(bytes: 300_000)
    let file = try sample.write(on: source)
    for seed in 0..<50 as Range<UInt64> {
      var random = RandomSource(seed: seed)
      let disk = try SampleSnapshot.makeDisk(seed: seed)
      func receiver() throws -> SnapshotReceiver {
        try SnapshotReceiver(
          directory: SampleSnapshot.directory, clusterID: 0xC1, index: file.index, term: file.term,
          bytes: file.bytes, checksum: file.checksum, fileSystem: disk)
      }
      var target = try receiver()
      var installed: SnapshotFile?
      while installed == nil {
        while !target.isComplete {
          // Chunks repeat and overlap.
          let back = random.oneIn(3) ? min(target.offset, random.below(20_000)) : 0
          let offset = target.offset - back
          let answer = file.chunkJob(
            ticket: DiskTicket(rawValue: 0), at: offset, maxBytes: Int(random.below(60_000)) + 1
          ).perform(on: source)
          guard case .bytes(let chunk) = try answer.outcome.get()[0] else { return }
          if let job = try target.append(chunk, at: offset) {
            try target.completed(job.perform(on: disk))
          }
          if random.oneIn(10) {
            if random.oneIn(2) { disk.crash() } else { disk.killProcess() }
            target = try receiver()
          }
        }
        // A crash may have left holes; then the transfer starts over.
        installed = try? target.install(on: disk)
        #expect(installed != nil || target.offset == 0)
      }
      disk.crash()
      #expect(try Self.read(#require(installed), on: disk) == sample.contents, "seed \(seed)")
    }
  }

  /// Found by reading the code for the simulator's sake: after a failed fsync the kernel shows bytes that the disk
  /// doesn't have, and the next fsync succeeds. The transfer that was tried again installed such a file.
  @Test(arguments: [false, true]) func aFailedSyncIsNotTriedAgainOnTheSameBytes(isRestarted: Bool) throws {
    let sample = SampleSnapshot.large(bytes: 20_000)
    let source = try SampleSnapshot.makeDisk()
    let file = try sample.write(on: source)
    let bytes = try #require(source.contents(of: file.path))
    for seed in 1...20 as ClosedRange<UInt64> {
      let disk = try SampleSnapshot.makeDisk(seed: seed)
      func receive(_ receiver: inout SnapshotReceiver) throws -> SnapshotFile {
        if let job = try receiver.append(bytes, at: 0) { try receiver.completed(job.perform(on: disk)) }
        return try receiver.install(on: disk)
      }
      func receiver() throws -> SnapshotReceiver {
        try SnapshotReceiver(
          directory: SampleSnapshot.directory, clusterID: 0xC1, index: file.index, term: file.term,
          bytes: file.bytes, checksum: file.checksum, fileSystem: disk)
      }
      var first = try receiver()
      disk.setFault { operation in
        switch operation {
        case .syncData: PersistenceError(.io, "Input/output error")
        // Whether the process dies before it has removed the file.
        case .remove: isRestarted ? PersistenceError(.io, "Input/output error") : nil as PersistenceError?
        default: nil
        }
      }
      #expect(throws: PersistenceError.self) { try receive(&first) }
      disk.setFault(nil)
      var second = try receiver()
      let installed = try receive(&second)
      disk.crash()
      #expect(try Self.read(installed, on: disk) == sample.contents, "seed \(seed)")
    }
  }

  @Test func chunksThatDontFitAreRefused() throws {
    let disk = try SampleSnapshot.makeDisk()
    var receiver = try SnapshotReceiver(
      directory: SampleSnapshot.directory, clusterID: 0xC1, index: LogIndex(1), term: Term(1),
      bytes: 100, checksum: 0, fileSystem: disk)
    #expect(throws: PersistenceError.self) { try receiver.append([1], at: 5) }
    #expect(throws: PersistenceError.self) {
      try receiver.append([UInt8](repeating: 0, count: 101), at: 0)
    }
    #expect(throws: PersistenceError.self) { try receiver.append([1], at: .max) }
    let whole = try receiver.append([UInt8](repeating: 0, count: 100), at: 0)
    let job = try #require(whole)
    try receiver.completed(job.perform(on: disk))
    let error = #expect(throws: PersistenceError.self) { try receiver.install(on: disk) }
    #expect(error?.code == .corrupt)
    #expect(disk.paths.isEmpty)
  }

  static let lz4 = "/usr/bin/lz4"

  @Test(
    .enabled(if: FileManager.default.isExecutableFile(atPath: lz4), "needs Debian's lz4 package"))
  func lz4AcceptsTheFile() throws {
    let folder = try TemporaryFolder()
    for sample in [SampleSnapshot(), SampleSnapshot.large(bytes: 2_000_000)] {
      let disk = try SampleSnapshot.makeDisk()
      let file = try sample.write(on: disk)
      let path = folder.path + "/sample.lz4"
      let bytes = try #require(disk.contents(of: file.path))
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      func run(_ arguments: [String]) throws -> Data {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Self.lz4)
        process.arguments = arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        return output
      }
      _ = try run(["-t", "-q", path])
      let contents = sample.contents
      let plain = contents.keys.sorted().flatMap { contents[$0] ?? [] }
      #expect(try run(["-d", "-c", "-q", path]) == Data(plain))
    }
  }
}
