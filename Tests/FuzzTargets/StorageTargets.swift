import EtcdWire
import MVCC
import Persistence
import Primitives
import Raft
import SimulatedStorage

// MARK: The log

private let identity = LogIdentity(clusterID: 0xC1, memberID: NodeID(0xA))
private let settings = LogSettings(segmentBytes: 2048, compressionThreshold: 256)

private func openLog(_ disk: SimulatedDisk) throws -> RecoveredLog {
  disk.killProcess()
  return try WriteAheadLog.recover(
    directory: "/data/wal", identity: identity, snapshotIndex: .zero, snapshotTerm: .zero,
    fileSystem: disk, settings: settings
  ).recovered
}

private func makeLog() -> SimulatedDisk {
  let disk = SimulatedDisk(seed: 1)
  do {
    var (log, _) = try WriteAheadLog.recover(
      directory: "/data/wal", identity: identity, snapshotIndex: .zero, snapshotTerm: .zero,
      fileSystem: disk, settings: settings)
    for index in 1...3 as ClosedRange<UInt64> {
      let entry = Entry(
        index: LogIndex(index), term: Term(1), payload: [UInt8](repeating: UInt8(index), count: 90))
      let job = log.append(
        hardState: HardState(term: Term(1), vote: NodeID(9), commit: LogIndex(index - 1)),
        entries: [entry])
      try log.completed(job.perform(on: disk))
    }
  } catch { invariantFailure("a new log could not be written: \(error)") }
  return disk
}

private let segment = "/data/wal/0000000000000001.wal"

/// The first byte says whether the first batch's checksum is made right; the rest is the segment, from its first
/// batch on.
func fuzzLog(_ bytes: [UInt8]) {
  guard let first = bytes.first else { return }
  let disk = makeLog()
  guard var content = disk.contents(of: segment) else { return }
  let body = bytes.dropFirst().prefix(content.count - 128)
  content.replaceSubrange(128..<(128 + body.count), with: body)
  if first & 1 != 0 {
    // As `Docs/Formats/WAL.md` has it: over the batch behind the checksum, seeded with where it stands.
    let length = Int(content[136]) | Int(content[137]) << 8
    if length >= 16, 128 + length <= content.count {
      var place: [UInt8] = []
      place.append(littleEndian: UInt64(1))
      place.append(littleEndian: UInt64(128))
      let checksum = CRC32C.checksum(
        [UInt8](content[132..<(128 + length)]), seed: CRC32C.checksum(place))
      content.store(littleEndian: checksum, at: 128)
    }
  }
  disk.overwrite(segment, with: content)
  guard let recovered = try? openLog(disk) else { return }
  let again = try? openLog(disk)
  invariant(again?.entries == recovered.entries, "a log reads differently the second time")
  invariant(again?.hardState == recovered.hardState, "a hard state reads differently")
}

func logSeeds() -> [[UInt8]] {
  let content = makeLog().contents(of: segment) ?? []
  return [[0] + content[128..<600], [1] + content[128..<600]]
}

// MARK: Snapshots

private func makeSnapshot() -> (disk: SimulatedDisk, path: String) {
  let disk = SimulatedDisk(seed: 2)
  let store = Store()
  for (index, payload) in applySeeds().enumerated() {
    for entry in entries(payload) {
      _ = store.apply(entry, at: LogIndex(UInt64(index + 1)), term: Term(1), wantsResults: false)
    }
  }
  do {
    try disk.perform([.createDirectory(path: "/data/snap")])
    var writer = try SnapshotWriter(
      directory: "/data/snap", clusterID: 1, index: LogIndex(9), term: Term(1))
    var source = store.publish().snapshot()
    var pieces: [SnapshotPiece] = [.section(id: 3, name: "state")]
    let file = try writer.write(on: disk) { pieces.popLast() ?? source.next().map { .bytes($0) } }
    return (disk, file.path)
  } catch { invariantFailure("a snapshot could not be written: \(error)") }
}

