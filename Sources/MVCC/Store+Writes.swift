import EtcdWire
import Primitives

// Changes of keys. Each comes in two steps: what could fail is checked against the unchanged state,
// then the change is made with the revision that the transaction will take.

extension Store {
  // MARK: Commands

  /// A put as a transaction of its own.
  ///
  /// - Returns: the record that was superseded; it is valid until the next maintenance.
  func put(_ request: PutRequest) throws(ApplyError) -> Record? {
    if request.key.isEmpty { throw .emptyKey }
    if request.lease != 0, root.lease(request.lease) == nil { throw .leaseNotFound }
    if request.ignoresValue || request.ignoresLease, root.liveRecord(request.key) == nil {
      throw .keyNotFound
    }
    let previous = put(request, at: root.revision &+ 1)
    root.revision &+= 1
    return previous
  }

  /// A deletion as a transaction of its own; it takes a revision if it deletes anything.
  ///
  /// - Returns: the deleted records, in the order of keys; valid until the next maintenance.
  func deleteRange(_ request: DeleteRangeRequest) -> [Record] {
    let deleted = deleteRange(request.range, at: root.revision &+ 1)
    if !deleted.isEmpty { root.revision &+= 1 }
    return deleted
  }

  /// A transaction. Its response is appended to `output`, without header, if wanted.
  func transaction(
    _ request: TxnRequest, _ wantsResults: Bool, _ output: inout [UInt8]
  ) throws(ApplyError) {
    var path = BranchPath()
    root.chooseBranches(request, into: &path)
    try root.check(request, &path)
    var changes = TransactionChanges(revision: root.revision &+ 1)
    try run(request, &path, &changes, wantsResults, &output)
    if changes.any { root.revision = changes.revision }
  }

  func appendDeleteRange(
    _ request: DeleteRangeRequest, _ deleted: [Record], to output: inout [UInt8]
  ) {
    DeleteRangeResponse.append(deleted: Int64(deleted.count), to: &output)
    if request.wantsPrevious {
      output.reserve(deleted.reduce(16) { $0 + $1.encodedSize + 11 })
      for record in deleted {
        DeleteRangeResponse.append(encodedPrevious: record.encoded, to: &output)
      }
    }
  }

  // MARK: Transactions

  private struct TransactionChanges {
    /// The revision of everything that the transaction changes.
    var revision: Int64
    var any = false
    /// What a read within the transaction reports as the newest revision.
    var current: Int64 { any ? revision : revision &- 1 }
  }

  /// Runs the operations of the chosen branches. Nothing of this fails: `Root.check` saw to it.
  private func run(
    _ txn: TxnRequest, _ path: inout BranchPath, _ changes: inout TransactionChanges,
    _ wantsResults: Bool, _ output: inout [UInt8]
  ) throws(ApplyError) {
    let isSuccess = path.take()
    if wantsResults { TxnResponse.append(succeeded: isSuccess, to: &output) }
    for operation in txn.branch(isSuccess) {
      #if PLANTED_BUGS
        if PlantedBug.dividedTransaction.isPlanted, changes.any { changes.revision += 1 }
      #endif
      guard wantsResults else {
        try runSilently(operation, &path, &changes, &output)
        continue
      }
      let response = output.beginMessage(field: TxnResponse.responsesField)
      switch operation.request {
      case .range(let request):
        let content = output.beginMessage(field: ResponseOp.Field.range)
        output.appendRevisionHeader(changes.current)
        try root.range(request, current: changes.current, into: &output)
        output.endMessage(content)
      case .put(let request):
        let previous = put(request, at: changes.revision)
        changes.any = true
        let content = output.beginMessage(field: ResponseOp.Field.put)
        output.appendRevisionHeader(changes.revision)
        if request.wantsPrevious, let previous {
          PutResponse.append(encodedPrevious: previous.encoded, to: &output)
        }
        output.endMessage(content)
      case .deleteRange(let request):
        let deleted = deleteRange(request.range, at: changes.revision)
        if !deleted.isEmpty { changes.any = true }
        let content = output.beginMessage(field: ResponseOp.Field.deleteRange)
        output.appendRevisionHeader(changes.current)
        appendDeleteRange(request, deleted, to: &output)
        output.endMessage(content)
      case .txn(let nested):
        let content = output.beginMessage(field: ResponseOp.Field.txn)
        // A nested transaction's header is there and empty, as in etcd.
        output.append(field: 1, encoded: .none)
        try run(nested, &path, &changes, wantsResults, &output)
        output.endMessage(content)
      case .none:
        break
      }
      output.endMessage(response)
    }
  }

