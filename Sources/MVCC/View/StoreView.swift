import EtcdWire
import Primitives

/// One published state of the store, for reading on any thread.
///
/// Immutable, O(1) to copy, and never blocks or is blocked by the writer. While any copy exists,
/// what it shows stays in memory, so hold one for as long as a response takes, not for good.
///
/// Requests are views over borrowed bytes and need live only as long as the call.
public struct StoreView: Sendable {
  let published: PublishedRoot

  init(_ published: PublishedRoot) { self.published = published }

  var root: Root { published.root }

  /// The revision of the newest transaction in the view.
  public var revision: Revision { Revision(published.root.revision) }
  /// The lowest revision that can be read; -1 before the first compaction.
  public var compactRevision: Revision { Revision(published.root.compactRevision) }
  /// A hash over every logical change that led here, in order; equal on all members that have
  /// applied the same entries.
  public var stateHash: UInt64 { published.stateHash }
  /// The newest log entry in the view.
  public var appliedIndex: LogIndex { published.appliedIndex }
  /// How many keys exist.
  public var keyCount: Int { published.root.live.count }

  // MARK: Ranges

  /// Appends the `RangeResponse` to a request, without its header.
  ///
  /// As etcd answers it: `count` is the number of keys in the range at the revision, whatever limit
  /// and filters; `more` says that the limit left keys out. Records that sort equal stand in the
  /// order of their keys. O(log n + result) for the newest revision without filters or order; for
  /// old revisions, filters and orders O(keys in the range).
  ///
  /// - Throws: `.compacted` or `.futureRevision` for a revision that can't be read.
  public func range(
    _ request: RangeRequest, into output: inout [UInt8]
  ) throws(ApplyError) {
    defer { withExtendedLifetime(published) {} }
    try root.range(request, current: root.revision, into: &output)
  }

  /// How many keys of a range exist. O(log n).
  public func count(_ range: KeyRange) -> Int {
    defer { withExtendedLifetime(published) {} }
    return root.count(range)
  }

  // MARK: Transactions

  /// Whether a transaction can be evaluated on a view, since no branch of it, however nested,
  /// changes anything.
  public static func isReadOnly(_ request: TxnRequest) -> Bool { request.isReadOnly }

  /// Appends the `TxnResponse` of a read-only transaction, without its header.
  ///
  /// - Throws: what its ranges throw; `.keyNotFound` for an operation that is empty or would change
  ///   something.
  public func transaction(
    _ request: TxnRequest, into output: inout [UInt8]
  ) throws(ApplyError) {
    defer { withExtendedLifetime(published) {} }
    let start = output.count
    do throws(ApplyError) {
      try root.transaction(request, into: &output)
    } catch {
      output.removeLast(output.count - start)
      throw error
    }
  }

  // MARK: Leases

  /// How many leases there are.
  public var leaseCount: Int { published.root.leases.count }

  /// All leases, in the order of their ids. O(leases).
  public func leases() -> [LeaseStatus] {
    defer { withExtendedLifetime(published) {} }
    var leases: [LeaseStatus] = []
    leases.reserveCapacity(leaseCount)
    root.leases.forEachElement { leases.append(LeaseStatus(LeaseEntry(address: $0))) }
    return leases
  }

  /// The lease with an id. O(log leases).
  public func lease(_ id: LeaseID) -> LeaseStatus? {
    defer { withExtendedLifetime(published) {} }
    return root.lease(id.rawValue).map { LeaseStatus($0) }
  }

  /// The keys attached to a lease, in their order; none if there is no such lease. O(keys).
  public func keys(of lease: LeaseID) -> [[UInt8]] {
    defer { withExtendedLifetime(published) {} }
    guard let entry = root.lease(lease.rawValue) else { return [] }
    var keys: [[UInt8]] = []
    keys.reserveCapacity(entry.keys.count)
    entry.keys.forEachElement { keys.append([UInt8](Record(address: $0).key)) }
    return keys
  }

  // MARK: Hash

  /// A checksum of the keys as of a revision, for `HashKV`: CRC-32C over all records that can still
  /// be read at or below it. Equal on all members with the same compact revision. O(state).
  ///
  /// - Parameter revision: zero or less means the newest.
  /// - Throws: `.compacted` or `.futureRevision` for a revision that can't be read.
  public func keysHash(at revision: Revision) throws(ApplyError) -> UInt32 {
    defer { withExtendedLifetime(published) {} }
    let end = try root.readableRevision(revision.rawValue, current: root.revision)
    var hash: UInt32 = 0
    var logical = LogicalRecords(root)
    while let (record, _) = logical.next(), record.modRevision <= end {
      hash = CRC32C.checksum(record.encoded, seed: hash)
    }
    return hash
  }
}

extension LeaseStatus {
  init(_ entry: LeaseEntry) {
    self.init(
      id: LeaseID(entry.id), granted: entry.granted, remaining: entry.remaining,
      keyCount: entry.keys.count)
  }
}