/// The file is the input with its two checksums made right, so that what they guard is read.
func fuzzSnapshot(_ bytes: [UInt8]) {
  let disk = SimulatedDisk(seed: 3)
  var content = bytes
  if content.count >= 64 {
    content.store(littleEndian: CRC32C.checksum([UInt8](content[..<60])), at: 60)
    content.store(
      littleEndian: CRC32C.checksum([UInt8](content.dropLast(4))), at: content.count - 4)
  }
  _ = try? disk.perform(.createDirectory(path: "/data/snap"))
  disk.overwrite("/data/snap/fuzz.snapshot", with: content)
  guard
    var reader = try? SnapshotReader(
      path: "/data/snap/fuzz.snapshot", clusterID: nil, fileSystem: disk)
  else { return }
  var restorer = StoreRestorer()
  do {
    while let piece = try reader.next() {
      if case .bytes(let bytes) = piece { try bytes.withUnsafeBytes { try restorer.restore($0) } }
    }
    _ = try restorer.finish()
  } catch {}
}

func snapshotSeeds() -> [[UInt8]] {
  let (disk, path) = makeSnapshot()
  return [disk.contents(of: path) ?? []]
}

// MARK: Apply

/// The input as entries: each has its length before it, in two bytes.
private func entries(_ bytes: [UInt8]) -> [[UInt8]] {
  var entries: [[UInt8]] = []
  var rest = bytes[...]
  while rest.count >= 2 {
    let length = Int(rest[rest.startIndex]) | Int(rest[rest.startIndex + 1]) << 8
    rest = rest.dropFirst(2)
    entries.append(Array(rest.prefix(length)))
    rest = rest.dropFirst(length)
  }
  return entries
}

/// A member that answers clients, one that doesn't, one that compacts at its own pace, and one that was restored
/// from a snapshot half-way: all must agree after each entry.
func fuzzApply(_ bytes: [UInt8]) {
  let answering = Store()
  let silent = Store()
  var restored = Store()
  let entries = entries(bytes)
  for (place, entry) in entries.enumerated() {
    let index = LogIndex(UInt64(place + 1))
    _ = answering.apply(entry, at: index, term: Term(1), wantsResults: true)
    _ = silent.apply(entry, at: index, term: Term(1), wantsResults: false)
    _ = restored.apply(entry, at: index, term: Term(1), wantsResults: false)
    _ = answering.publish()
    answering.runMaintenance(budget: 3)
    if place == entries.count / 2 {
      var restorer = StoreRestorer()
      var source = restored.publish().snapshot()
      do {
        while let piece = source.next() { try piece.withUnsafeBytes { try restorer.restore($0) } }
        restored = try restorer.finish()
      } catch { invariantFailure("a store's own snapshot is refused: \(error)") }
    }
    invariant(answering.stateHash == silent.stateHash, "members differ by whether a client waits")
    invariant(answering.stateHash == restored.stateHash, "a restored member differs")
    invariant(
      answering.revision == silent.revision && answering.revision == restored.revision,
      "members are at different revisions")
  }
}

func applySeeds() -> [[UInt8]] {
  func entry(_ kind: CommandKind, _ body: [UInt8]) -> [UInt8] {
    var payload: [UInt8] = []
    CommandBatch.Header(count: 1, proposer: NodeID(1), firstSequence: 1).append(to: &payload)
    body.withUnsafeBytes { CommandBatch.append(kind, body: $0, to: &payload) }
    var bytes: [UInt8] = []
    bytes.append(littleEndian: UInt16(payload.count))
    return bytes + payload
  }
  var grant: [UInt8] = []
  CommandBatch.Header(count: 1, proposer: NodeID(1), firstSequence: 1).append(to: &grant)
  [0x08, 60, 0x10, 7].withUnsafeBytes {
    CommandBatch.appendLeaseGrant(id: LeaseID(7), minimumSeconds: 1, body: $0, to: &grant)
  }
  var lease: [UInt8] = []
  lease.append(littleEndian: UInt16(grant.count))
  lease += grant
  return [
    entry(.put, putRequest("a", "1")) + entry(.put, putRequest("a", "2")),
    lease + entry(.put, putRequest("b", "1", lease: 7)) + entry(.leaseRevoke, [0x08, 7]),
    entry(.txn, transaction()) + entry(.deleteRange, [0x0A, 1, 0, 0x12, 1, 0, 0x18, 1]),
    entry(.put, putRequest("a", "1")) + entry(.put, putRequest("a", "2"))
      + entry(.compact, [0x08, 3]) + entry(.put, putRequest("c", "1")),
  ]
}