  /// Runs one operation on a member that has nobody to answer.
  private func runSilently(
    _ operation: RequestOp, _ path: inout BranchPath, _ changes: inout TransactionChanges,
    _ output: inout [UInt8]
  ) throws(ApplyError) {
    switch operation.request {
    case .put(let request):
      #if PLANTED_BUGS
        if PlantedBug.applyForClients.isPlanted { return }
      #endif
      _ = put(request, at: changes.revision)
      changes.any = true
    case .deleteRange(let request):
      if !deleteRange(request.range, at: changes.revision).isEmpty { changes.any = true }
    case .txn(let nested): try run(nested, &path, &changes, false, &output)
    case .range, .none: break
    }
  }

  // MARK: Changes

  /// Puts a key. Everything that could fail has been checked.
  ///
  /// - Returns: the record that was superseded.
  private func put(_ request: PutRequest, at revision: Int64) -> Record? {
    let key = TreeKey(request.key)
    var (cursor, exists) = root.live.descend(to: key)
    let previous = exists ? cursor.record : nil
    let numbers = previous?.numbers ?? Record.Numbers(createRevision: revision)
    // Wraps after 2^63 puts.
    var version = numbers.version &+ 1
    #if PLANTED_BUGS
      if PlantedBug.undeadVersion.isPlanted, previous == nil,
        root.lastSuperseded(request.key, below: revision) != nil
      {
        version += 1
      }
    #endif
    let record = Record.make(
      key: request.key, createRevision: numbers.createRevision, modRevision: revision,
      version: version,
      lease: request.ignoresLease ? numbers.lease : request.lease,
      value: request.ignoresValue ? previous?.value ?? .none : request.value)
    arena.adopt(record)
    makeLive(record, &cursor, previous, numbers)
    appendEvent(record)
    mix(.put, record)
    return previous
  }

  /// Makes a record its key's live one, in place of the one before.
  func makeLive(_ record: Record) {
    var (cursor, exists) = root.live.descend(to: TreeKey(record.key))
    let previous = exists ? cursor.record : nil
    makeLive(record, &cursor, previous, previous?.numbers ?? Record.Numbers())
  }

  @inline(__always)
  private func makeLive(
    _ record: Record, _ cursor: inout TreeCursor, _ previous: Record?, _ numbers: Record.Numbers
  ) {
    let lease = record.lease
    if let previous {
      root.live.replace(at: &cursor, with: record.address, arena)
      supersede(previous, at: record.modRevision)
      if numbers.lease != 0 && numbers.lease != lease { detach(previous, from: numbers.lease) }
    } else {
      root.live.insert(at: &cursor, record.address, key: TreeKey(record.key), arena)
    }
    if lease != 0 { attach(record, to: lease) }
  }

  func appendEvent(_ record: Record) {
    root.events.append(record.address, word: UInt64(bitPattern: record.modRevision), arena)
  }

  /// Deletes the keys of a range.
  ///
  /// - Returns: their records, in the order of keys.
  private func deleteRange(_ range: KeyRange, at revision: Int64) -> [Record] {
    var records: [Record] = []
    if range.isSingleKey {
      guard let record = root.liveRecord(range.key) else { return [] }
      records.append(record)
    } else {
      var left = root.count(range)
      if left == 0 { return [] }
      records.reserveCapacity(left)
      var cursor = root.live.seek(TreeKey(range.key))
      while left > 0, let record = cursor.record {
        records.append(record)
        left -= 1
        cursor.advance()
      }
    }
    for record in records {
      let lease = record.lease
      if lease != 0 { detach(record, from: lease) }
      delete(record, at: revision)
    }
    return records
  }

  /// Deletes the key of a live record that is attached to no lease any more.
  func delete(_ record: Record, at revision: Int64) {
    let tombstone = Record.makeTombstone(key: record.key, modRevision: revision)
    arena.adopt(tombstone)
    endLife(of: record, at: revision)
    insertIntoHistory(tombstone)
    appendEvent(tombstone)
    mix(.delete, tombstone)
  }

  /// Takes a live record out of the live tree and into the history.
  func endLife(of record: Record, at revision: Int64) {
    var (cursor, exists) = root.live.descend(to: TreeKey(record.key))
    invariant(exists, "a record to delete isn't live")
    root.live.remove(at: &cursor, arena)
    supersede(record, at: revision)
  }

  /// Moves a record that was live into the history.
  private func supersede(_ record: Record, at revision: Int64) {
    if record.modRevision == revision { record.markTransient() }
    insertIntoHistory(record)
  }

  func insertIntoHistory(_ record: Record) {
    // Behind those of the same revision, so that the last one stands last.
    let place = TreeKey(record.key, revision: record.modRevision &+ 1)
    var cursor = root.history.descend(to: place).0
    root.history.insert(
      at: &cursor, record.address, key: TreeKey(record.key, revision: record.modRevision), arena)
  }
}
