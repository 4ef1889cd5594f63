import EtcdWire
import MVCC
import Primitives

/// The store as one would write it on a sheet of paper: every version of every key, in lists.
///
/// Written from etcd's documented behaviour, not from the store's code; slow, and obviously right.
struct Model {
  struct Version: Equatable {
    var key: [UInt8]
    var create: Int64
    var mod: Int64
    var version: Int64
    var value: [UInt8]
    var lease: Int64
    var isTombstone = false
  }

  struct Lease {
    var granted: Int64
    var remaining: Int64
  }

  enum Failure: Error, Equatable {
    case keyNotFound, leaseNotFound, leaseExists, compacted, futureRevision, emptyKey
  }

  var revision: Int64 = 1
  var compactRevision: Int64 = -1
  /// Every change ever made, in order.
  private(set) var changes: [Version] = []
  /// What exists now.
  private var live: [[UInt8]: Version] = [:]
  var leases: [Int64: Lease] = [:]

  // MARK: Reading

  /// What a revision shows, in the order of keys; with the changes of a transaction under way.
  func state(at revision: Int64) -> [Version] {
    var state = live
    if let last = changes.last, revision < last.mod {
      state = [:]
      for change in changes where change.mod <= revision {
        state[change.key] = change.isTombstone ? nil : change
      }
    }
    return state.values.sorted { $0.key.lexicographicallyPrecedes($1.key) }
  }

  static func isIn(_ key: [UInt8], _ start: [UInt8], _ end: [UInt8]) -> Bool {
    if end.isEmpty { return key == start }
    if key.lexicographicallyPrecedes(start) { return false }
    return end == [0] || key.lexicographicallyPrecedes(end)
  }

  func range(
    _ start: [UInt8], _ end: [UInt8], at revision: Int64, current: Int64
  ) throws(Failure) -> [Version] {
    if revision > current { throw .futureRevision }
    if revision > 0 && revision < compactRevision { throw .compacted }
    return state(at: revision > 0 ? revision : current).filter {
      Model.isIn($0.key, start, end)
    }
  }

  // MARK: Changing

  private mutating func append(_ change: Version) {
    changes.append(change)
    live[change.key] = change.isTombstone ? nil : change
  }

  /// etcd looks for the lease first, but last within a transaction.
  func checkPut(
    _ key: [UInt8], lease: Int64, ignoresSomething: Bool, isInTransaction: Bool
  ) throws(Failure) {
    if key.isEmpty { throw .emptyKey }
    if !isInTransaction, lease != 0, leases[lease] == nil { throw .leaseNotFound }
    if ignoresSomething, live[key] == nil { throw .keyNotFound }
    if lease != 0, leases[lease] == nil { throw .leaseNotFound }
  }

  /// - Returns: what was there before.
  @discardableResult
  mutating func put(
    _ key: [UInt8], _ value: [UInt8], lease: Int64, ignoreValue: Bool, ignoreLease: Bool,
    at revision: Int64
  ) -> Version? {
    let before = live[key]
    append(
      Version(
        key: key, create: before?.create ?? revision, mod: revision,
        version: (before?.version ?? 0) + 1, value: ignoreValue ? before?.value ?? [] : value,
        lease: ignoreLease ? before?.lease ?? 0 : lease))
    return before
  }

  /// - Returns: what was deleted.
  mutating func delete(_ start: [UInt8], _ end: [UInt8], at revision: Int64) -> [Version] {
    let deleted = state(at: .max).filter { Model.isIn($0.key, start, end) }
    for version in deleted { appendTombstone(version.key, revision) }
    return deleted
  }

  private mutating func appendTombstone(_ key: [UInt8], _ revision: Int64) {
    append(
      Version(
        key: key, create: 0, mod: revision, version: 0, value: [], lease: 0, isTombstone: true))
  }

  mutating func compact(_ target: Int64) throws(Failure) {
    if target <= compactRevision { throw .compacted }
    if target > revision { throw .futureRevision }
    compactRevision = target
  }

  mutating func grant(_ id: Int64, _ seconds: Int64) throws(Failure) {
    if id == 0 { throw .leaseNotFound }
    if leases[id] != nil { throw .leaseExists }
    leases[id] = Lease(granted: max(seconds, 1), remaining: max(seconds, 1))
  }

  func keys(of lease: Int64) -> [[UInt8]] {
    state(at: .max).filter { $0.lease == lease }.map(\.key)
  }

  mutating func revoke(_ id: Int64) throws(Failure) {
    if leases[id] == nil { throw .leaseNotFound }
    let keys = keys(of: id)
    if !keys.isEmpty {
      for key in keys { appendTombstone(key, revision + 1) }
      revision += 1
    }
    leases[id] = nil
  }

  /// Changes from a revision on, with what was before each of their revisions.
  func events(from start: Int64) -> [(change: Version, previous: Version?)] {
    changes.filter { $0.mod >= start }.map { change in
      let before = changes.last { $0.key == change.key && $0.mod < change.mod }
      return (change, before?.isTombstone == true ? nil : before)
    }
  }
}

extension Model.Version {
  init(_ record: KeyValue) {
    self.init(
      key: [UInt8](record.key), create: record.createRevision, mod: record.modRevision,
      version: record.version, value: [UInt8](record.value), lease: record.lease)
  }
}
