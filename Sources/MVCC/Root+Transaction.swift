import EtcdWire
import Primitives

// The parts of a transaction that only read: its predicates, the checks before anything is changed,
// and whole transactions that change nothing.
//
// A transaction chooses its branches, and those of the transactions nested in it, by the state
// before its first change, as etcd does. So the choice comes first and is written down
// (`BranchPath`); then everything that could fail is checked; then the operations run, and none can
// fail.

/// Which branch each transaction of a nest takes, in the order in which they stand in the branches
/// taken.
struct BranchPath {
  private var bits: UInt64 = 0
  private var count = 0
  private var others: [Bool] = []
  private var position = 0

  mutating func append(_ isSuccess: Bool) {
    if count < 64 {
      if isSuccess { bits |= 1 << UInt64(count) }
    } else {
      others.append(isSuccess)
    }
    count += 1
  }

  /// The next transaction's branch. Call it once for each transaction, in order.
  mutating func take() -> Bool {
    invariant(position < count, "more transactions than branches were chosen")
    defer { position += 1 }
    return position < 64 ? bits & (1 << UInt64(position)) != 0 : others[position - 64]
  }

  mutating func rewind() { position = 0 }
}

extension TxnRequest {
  func branch(_ isSuccess: Bool) -> RepeatedField<RequestOp> { isSuccess ? success : failure }

  /// Whether no branch, however nested, holds a put or a deletion.
  var isReadOnly: Bool {
    for branch in [success, failure] {
      for operation in branch {
        switch operation.request {
        case .put, .deleteRange: return false
        case .txn(let nested): if !nested.isReadOnly { return false }
        case .range, .none: break
        }
      }
    }
    return true
  }
}

extension Root {
  // MARK: Predicates

  /// Chooses the branches of a transaction and those nested in it.
  func chooseBranches(_ txn: TxnRequest, into path: inout BranchPath) {
    var isSuccess = true
    for predicate in txn.compare where !holds(predicate) {
      isSuccess = false
      break
    }
    path.append(isSuccess)
    for operation in txn.branch(isSuccess) {
      if case .txn(let nested) = operation.request { chooseBranches(nested, into: &path) }
    }
  }

  /// Whether a predicate holds for every key of its range; a range without keys compares as a key
  /// that was never put, and fails if its value is asked for.
  private func holds(_ predicate: Compare) -> Bool {
    let range = predicate.range
    if range.isSingleKey {
      guard let record = liveRecord(range.key) else { return holdsForMissing(predicate) }
      return holds(predicate, record)
    }
    var left = count(range)
    if left == 0 { return holdsForMissing(predicate) }
    var cursor = live.seek(TreeKey(range.key))
    while left > 0, let record = cursor.record {
      if !holds(predicate, record) { return false }
      left -= 1
      cursor.advance()
    }
    return true
  }

  private func holdsForMissing(_ predicate: Compare) -> Bool {
    if predicate.target == .value { return false }
    #if PLANTED_BUGS
      if PlantedBug.missingKeyPredicate.isPlanted {
        return !predicate.relation.holds(Root.compare(0, predicate.number))
      }
    #endif
    return predicate.relation.holds(Root.compare(0, predicate.number))
  }

  private func holds(_ predicate: Compare, _ record: Record) -> Bool {
    let difference: Int
    switch predicate.target {
    case .version: difference = Root.compare(record.numbers.version, predicate.number)
    case .createRevision:
      difference = Root.compare(record.numbers.createRevision, predicate.number)
    case .modRevision: difference = Root.compare(record.modRevision, predicate.number)
    case .lease: difference = Root.compare(record.numbers.lease, predicate.number)
    case .value: difference = record.value.compareBytes(predicate.value)
    // A target from the future compares as equal, as in etcd.
    default: difference = 0
    }
    return predicate.relation.holds(difference)
  }

  private static func compare(_ left: Int64, _ right: Int64) -> Int {
    left < right ? -1 : left == right ? 0 : 1
  }

  // MARK: Checks

  /// Checks everything about the chosen operations that could fail: as in etcd first all puts, then
  /// all ranges, so that both give the same of several errors.
  func check(_ txn: TxnRequest, _ path: inout BranchPath) throws(ApplyError) {
    try checkPuts(txn, &path)
    path.rewind()
    try checkRanges(txn, &path)
    path.rewind()
  }

  private func checkPuts(_ txn: TxnRequest, _ path: inout BranchPath) throws(ApplyError) {
    for operation in txn.branch(path.take()) {
      switch operation.request {
      case .put(let request):
        if request.key.isEmpty { throw .emptyKey }
        if request.ignoresValue || request.ignoresLease, liveRecord(request.key) == nil {
          throw .keyNotFound
        }
        if request.lease != 0, lease(request.lease) == nil { throw .leaseNotFound }
      case .txn(let nested): try checkPuts(nested, &path)
      case .none: throw .keyNotFound
      case .range, .deleteRange: break
      }
    }
  }

  private func checkRanges(_ txn: TxnRequest, _ path: inout BranchPath) throws(ApplyError) {
    for operation in txn.branch(path.take()) {
      switch operation.request {
      case .range(let request):
        // Only zero means the newest revision here; outside of transactions anything below does
        // too.
        if request.revision == 0 { continue }
        if request.revision > revision { throw .futureRevision }
        if request.revision < compactRevision { throw .compacted }
      case .txn(let nested): try checkRanges(nested, &path)
      case .put, .deleteRange, .none: break
      }
    }
  }

  // MARK: Transactions that only read

  /// Appends the `TxnResponse` of a read-only transaction, without its header.
  func transaction(_ txn: TxnRequest, into output: inout [UInt8]) throws(ApplyError) {
    var path = BranchPath()
    chooseBranches(txn, into: &path)
    try check(txn, &path)
    try appendReads(txn, &path, to: &output)
  }

  private func appendReads(
    _ txn: TxnRequest, _ path: inout BranchPath, to output: inout [UInt8]
  ) throws(ApplyError) {
    let isSuccess = path.take()
    TxnResponse.append(succeeded: isSuccess, to: &output)
    for operation in txn.branch(isSuccess) {
      let response = output.beginMessage(field: TxnResponse.responsesField)
      switch operation.request {
      case .range(let request):
        let content = output.beginMessage(field: ResponseOp.Field.range)
        output.appendRevisionHeader(revision)
        try range(request, current: revision, into: &output)
        output.endMessage(content)
      case .txn(let nested):
        let content = output.beginMessage(field: ResponseOp.Field.txn)
        output.append(field: 1, encoded: .none)
        try appendReads(nested, &path, to: &output)
        output.endMessage(content)
      case .put, .deleteRange, .none:
        // `isReadOnly` and `check` have seen to it.
        throw .keyNotFound
      }
      output.endMessage(response)
    }
  }
}

extension Compare.Relation {
  /// Whether the relation holds between two things that compare as `difference` says.
  fileprivate func holds(_ difference: Int) -> Bool {
    switch self {
    case .equal: difference == 0
    case .greater: difference > 0
    case .less: difference < 0
    case .notEqual: difference != 0
    // A relation from the future holds, as in etcd.
    default: true
    }
  }
}

extension [UInt8] {
  /// The header of an operation's response within a transaction: its revision and nothing else.
  mutating func appendRevisionHeader(_ revision: Int64) {
    ResponseHeader(clusterID: 0, memberID: 0, revision: revision, raftTerm: 0)
      .appendAsField(to: &self)
  }
}
