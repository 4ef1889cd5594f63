// What a server refuses before anything is proposed
// =================================================
//
// A request that is refused must be refused by the member that received it: once it is in the log,
// every member applies it. These checks are pure functions of the request, in etcd's order, so that a
// client sees the same error for the same request.
//
// The one check that is more than a comparison is `duplicateKey`: a transaction has one revision, so no
// key may be put twice in it, nor be put and deleted. Either branch of a nested transaction may be
// taken, but never both, so a key may be put in both of them. etcd's rule, which this follows, looks at
// each list of operations from the inside out:
//
//     puts, deletes := the deletes of this list
//     for each nested transaction, in order:
//       then := its success list, checked likewise; else := its failure list, checked likewise
//       no put of `then` may be in puts or deletes; add them
//       no put of `else` may be in deletes, or in puts unless it came from `then`; add them
//       add the deletes of both
//     no put of this list may be in puts or deletes; add them
//
// So a delete in a later nested transaction does not forbid a put in an earlier one. That is etcd's
// rule too; applying in order gives it a meaning.
//
// For a delete whose range has no end (`range_end` "\0"), etcd compares with the end as if it were an ordinary
// key; so it forbids nothing. Clients may rely on being let through, and applying in order gives it a meaning.
//
// Cost: O(n log n) in the number of operations; nothing is allocated for the transactions that
// Kubernetes sends, which change one key.

extension RangeRequest {
  /// What etcd would refuse the request for.
  public func check() -> EtcdError? {
    if key.isEmpty { return .emptyKey }
    if !sortOrder.isKnown || !sortTarget.isKnown { return .invalidSortOption }
    return nil
  }

  /// What etcd would refuse the request for as a `RangeStream`.
  public func checkForStream() -> EtcdError? {
    if let error = check() { return error }
    let isDefaultOrder =
      sortOrder == .none || (sortOrder == .ascending && sortTarget == .key)
    if !isDefaultOrder { return .rangeStreamSortOrder }
    if minModRevision != 0 || maxModRevision != 0 || minCreateRevision != 0
      || maxCreateRevision != 0
    {
      return .rangeStreamRevisionFilter
    }
    return nil
  }
}

extension PutRequest {
  /// What etcd would refuse the request for.
  public func check() -> EtcdError? {
    if key.isEmpty { return .emptyKey }
    if ignoresValue && !value.isEmpty { return .valueProvided }
    if ignoresLease && lease != 0 { return .leaseProvided }
    return nil
  }
}

extension DeleteRangeRequest {
  /// What etcd would refuse the request for.
  public func check() -> EtcdError? { key.isEmpty ? .emptyKey : nil }
}

extension LeaseGrantRequest {
  /// The longest life of a lease, in seconds; etcd's bound, some 285 years.
  public static let maximumTimeToLive: Int64 = 9_000_000_000

  /// What etcd would refuse the request for.
  public func check() -> EtcdError? {
    timeToLive > Self.maximumTimeToLive ? .leaseTimeToLiveTooLarge : nil
  }
}

extension TxnRequest {
  /// What etcd would refuse the request for.
  ///
  /// - Parameter maximumOperations: `--max-txn-ops`: how many predicates, and how many operations in
  ///   each list, a transaction may have. A nested one gets what the one around it left.
  public func check(maximumOperations: Int) -> EtcdError? {
    var changes = Changes()
    if let error = check(maximum: maximumOperations, &changes) { return error }
    // Duplicates come last, so that the lists compared are of bounded length. A list with one change
    // has none; those are the ones that Kubernetes sends.
    if changes.success > 1, let error = success.checkDuplicates() { return error }
    if changes.failure > 1, let error = failure.checkDuplicates() { return error }
    return nil
  }

  /// How many keys or ranges each list may change; a nested transaction counts as several.
  private struct Changes {
    var success = 0
    var failure = 0
  }

  private func check(maximum: Int, _ changes: inout Changes) -> EtcdError? {
    let operations = max(compare.count, success.count, failure.count)
    if operations > maximum { return .tooManyOperations }
    for predicate in compare where predicate.key.isEmpty { return .emptyKey }
    let rest = maximum - operations
    return success.check(maximumOperations: rest, changes: &changes.success)
      ?? failure.check(maximumOperations: rest, changes: &changes.failure)
  }

  fileprivate func checkNested(maximum: Int) -> EtcdError? {
    var changes = Changes()
    return check(maximum: maximum, &changes)
  }
}

extension RepeatedField where Element == RequestOp {
  fileprivate func check(maximumOperations: Int, changes: inout Int) -> EtcdError? {
    for operation in self {
      let error: EtcdError?
      switch operation.request {
      case .none: error = .keyNotFound
      case .range(let range): error = range.check()
      case .put(let put):
        error = put.check()
        changes += 1
      case .deleteRange(let deleteRange):
        error = deleteRange.check()
        changes += 1
      case .txn(let txn):
        error = txn.checkNested(maximum: maximumOperations)
        changes += 2
      }
      if let error { return error }
    }
    return nil
  }

