import Primitives

/// The store's whole history as a model keeps it: every key's versions, by revision.
///
/// Nothing is forgotten (compaction is the store's affair), so the state at any revision can be read, and the
/// last change can be taken back: a search needs that.
public struct Timeline: Sendable {
  private struct Version: Sendable {
    var revision: Int64
    /// Nil where the key was deleted.
    var record: ModelRecord?
  }

  /// The newest revision. A new store is at 1.
  public private(set) var revision: Int64 = 1
  private var versions: [[UInt8]: [Version]] = [:]
  /// The keys changed at each revision from 2 on, in order of change.
  private var changes: [[[UInt8]]] = []
  /// The live keys of each lease.
  private var leases: [Int64: Set<[UInt8]>] = [:]

  public init() {}

  // MARK: Reading

  /// The record of a key at a revision; nil if there was none. O(log(versions of the key)).
  public func record(_ key: [UInt8], at revision: Int64) -> ModelRecord? {
    guard let versions = versions[key], let newest = versions.last else { return nil }
    if newest.revision <= revision { return newest.record }
    // The first version beyond the revision lies in `low...high`.
    var low = 0
    var high = versions.count - 1
    while low < high {
      let middle = (low + high) / 2
      if versions[middle].revision <= revision { low = middle + 1 } else { high = middle }
    }
    return low == 0 ? nil : versions[low - 1].record
  }

  /// The records of a range at a revision, in the order of keys. O(keys).
  public func records(_ range: ModelRange, at revision: Int64) -> [ModelRecord] {
    if range.end.isEmpty { return record(range.key, at: revision).map { [$0] } ?? [] }
    return versions.keys.filter { range.contains($0) }
      .sorted { $0.lexicographicallyPrecedes($1) }
      .compactMap { record($0, at: revision) }
  }

  /// What happened at a revision, in order, with previous records; empty for one that never was.
  public func events(at revision: Int64) -> [ModelEvent] {
    guard revision >= 2, revision <= self.revision else { return [] }
    return changes[Int(revision - 2)].map { key in
      let previous = record(key, at: revision - 1)
      if let now = record(key, at: revision) {
        return ModelEvent(isDelete: false, record: now, previous: previous)
      }
      let tombstone = ModelRecord(
        key: key, value: [], createRevision: 0, modRevision: revision, version: 0)
      return ModelEvent(isDelete: true, record: tombstone, previous: previous)
    }
  }

  // MARK: Changing

  /// Applies a request to the newest state, as a transaction of its own.
  ///
  /// - Returns: the response, and whether it took a new revision.
  public mutating func apply(_ request: ModelRequest) -> (response: ModelResponse, changed: Bool) {
    changes.append([])
    let response = perform(request, at: revision + 1)
    guard let last = changes.last, !last.isEmpty else {
      changes.removeLast()
      return (response, false)
    }
    revision += 1
    return (response, true)
  }

  /// Takes the newest revision back.
  public mutating func undo() {
    invariant(!changes.isEmpty, "nothing happened that could be taken back")
    for key in changes.removeLast() {
      if let lease = versions[key]?.last?.record?.lease, lease != 0 { leases[lease]?.remove(key) }
      versions[key]?.removeLast()
      if let lease = versions[key]?.last?.record?.lease, lease != 0 {
        leases[lease, default: []].insert(key)
      }
      if versions[key]?.isEmpty == true { versions[key] = nil }
    }
    revision -= 1
  }

  private mutating func perform(_ request: ModelRequest, at next: Int64) -> ModelResponse {
    // Within a transaction reads see what it has done so far.
    switch request {
    case .put(let key, let value, let lease):
      let previous = record(key, at: next)
      set(
        key,
        ModelRecord(
          key: key, value: value, createRevision: previous?.createRevision ?? next,
          modRevision: next, version: (previous?.version ?? 0) + 1, lease: lease), at: next)
      return .put(previous: .some(previous))
    case .delete(let range):
      let previous = records(range, at: next)
      for record in previous { set(record.key, nil, at: next) }
      return .delete(count: Int64(previous.count), previous: previous)
    case .range(let range, let revision, _):
      let found = records(range, at: revision == 0 ? next : revision)
      return .range(found, count: Int64(found.count))
    case .txn(let compares, let success, let failure):
      let succeeded = compares.allSatisfy { holds($0, at: next) }
      return .txn(
        succeeded: succeeded, (succeeded ? success : failure).map { perform($0, at: next) })
    case .endLease(let lease):
      let keys = leases[lease, default: []].sorted { $0.lexicographicallyPrecedes($1) }
      for key in keys { set(key, nil, at: next) }
      return .endLease
    }
  }

  private mutating func set(_ key: [UInt8], _ record: ModelRecord?, at revision: Int64) {
    if let lease = versions[key]?.last?.record?.lease, lease != 0 { leases[lease]?.remove(key) }
    if let record, record.lease != 0 { leases[record.lease, default: []].insert(key) }
    versions[key, default: []].append(Version(revision: revision, record: record))
    changes[changes.count - 1].append(key)
  }

  private func holds(_ compare: ModelCompare, at revision: Int64) -> Bool {
    let record = record(compare.key, at: revision)
    func holds<Value: Comparable>(_ left: Value, _ right: Value) -> Bool {
      switch compare.relation {
      case .equal: left == right
      case .notEqual: left != right
      case .greater: left > right
      case .less: left < right
      }
    }
    switch compare.operand {
    case .version(let operand): return holds(record?.version ?? 0, operand)
    case .createRevision(let operand): return holds(record?.createRevision ?? 0, operand)
    case .modRevision(let operand): return holds(record?.modRevision ?? 0, operand)
    case .lease(let operand): return holds(record?.lease ?? 0, operand)
    case .value(let operand):
      // A key that doesn't exist has no value to compare.
      guard let value = record?.value else { return false }
      switch compare.relation {
      case .equal: return value == operand
      case .notEqual: return value != operand
      case .greater: return operand.lexicographicallyPrecedes(value)
      case .less: return value.lexicographicallyPrecedes(operand)
      }
    }
  }
}
