import Bolt
import EtcdWire
import MVCC
import Primitives

/// The key of a record in etcd's backend: when it was made, and whether it marks a deletion.
struct RecordKey {
  var main: Int64
  var isTombstone: Bool

  init?(_ bytes: ArraySlice<UInt8>) {
    guard bytes.count == 17 || bytes.count == 18, bytes[bytes.startIndex + 8] == UInt8(ascii: "_"),
      let main = bigEndian(bytes, at: 0).flatMap(Int64.init(exactly:)), main > 0
    else { return nil }
    self.main = main
    isTombstone = bytes.count == 18
    guard !isTombstone || bytes.last == UInt8(ascii: "t") else { return nil }
  }
}

/// What must be known of all records before the first one is taken over.
struct RecordSurvey {
  private(set) var newestRevision: Int64 = 0
  /// Keys whose newest record names a lease that isn't there, and that record's revision.
  ///
  /// etcd deletes a lease's keys with it, in one transaction; but a file of a release that didn't must not be
  /// of no use for that. etcd itself goes on without the lease, too.
  private(set) var strays: [ArraySlice<UInt8>: Int64] = [:]

  init(_ records: BoltBucket, leases: Set<Int64>) throws {
    var entries = records.entries()
    while let entry = try entries.next() {
      let position = try RecordKey(of: entry)
      newestRevision = position.main
      var key = ArraySlice<UInt8>()
      var lease: Int64 = 0
      try withRecord(entry.value, position) { record in
        key = ArraySlice(record.key)
        lease = record.lease
      }
      if position.isTombstone || lease == 0 || leases.contains(lease) {
        if !strays.isEmpty { strays[key] = nil }
      } else {
        strays[key] = position.main
      }
    }
  }
}

/// Takes records over in their order.
struct RecordTransfer {
  private let records: BoltBucket
  private let compactRevision: Int64
  private let strays: [ArraySlice<UInt8>: Int64]

  init(_ records: BoltBucket, compactRevision: Int64, strays: [ArraySlice<UInt8>: Int64]) {
    self.records = records
    self.compactRevision = compactRevision
    self.strays = strays
  }

  /// - Returns: how many records were taken over.
  func run(into assembler: inout StoreAssembler) throws -> Int {
    var count = 0
    // What each key is just before the compact revision: a value of its own, encoded.
    var base: [ArraySlice<UInt8>: (position: RecordKey, value: ArraySlice<UInt8>)] = [:]
    var isPastBase = compactRevision < 0
    var entries = records.entries()
    while let entry = try entries.next() {
      let position = try RecordKey(of: entry)
      if position.main < compactRevision {
        var key = ArraySlice<UInt8>()
        try withRecord(entry.value, position) { key = ArraySlice($0.key) }
        // A copy: the slice would keep its whole page.
        base[key] = position.isTombstone ? nil : (position, ArraySlice(Array(entry.value)))
        continue
      }
      if !isPastBase {
        count += try transfer(base, into: &assembler)
        base = [:]
        isPastBase = true
      }
      try add(position, entry.value, isBase: false, to: &assembler)
      count += 1
    }
    if !isPastBase { count += try transfer(base, into: &assembler) }
    return count
  }

  private func transfer(
    _ base: [ArraySlice<UInt8>: (position: RecordKey, value: ArraySlice<UInt8>)],
    into assembler: inout StoreAssembler
  ) throws -> Int {
    for (_, record) in base.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
      try add(record.position, record.value, isBase: true, to: &assembler)
    }
    return base.count
  }

  private func add(
    _ position: RecordKey, _ value: ArraySlice<UInt8>, isBase: Bool,
    to assembler: inout StoreAssembler
  ) throws {
    var failure: SnapshotError?
    try withRecord(value, position) { record in
      do throws(SnapshotError) {
        if position.isTombstone {
          return try assembler.addDeletion(of: record.key, at: position.main)
        }
        var record = record
        if !strays.isEmpty, strays[ArraySlice(record.key)] == position.main { record.lease = 0 }
        if isBase { try assembler.addBase(record) } else { try assembler.addPut(record) }
      } catch {
        failure = error
      }
    }
    if let failure {
      throw EtcdBackendError(
        "the record of revision \(position.main) doesn't fit those before it: \(failure.message)")
    }
  }
}

extension RecordKey {
  fileprivate init(of entry: BoltEntry) throws(EtcdBackendError) {
    guard let key = RecordKey(entry.key) else {
      throw EtcdBackendError("bucket 'key' holds a key that is no revision")
    }
    self = key
  }
}

/// Reads a record and hands it on while its bytes live.
private func withRecord(
  _ bytes: ArraySlice<UInt8>, _ position: RecordKey, _ body: (KeyValue) -> Void
) throws(EtcdBackendError) {
  var problem: String?
  bytes.withUnsafeBytes { bytes in
    do throws(WireError) {
      let record = try KeyValue(bytes)
      if record.key.isEmpty {
        problem = "has no key"
      } else if !position.isTombstone && record.modRevision != position.main {
        problem = "says that it is of revision \(record.modRevision)"
      } else {
        body(record)
      }
    } catch {
      problem = "can't be read: \(error)"
    }
  }
  if let problem { throw EtcdBackendError("the record of revision \(position.main) \(problem)") }
}
