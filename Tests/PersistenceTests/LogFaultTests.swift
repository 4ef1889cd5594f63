import Persistence
import Primitives
import Raft
import SimulatedStorage
import Testing

/// What the log does when the disk, or whoever put it there, does wrong.
@Suite struct LogFaultTests {
  @Test func aFailedSyncStopsTheLogForGood() throws {
    var harness = try LogHarness()
    try harness.append(makeEntries(1))
    let disk = harness.disk
    disk.setFault { operation in
      if case .syncData(let path) = operation {
        return PersistenceError(.io, "Input/output error", path: path)
      }
      return nil
    }
    let job = harness.log.append(hardState: nil, entries: makeEntries(2))
    let first = #expect(throws: PersistenceError.self) {
      try harness.log.completed(job.perform(on: disk))
    }
    #expect(first?.code == .io)
    disk.setFault(nil)
    // The disk works again; what it holds is unknown all the same.
    let later = harness.log.append(hardState: nil, entries: makeEntries(3))
    #expect(later.operations.isEmpty)
    let second = #expect(throws: PersistenceError.self) {
      try harness.log.completed(later.perform(on: disk))
    }
    #expect(second?.code == .stopped)
    #expect(harness.log.takeMaintenance() == nil)
  }

  /// After a failed sync the page cache may show what the disk doesn't hold. The next process reads that,
  /// so it must write it again before it relies on it.
  @Test func recoveryMakesDurableWhatItRead() throws {
    for seed in 0..<200 as Range<UInt64> {
      var harness = try LogHarness(disk: SimulatedDisk(seed: seed))
      try harness.append(makeEntries(1))
      let disk = harness.disk
      disk.setFault { operation in
        if case .syncData = operation { return PersistenceError(.io, "Input/output error") }
        return nil
      }
      let job = harness.log.append(
        hardState: nil, entries: makeEntries(2, count: 2, bytes: 900))
      _ = job.perform(on: disk)
      disk.setFault(nil)
      let again = try harness.reopened()
      let relied = again.recovered.entries
      disk.crash()
      let third = try again.reopened()
      #expect(third.recovered.entries == relied, "seed \(seed)")
    }
  }

  @Test func aFullDiskIsMetWhilePreparing() throws {
    var harness = try LogHarness()
    try harness.runMaintenance()
    harness.disk.capacity = 4096 * 3
    #expect(!harness.log.isSpaceLow)
    var index: UInt64 = 1
    // The prepared segments take entries though the disk is full; then only the reserve is left.
    while !harness.log.isSpaceLow {
      try harness.append(makeEntries(index, bytes: 1000))
      try harness.runMaintenance()
      index += 1
    }
    #expect(harness.log.preparationFailure?.code == .diskFull)
    // Votes still go to the reserve.
    for term in 2...40 as ClosedRange<UInt64> {
      try harness.append([], hardState: HardState(term: Term(term), vote: NodeID(1)))
    }
    // A snapshot lets segments go, and one of them is the next.
    harness.log.release(through: LogIndex(index - 1))
    harness.log.retryMaintenance()
    try harness.runMaintenance()
    #expect(!harness.log.isSpaceLow)
    #expect(
      try harness.reopened(snapshotIndex: LogIndex(index - 1), snapshotTerm: Term(1)).recovered
        .hardState.term == Term(40))
  }

  @Test func withoutAnySpaceTheLogStops() throws {
    var harness = try LogHarness()
    harness.disk.capacity = 4096
    let error = #expect(throws: PersistenceError.self) {
      for index in 1...10 as ClosedRange<UInt64> {
        try harness.append(makeEntries(index, bytes: 1000))
      }
    }
    #expect(error?.code == .diskFull)
  }

  @Test func aLogIsOpenOnce() throws {
    let harness = try LogHarness()
    let error = #expect(throws: PersistenceError.self) { try LogHarness(disk: harness.disk) }
    #expect(error?.code == .locked)
    try harness.log.close(on: harness.disk)
    _ = try LogHarness(disk: harness.disk)
  }

  @Test func anotherMembersLogIsRefused() throws {
    let harness = try LogHarness()
    harness.disk.killProcess()
    for identity in [
      LogIdentity(clusterID: 0xC2, memberID: NodeID(0xA)),
      LogIdentity(clusterID: 0xC1, memberID: NodeID(0xB)),
    ] {
      let error = #expect(throws: PersistenceError.self) {
        try WriteAheadLog.recover(
          directory: LogHarness.directory, identity: identity, fileSystem: harness.disk)
      }
      #expect(error?.code == .foreign)
    }
  }

  @Test func aNewerFormatIsRefused() throws {
    let harness = try LogHarness()
    let path = harness.segments[0]
    var bytes = try #require(harness.disk.contents(of: path))
    bytes[8] = 9
    bytes.store(littleEndian: CRC32C.checksum([UInt8](bytes[..<124])), at: 124)
    harness.disk.overwrite(path, with: bytes)
    let error = #expect(throws: PersistenceError.self) { try harness.reopened() }
    #expect(error?.code == .newerFormat)
  }

  @Test func aMissingSegmentIsNoticed() throws {
    // The newest one isn't: without it the log is one that ended earlier.
    for victim in 0..<3 {
      var harness = try LogHarness()
      for index in 1...8 as ClosedRange<UInt64> {
        try harness.append(makeEntries(index, bytes: 1500))
      }
      try #require(harness.segments.count == 4)
      _ = try harness.disk.perform(.remove(path: harness.segments[victim]))
      let error = #expect(throws: PersistenceError.self) { try harness.reopened() }
      #expect(error?.code == .gap)
    }
  }

  @Test func aSegmentCutShortIsCorrupt() throws {
    var harness = try LogHarness()
    try harness.append(makeEntries(1))
    _ = try harness.disk.perform(.truncate(path: harness.segments[0], size: 1024))
    let error = #expect(throws: PersistenceError.self) { try harness.reopened() }
    #expect(error?.code == .corrupt)
    #expect(error?.offset == 1024)
  }

  /// Background errors other than a full disk don't stop the log either; preparing waits to be retried.
  @Test func failedPreparationIsTriedAgainOnRequest() throws {
    var harness = try LogHarness()
    harness.disk.setFault { operation in
      if case .allocate = operation { return PersistenceError(.io, "Input/output error") }
      return nil
    }
    try harness.runMaintenance()
    #expect(harness.log.preparationFailure?.code == .io)
    #expect(harness.log.takeMaintenance() == nil)
    harness.disk.setFault(nil)
    harness.log.retryMaintenance()
    try harness.runMaintenance()
    #expect(harness.log.preparationFailure == nil)
    try harness.append(makeEntries(1))
  }
}
