import Primitives

// A store as a stream of bytes
// ============================
//
// A snapshot holds the logical state and nothing of how it lies in memory: compaction that has not
// been done physically yet is done in it. It is written from a view, on whatever thread, while the
// writer goes on; and read back by replaying, so that there is no second way to build a state.
//
// All integers are little-endian.
//
//     header, 48 bytes
//      0  u32  magic, "MVS1"
//      4  u32  format version, 2
//      8  i64  revision
//     16  i64  compact revision; -1 for none
//     24  u64  state hash
//     32  u64  newest applied log index
//     40  u64  number of leases
//     auth: u32 length, the section that `AuthState+Coding.swift` describes (not in version 1)
//     leases, in the order of their ids, 24 bytes each: i64 id, i64 granted, i64 remaining seconds
//     records: u8 kind, u32 length, the encoded KeyValue
//         kind 1, base: shown at the compact revision and older than it; in the order of keys
//         kind 2, put, and kind 3, tombstone: the events from the compact revision on, in their order
//     end: u8 0, u64 number of records
//
// The stream is cut into chunks at arbitrary bytes. Checksums are the file's and the transfer's
// concern (`Persistence`); the reader checks that the content makes sense.

/// Numbers of the format that writer and reader share.
enum SnapshotFormat {
  static let magic: UInt32 = 0x3153_564D
  static let version: UInt32 = 2
  /// Read still, and written no more: it knew no users.
  static let versionWithoutAuth: UInt32 = 1
  static let headerSize = 48
  static let leaseSize = 24
  /// Bytes of users and roles: a bound on what a reader sets aside, far above any real cluster's.
  static let authMaximum = 1 << 30

  enum Kind: UInt8 {
    case end = 0
    case base
    case put
    case tombstone
  }
}

/// Gives a view's state out in chunks. Holds the view until it is done with.
public struct SnapshotSource: Sendable {
  private let view: StoreView
  /// Bytes that did not fit into the chunks so far, from `offset` on.
  private var pending: [UInt8] = []
  private var offset = 0
  /// Walks of the view's trees; nil before the first chunk.
  private var leases: TreeCursor?
  private var records: LogicalRecords
  private var recordCount: UInt64 = 0
  private var isComplete = false

  fileprivate init(view: StoreView) {
    self.view = view
    records = LogicalRecords(view.root)
  }

  /// The next chunk, `Limits.snapshotChunkBytes` long but for the last one; nil after it.
  public mutating func next() -> [UInt8]? {
    defer { withExtendedLifetime(view.published) {} }
    let size = Limits.snapshotChunkBytes
    while pending.count - offset < size && !isComplete { appendItem() }
    let available = min(size, pending.count - offset)
    if available == 0 { return nil }
    let chunk = [UInt8](pending[offset..<(offset + available)])
    offset += available
    if offset == pending.count {
      pending.removeAll(keepingCapacity: true)
      offset = 0
    }
    return chunk
  }

  private mutating func appendItem() {
    guard leases != nil else {
      appendHeader()
      leases = view.root.leases.first()
      return
    }
    if let element = leases?.element {
      let lease = LeaseEntry(address: element)
      pending.append(littleEndian: lease.id)
      pending.append(littleEndian: lease.granted)
      pending.append(littleEndian: lease.remaining)
      leases?.advance()
      return
    }
    guard let (record, part) = records.next() else {
      pending.append(SnapshotFormat.Kind.end.rawValue)
      pending.append(littleEndian: recordCount)
      isComplete = true
      return
    }
    recordCount += 1
    let kind: SnapshotFormat.Kind =
      part == .base ? .base : record.isTombstone ? .tombstone : .put
    pending.append(kind.rawValue)
    pending.append(littleEndian: UInt32(record.encodedSize))
    pending.append(contentsOf: record.encoded)
  }

  private mutating func appendHeader() {
    pending.reserveCapacity(Limits.snapshotChunkBytes + 4096)
    pending.append(littleEndian: SnapshotFormat.magic)
    pending.append(littleEndian: SnapshotFormat.version)
    pending.append(littleEndian: view.revision.rawValue)
    pending.append(littleEndian: view.compactRevision.rawValue)
    pending.append(littleEndian: view.stateHash)
    pending.append(littleEndian: view.appliedIndex.rawValue)
    pending.append(littleEndian: UInt64(view.leaseCount))
    let auth = view.auth.encoded()
    invariant(auth.count <= SnapshotFormat.authMaximum, "users and roles beyond a section's length")
    pending.append(littleEndian: UInt32(auth.count))
    pending.append(contentsOf: auth)
  }
}

/// `@unchecked Sendable`: the cursors are addresses within the view, which the source holds; see
/// `PublishedRoot`.
extension LogicalRecords: @unchecked Sendable {}
extension TreeCursor: @unchecked Sendable {}

extension StoreView {
  /// The state as a stream of bytes; see `StoreRestorer` for the way back.
  public func snapshot() -> SnapshotSource { SnapshotSource(view: self) }
}