  fileprivate func checkDuplicates() -> EtcdError? {
    var keys = ChangedKeys()
    return keys.collect(self)
  }
}

/// The keys that a list of operations puts and the ranges that it deletes.
private struct ChangedKeys {
  /// Sorted, without equal ones.
  var puts: [UnsafeRawBufferPointer] = []
  /// Sorted by key, without overlaps.
  var deletes: [KeyRange] = []

  /// Takes up all changes of `operations`, from the inside out.
  mutating func collect(_ operations: RepeatedField<RequestOp>) -> EtcdError? {
    var ownDeletes: [KeyRange] = []
    var ownPuts: [UnsafeRawBufferPointer] = []
    for operation in operations {
      switch operation.request {
      case .deleteRange(let request): ownDeletes.append(request.range)
      case .put(let request): ownPuts.append(request.key)
      case .txn, .range, .none: break
      }
    }
    addDeletes(ownDeletes)

    for operation in operations {
      guard case .txn(let txn) = operation.request else { continue }
      var success = ChangedKeys()
      if let error = success.collect(txn.success) { return error }
      var failure = ChangedKeys()
      if let error = failure.collect(txn.failure) { return error }
      if collides(success.puts) || collides(failure.puts) { return .duplicateKey }
      // Only one branch is taken, so what both put counts once.
      puts = Self.union(puts, Self.union(success.puts, failure.puts))
      addDeletes(success.deletes)
      addDeletes(failure.deletes)
    }

    ownPuts.sort { $0.precedes($1) }
    for (earlier, later) in zip(ownPuts, ownPuts.dropFirst())
    where earlier.hasSameBytes(as: later) {
      return .duplicateKey
    }
    if collides(ownPuts) { return .duplicateKey }
    puts = Self.union(puts, ownPuts)
    return nil
  }

  /// Whether one of `keys`, which are sorted, is put or deleted already. O(keys + puts + deletes).
  private func collides(_ keys: [UnsafeRawBufferPointer]) -> Bool {
    var put = 0
    var delete = 0
    for key in keys {
      while put < puts.count, puts[put].precedes(key) { put += 1 }
      if put < puts.count, puts[put].hasSameBytes(as: key) { return true }
      // Ranges don't overlap, so once one ends before this key it is of no use for later ones.
      while delete < deletes.count, deletes[delete].endsBefore(key) { delete += 1 }
      if delete < deletes.count, deletes[delete].contains(key) { return true }
    }
    return false
  }

  /// Merges two sorted lists, dropping what is in both.
  private static func union(
    _ left: [UnsafeRawBufferPointer], _ right: [UnsafeRawBufferPointer]
  ) -> [UnsafeRawBufferPointer] {
    if left.isEmpty { return right }
    if right.isEmpty { return left }
    var merged: [UnsafeRawBufferPointer] = []
    merged.reserveCapacity(left.count + right.count)
    var (l, r) = (0, 0)
    while l < left.count && r < right.count {
      let order = left[l].compareBytes(right[r])
      merged.append(order <= 0 ? left[l] : right[r])
      if order <= 0 { l += 1 }
      if order >= 0 { r += 1 }
    }
    merged.append(contentsOf: left[l...])
    merged.append(contentsOf: right[r...])
    return merged
  }

  /// Adds ranges, keeping the list sorted and joining those that overlap. O(n log n).
  private mutating func addDeletes(_ ranges: [KeyRange]) {
    if ranges.isEmpty { return }
    deletes.append(contentsOf: ranges)
    deletes.sort { $0.key.precedes($1.key) }
    var joined: [KeyRange] = []
    joined.reserveCapacity(deletes.count)
    for range in deletes {
      // A range that holds nothing forbids nothing; nor does one without an end.
      if range.isUnbounded { continue }
      if !range.isSingleKey && !range.key.precedes(range.rangeEnd) { continue }
      if let last = joined.last, last.contains(range.key) {
        if range.reachesFurther(than: last) { joined[joined.count - 1].rangeEnd = range.rangeEnd }
      } else {
        joined.append(range)
      }
    }
    deletes = joined
  }
}

extension KeyRange {
  /// Whether all keys of the range are below `candidate`.
  fileprivate func endsBefore(_ candidate: UnsafeRawBufferPointer) -> Bool {
    if isSingleKey { return key.precedes(candidate) }
    return !candidate.precedes(rangeEnd)
  }

  /// Whether this range, which begins inside `other`, ends after it.
  fileprivate func reachesFurther(than other: KeyRange) -> Bool {
    if isSingleKey { return false }
    if other.isSingleKey { return true }
    return other.rangeEnd.precedes(rangeEnd)
  }
}
