import Persistence
import Primitives
import Raft
import SimulatedStorage
import Testing

@Suite struct WriteAheadLogTests {
  @Test func aNewDirectoryHoldsAnEmptyLog() throws {
    let harness = try LogHarness()
    #expect(harness.recovered.isNew)
    #expect(harness.recovered.entries.isEmpty)
    #expect(harness.log.firstIndex == LogIndex(1))
    #expect(
      try WriteAheadLog.identity(in: LogHarness.directory, fileSystem: harness.disk)
        == LogHarness.identity)
  }

  @Test func noDirectoryMeansNoIdentity() throws {
    #expect(try WriteAheadLog.identity(in: "/none", fileSystem: SimulatedDisk(seed: 1)) == nil)
  }

  @Test func whatWasAppendedIsThereAgain() throws {
    var harness = try LogHarness()
    let hardState = HardState(term: Term(2), vote: NodeID(0xB), commit: LogIndex(2))
    let entries =
      makeEntries(1, count: 2) + makeEntries(3, count: 2, term: 2) + [
        Entry(index: LogIndex(5), term: Term(2), kind: .membership, payload: [1, 2, 3]),
        Entry(index: LogIndex(6), term: Term(7)),
      ]
    try harness.append(entries, hardState: hardState)
    #expect(harness.log.durableIndex == LogIndex(6))
    let again = try harness.reopened()
    #expect(!again.recovered.isNew)
    #expect(again.recovered.entries == entries)
    #expect(again.recovered.hardState == hardState)
    #expect(again.recovered.lastTerm == Term(7))
  }

  @Test func oneBatchIsOneWriteAndOneSync() throws {
    var harness = try LogHarness()
    let job = harness.log.append(hardState: nil, entries: makeEntries(1, count: 10))
    #expect(job.operations.count == 2)
    let before = harness.disk.syncCount
    try harness.log.completed(job.perform(on: harness.disk))
    #expect(harness.disk.syncCount == before + 1)
  }

  @Test func openingAPreparedSegmentIsOneWriteAndOneSyncToo() throws {
    var harness = try LogHarness()
    try harness.runMaintenance()
    try harness.append(makeEntries(1, bytes: 3000))
    let job = harness.log.append(hardState: nil, entries: makeEntries(2, bytes: 3000))
    #expect(job.operations.count == 2)
    try harness.log.completed(job.perform(on: harness.disk))
    #expect(try harness.reopened().recovered.entries.count == 2)
  }

  @Test func aLowerFirstIndexReplacesWhatFollows() throws {
    var harness = try LogHarness()
    try harness.append(makeEntries(1, count: 5))
    try harness.append(makeEntries(3, count: 1, term: 2))
    #expect(harness.log.lastIndex == LogIndex(3))
    let expected = makeEntries(1, count: 2) + makeEntries(3, term: 2)
    #expect(try harness.read(LogIndex(1)...LogIndex(3)) == expected)
    #expect(try harness.reopened().recovered.entries == expected)
  }

  @Test func entriesThatAreReplacedAreNotDurableMeanwhile() throws {
    var harness = try LogHarness()
    try harness.append(makeEntries(1, count: 5))
    let job = harness.log.append(hardState: nil, entries: makeEntries(3, count: 1, term: 2))
    #expect(harness.log.durableIndex == LogIndex(2))
    #expect(throws: PersistenceError.self) { try harness.read(LogIndex(3)...LogIndex(3)) }
    try harness.log.completed(job.perform(on: harness.disk))
    #expect(harness.log.durableIndex == LogIndex(3))
  }

  @Test func batchesMayBeEncodedAheadOfTheDisk() throws {
    var harness = try LogHarness()
    let jobs = (0..<6).map { step in
      harness.log.append(hardState: nil, entries: makeEntries(UInt64(step) + 1, bytes: 1500))
    }
    for job in jobs { try harness.log.completed(job.perform(on: harness.disk)) }
    #expect(!harness.log.isWriting)
    #expect(try harness.reopened().recovered.entries.count == 6)
  }

  @Test func aBatchLargerThanASegmentGetsALargerOne() throws {
    var harness = try LogHarness(
      settings: LogSettings(segmentBytes: 4096, compressionThreshold: nil))
    let large = makeEntries(1, bytes: 20_000)
    try harness.append(large)
    try harness.append(makeEntries(2))
    let again = try harness.reopened()
    #expect(again.recovered.entries == large + makeEntries(2))
  }

  @Test func largeBatchesAreCompressedIfThatPays() throws {
    let plain = LogSettings(segmentBytes: 1 << 20, compressionThreshold: nil)
    let packed = LogSettings(segmentBytes: 1 << 20, compressionThreshold: 1024)
    var random = RandomSource(seed: 3)
    let noise = [
      Entry(
        index: LogIndex(2), term: Term(1),
        payload: (0..<50_000).map { _ in UInt8(truncatingIfNeeded: random.next()) })
    ]
    func used(_ settings: LogSettings, _ entries: [Entry]) throws -> UInt64 {
      var harness = try LogHarness(settings: settings)
      try harness.append(makeEntries(1))
      try harness.append(entries)
      let again = try harness.reopened()
      #expect(again.recovered.entries == makeEntries(1) + entries)
      #expect(try harness.read(LogIndex(2)...LogIndex(2)) == entries)
      return harness.log.bytesInUse
    }
    let regular = makeEntries(2, bytes: 50_000)
    #expect(try used(packed, regular) < used(plain, regular) / 10)
    #expect(try used(packed, noise) == used(plain, noise))
  }

  /// etcd spends 8 bytes of frame, some 11 of record, 12 of entry and 13 of request on each put, and a
  /// hard state record of 40 on each batch: 344 bytes and 40.
  @Test(arguments: [1, 64]) func aPutTakesNoMoreBytesThanInEtcd(puts: Int) throws {
    var harness = try LogHarness(
      settings: LogSettings(segmentBytes: 1 << 20, compressionThreshold: nil))
    // One raft entry holds the whole batch: a header of 24 bytes, 8 bytes a command.
    let payload = [UInt8](repeating: 7, count: 24 + puts * (8 + 300))
    let entry = Entry(index: LogIndex(1), term: Term(5), payload: payload)
    let before = harness.log.bytesInUse
    try harness.append(
      [entry], hardState: HardState(term: Term(5), vote: NodeID(.max), commit: LogIndex(0)))
    let bytes = Int(harness.log.bytesInUse - before)
    #expect(bytes <= puts * 344 + 40)
  }

  @Test func releasedSegmentsAreUsedAgain() throws {
    var harness = try LogHarness()
    for index in 1...40 {
      try harness.append(makeEntries(UInt64(index), bytes: 1000))
      harness.log.release(through: LogIndex(UInt64(index)))
      try harness.runMaintenance()
    }
    // The segment in use, and the spare ones.
    #expect(harness.segments.count <= 1 + harness.settings.maximumSpareSegments)
    #expect(harness.log.lastIndex == LogIndex(40))
  }

  @Test func recycledSegmentsNeverReplayOldEntries() throws {
    // Segments of equal layout, so that old batches lie exactly where new ones will.
    for cut in 1...30 {
      var harness = try LogHarness()
      for index in 1...cut {
        try harness.append(makeEntries(UInt64(index), term: 1, bytes: 900))
        harness.log.release(through: LogIndex(UInt64(index)))
        try harness.runMaintenance()
      }
      let snapshot = LogIndex(UInt64(cut) - 1)
      let again = try harness.reopened(
        snapshotIndex: snapshot, snapshotTerm: Term(cut == 1 ? 0 : 1))
      #expect(again.recovered.entries == makeEntries(UInt64(cut), term: 1, bytes: 900))
    }
  }

  @Test func theLogContinuesBehindAnInstalledSnapshot() throws {
    var harness = try LogHarness()
    try harness.append(makeEntries(1, count: 3))
    let hardState = HardState(term: Term(4), vote: nil, commit: LogIndex(100))
    let job = harness.log.restart(after: LogIndex(100), term: Term(4), hardState: hardState)
    try harness.log.completed(job.perform(on: harness.disk))
    try harness.append(makeEntries(101, count: 2, term: 4))
    let again = try harness.reopened(snapshotIndex: LogIndex(100), snapshotTerm: Term(4))
    #expect(again.recovered.entries == makeEntries(101, count: 2, term: 4))
    #expect(again.recovered.hardState == hardState)
    #expect(again.recovered.firstIndex == LogIndex(101))
  }

  @Test func anOvertakenLogRestartsByItself() throws {
    var harness = try LogHarness()
    try harness.append(makeEntries(1, count: 3), hardState: HardState(term: Term(1)))
    // The snapshot was installed, the crash came before the log heard of it.
    var again = try harness.reopened(snapshotIndex: LogIndex(100), snapshotTerm: Term(4))
    #expect(again.recovered.entries.isEmpty)
    #expect(again.recovered.lastIndex == LogIndex(100))
    #expect(again.recovered.hardState.commit == LogIndex(100))
    try again.append(makeEntries(101, term: 4))
    let third = try again.reopened(snapshotIndex: LogIndex(100), snapshotTerm: Term(4))
    #expect(third.recovered.entries == makeEntries(101, term: 4))
  }

  @Test func entriesThatContradictTheSnapshotAreDropped() throws {
    var harness = try LogHarness()
    try harness.append(makeEntries(1, count: 5, term: 1))
    let again = try harness.reopened(snapshotIndex: LogIndex(3), snapshotTerm: Term(2))
    #expect(again.recovered.entries.isEmpty)
    #expect(again.recovered.lastIndex == LogIndex(3))
  }

  @Test func entriesAroundTheSnapshotKeepTheirTerms() throws {
    var harness = try LogHarness()
    try harness.append(makeEntries(1, count: 2, term: 1) + makeEntries(3, count: 4, term: 2))
    let again = try harness.reopened(snapshotIndex: LogIndex(4), snapshotTerm: Term(2))
    #expect(again.recovered.entries == makeEntries(5, count: 2, term: 2))
    #expect(
      again.recovered.olderTerms == [
        TermRun(first: LogIndex(1), term: Term(1)), TermRun(first: LogIndex(3), term: Term(2)),
      ])
  }

  @Test func aGapBehindTheSnapshotIsAnError() throws {
    var harness = try LogHarness()
    for index in 1...20 {
      try harness.append(makeEntries(UInt64(index), bytes: 1000))
      harness.log.release(through: LogIndex(UInt64(index)))
      try harness.runMaintenance()
    }
    // One reopening sees spare segments with old entries still in place; use them all up first.
    let error = #expect(throws: PersistenceError.self) {
      try harness.reopened(snapshotIndex: LogIndex(1), snapshotTerm: Term(1))
    }
    #expect(error?.code == .gap)
  }

  @Test func oldEntriesAreReadInBoundedPieces() throws {
    var harness = try LogHarness(settings: LogSettings(segmentBytes: 256 << 10))
    for index in 1...300 { try harness.append(makeEntries(UInt64(index), bytes: 1000)) }
    var next = LogIndex(1)
    while next <= LogIndex(300) {
      let piece = try harness.read(next...LogIndex(300), maxBytes: 10_000)
      #expect(piece.first?.index == next)
      #expect((1...10).contains(piece.count))
      next = next + UInt64(piece.count)
    }
    #expect(try harness.read(LogIndex(17)...LogIndex(17), maxBytes: 1).count == 1)
  }

  @Test func readingWhatWasReleasedSaysSo() throws {
    var harness = try LogHarness()
    for index in 1...10 { try harness.append(makeEntries(UInt64(index), bytes: 1500)) }
    let read = try harness.log.readJob(from: LogIndex(1), through: LogIndex(2), maxBytes: 9999)
    harness.log.release(through: LogIndex(8))
    for index in 11...20 { try harness.append(makeEntries(UInt64(index), bytes: 1500)) }
    let late = #expect(throws: PersistenceError.self) {
      try harness.log.entries(of: read, from: read.job.perform(on: harness.disk))
    }
    #expect(late?.code == .released)
    let error = #expect(throws: PersistenceError.self) {
      try harness.read(LogIndex(1)...LogIndex(2))
    }
    #expect(error?.code == .released)
  }
}
