import Persistence
import Primitives
import Raft
import SimulatedStorage
import Testing

/// Whatever bytes lie on disk, reading them ends in a value or an error, never in a trap.
@Suite struct DecoderFuzzTests {
  /// Damages `bytes` in a way that disks, editors and bad copies do.
  static func mutate(_ bytes: inout [UInt8], _ random: inout RandomSource) {
    guard !bytes.isEmpty else { return }
    for _ in 0...random.below(4) {
      let place = Int(random.below(UInt64(bytes.count)))
      switch random.below(5) {
      case 0: bytes[place] = UInt8(truncatingIfNeeded: random.next())
      case 1: bytes[place] = [0, 0xFF, 0x7F, 0x80][Int(random.below(4))]
      case 2:
        let end = min(bytes.count, place + Int(random.below(64)))
        for spot in place..<end { bytes[spot] = 0xFF }
      case 3:
        let from = Int(random.below(UInt64(bytes.count)))
        let count = min(bytes.count - place, bytes.count - from, 40)
        bytes.replaceSubrange(place..<(place + count), with: [UInt8](bytes[from..<(from + count)]))
      default: bytes.swapAt(place, Int(random.below(UInt64(bytes.count))))
      }
    }
  }

  @Test func damagedLogsNeverTrap() throws {
    for seed in 0..<1000 as Range<UInt64> {
      var random = RandomSource(seed: seed)
      var harness = try LogHarness(
        settings: LogSettings(segmentBytes: 2048, compressionThreshold: 200))
      for index in 1...6 as ClosedRange<UInt64> {
        try harness.append(
          makeEntries(index * 2 - 1, count: 2, bytes: 400),
          hardState: HardState(term: Term(1), vote: NodeID(9), commit: LogIndex(index)))
      }
      for path in harness.segments {
        var bytes = harness.disk.contents(of: path) ?? []
        Self.mutate(&bytes, &random)
        harness.disk.overwrite(path, with: bytes)
      }
      _ = try? harness.reopened()
    }
  }

  /// With the checksums made right again the bodies themselves are decoded.
  @Test func damagedBatchesWithGoodChecksumsNeverTrap() throws {
    for seed in 0..<6000 as Range<UInt64> {
      var random = RandomSource(seed: seed)
      var harness = try LogHarness(
        settings: LogSettings(
          segmentBytes: 2048, compressionThreshold: seed % 2 == 0 ? nil : 100))
      try harness.append(
        makeEntries(1, count: 3, bytes: 300),
        hardState: HardState(term: Term(1), vote: NodeID(9), commit: LogIndex(1)))
      let path = harness.segments[0]
      var bytes = harness.disk.contents(of: path) ?? []
      let length = Int(bytes[136]) | Int(bytes[137]) << 8
      var body = [UInt8](bytes[144..<(128 + length)])
      if seed % 3 == 0 {
        body = (0..<body.count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      } else {
        // Mostly the beginning, where the numbers are.
        var head = [UInt8](body[..<min(40, body.count)])
        Self.mutate(&head, &random)
        body.replaceSubrange(0..<head.count, with: head)
      }
      bytes.replaceSubrange(144..<(128 + length), with: body)
      if random.oneIn(3) { bytes[143] = UInt8(random.below(32)) }
      var seedBytes: [UInt8] = []
      seedBytes.append(littleEndian: UInt64(1))
      seedBytes.append(littleEndian: UInt64(128))
      let checksum = CRC32C.checksum(
        [UInt8](bytes[132..<(128 + length)]), seed: CRC32C.checksum(seedBytes))
      bytes.store(littleEndian: checksum, at: 128)
      harness.disk.overwrite(path, with: bytes)
      do {
        _ = try harness.reopened()
      } catch let error as PersistenceError {
        #expect([.corrupt, .newerFormat].contains(error.code), "\(error)")
      }
    }
  }

  /// The same for snapshots: both checksums of the file are made right again.
  @Test func damagedSnapshotsWithGoodChecksumsNeverTrap() throws {
    let disk = try SampleSnapshot.makeDisk()
    let file = try SampleSnapshot().write(on: disk)
    let whole = try #require(disk.contents(of: file.path))
    for seed in 0..<20_000 as Range<UInt64> {
      var random = RandomSource(seed: seed)
      var bytes = whole
      if random.oneIn(3) { bytes.removeLast(Int(random.below(UInt64(bytes.count)))) }
      Self.mutate(&bytes, &random)
      if bytes.count >= 64 {
        bytes.store(littleEndian: CRC32C.checksum([UInt8](bytes[..<60])), at: 60)
        let checksum = CRC32C.checksum([UInt8](bytes.dropLast(4)))
        bytes.store(littleEndian: checksum, at: bytes.count - 4)
      }
      disk.overwrite(file.path, with: bytes)
      do {
        _ = try SnapshotTests.read(file, on: disk)
      } catch let error as PersistenceError {
        #expect([.corrupt, .newerFormat, .foreign].contains(error.code), "\(error)")
      }
    }
  }
}
