import EtcdWire
import Primitives

// The module's interface, ahead of its implementation.

public final class Store {
  public init() {}
  public var revision: Revision { Revision(1) }
  public var compactRevision: Revision { Revision(-1) }
  public var stateHash: UInt64 { 0 }
  public var appliedIndex: LogIndex { .zero }
  /// Bytes held: records, history, tree nodes, leases. For the quota; not the same on every member.
  public var allocatedBytes: Int { 0 }

  public func apply(
    _ payload: [UInt8], at index: LogIndex, term: Term, wantsResults: Bool
  ) -> AppliedEntry {
    AppliedEntry(events: EventBatch(after: revision, through: revision))
  }
  /// Call before `runMaintenance` so that no event leaves before its view.
  public func publish() -> StoreView { StoreView() }
  /// Does at most `budget` records' worth of physical compaction and freeing.
  /// - Returns: whether work is left.
  public func runMaintenance(budget: Int) -> Bool { false }
}

public struct StoreView: Sendable {
  public var revision: Revision { Revision(1) }
  public var compactRevision: Revision { Revision(-1) }
  public var stateHash: UInt64 { 0 }
  public var appliedIndex: LogIndex { .zero }
  public var keyCount: Int { 0 }

  /// Appends the `RangeResponse` without its header.
  public func range(_ request: RangeRequest, into output: inout [UInt8]) throws(ApplyError) {}
  /// Whether the transaction can be evaluated on a view: no puts or deletes, however nested.
  public static func isReadOnly(_ request: TxnRequest) -> Bool { false }
  /// Appends the `TxnResponse` without its header.
  public func transaction(_ request: TxnRequest, into output: inout [UInt8]) throws(ApplyError) {}
  public func count(_ range: KeyRange) -> Int { 0 }
  public func pager(_ request: RangeRequest) throws(ApplyError) -> RangePager { RangePager() }
  public var leaseCount: Int { 0 }
  public func leases() -> [LeaseStatus] { [] }
  public func lease(_ id: LeaseID) -> LeaseStatus? { nil }
  public func keys(of lease: LeaseID) -> [[UInt8]] { [] }
  /// Events of whole revisions from `start` on, until about `byteLimit` bytes are collected or
  /// `eventLimit` events have been looked at.
  public func events(
    from start: Revision, through end: Revision, in range: WatchRange, filter: WatchFilter,
    wantsPrevious: Bool, byteLimit: Int, eventLimit: Int
  ) throws(ApplyError) -> EventRun {
    EventRun(through: end)
  }
  public func snapshot() -> SnapshotSource { SnapshotSource() }
}

/// Pieces of a large range, for `RangeStream`.
public struct RangePager: Sendable {
  /// Appends `RangeResponse` fields (records only) of about `byteLimit` bytes; the last piece ends with
  /// `more` and `count`.
  /// - Returns: false with the last piece.
  public mutating func next(byteLimit: Int, into output: inout [UInt8]) -> Bool { false }
}

public struct WatcherID: RawRepresentable, Hashable, Comparable, Sendable {
  public var rawValue: UInt64
  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable public static func < (left: WatcherID, right: WatcherID) -> Bool {
    left.rawValue < right.rawValue
  }
}

public typealias WatchFilter = WatchCreateRequest.Filters

/// A watched range that owns its bytes; see `KeyRange` for the meaning of `rangeEnd`.
public struct WatchRange: Hashable, Sendable {
  public var key: [UInt8]
  public var rangeEnd: [UInt8]
  public init(key: [UInt8], rangeEnd: [UInt8]) {
    self.key = key
    self.rangeEnd = rangeEnd
  }
}

/// Encoded events, in order of revision.
public struct EventRun: Sendable {
  public struct Part: Sendable {
    public var revision: Revision
    /// Encoded `WatchResponse` fields 11 in `bytes`.
    public var range: Range<Int>
    public var count: Int
  }
  /// Shared by all that the same encoding serves.
  public var bytes: [UInt8] = []
  /// Parts of one revision stand together and must be delivered together.
  public var parts: [Part] = []
  /// Everything up to and with this revision has been looked at.
  public var through: Revision
}

public struct WatchDelivery: Sendable {
  public var watchers: [WatcherID]
  public var events: EventRun
  public init(watchers: [WatcherID], events: EventRun) {
    self.watchers = watchers
    self.events = events
  }
}

public struct WatchRegistry {
  public init() {}
  public var count: Int { 0 }
  public mutating func register(
    _ range: WatchRange, filter: WatchFilter, wantsPrevious: Bool
  ) -> WatcherID { WatcherID(rawValue: 0) }
  @discardableResult
  public mutating func cancel(_ id: WatcherID) -> Bool { false }
  /// `view` must be one published after the batch was applied and before any later maintenance.
  public mutating func match(_ batch: EventBatch, in view: StoreView) -> [WatchDelivery] { [] }
}

public struct SnapshotSource: Sendable {
  /// The next chunk, at most `Limits.snapshotChunkBytes`; nil after the last one.
  public mutating func next() -> [UInt8]? { nil }
}

public struct SnapshotError: Error, Sendable {
  public var message: String
}

/// Builds a store from a snapshot's chunks.
public struct StoreRestorer {
  public init() {}
  public mutating func restore(_ chunk: UnsafeRawBufferPointer) throws(SnapshotError) {}
  public mutating func finish() throws(SnapshotError) -> Store { Store() }
}
