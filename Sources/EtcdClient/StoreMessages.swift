import EtcdWire
import Primitives

/// Translates between the client's values and etcd's messages.
///
/// `EtcdWire`'s messages borrow their bytes, so each message is written while the arrays that it
/// borrows from are held, and each answer is copied out before its buffer goes.
enum StoreMessages {
  static func range(_ query: StoreQuery) -> [UInt8] {
    query.range.first.withUnsafeBytes { first in
      query.range.end.withUnsafeBytes { end in
        var request = RangeRequest()
        request.key = first
        request.rangeEnd = end
        request.limit = Int64(query.limit ?? 0)
        request.revision = query.revision?.rawValue ?? 0
        request.serializable = query.isSerializable
        request.keysOnly = query.keysOnly
        request.countOnly = query.countOnly
        return request.encoded()
      }
    }
  }

  static func page(_ bytes: [UInt8]) throws(StoreError) -> StorePage {
    try decode(bytes) { (response: RangeResponse) throws(StoreError) in
      StorePage(
        records: response.keyValues.map(record), hasMore: response.more,
        count: Int(clamping: response.count),
        revision: Revision(response.header?.revision ?? 0))
    }
  }

  /// If the key is at the expected revision, change it; else, read it.
  static func swap(_ swap: StoreSwap) -> [UInt8] {
    var output: [UInt8] = []
    swap.key.withUnsafeBytes { key in
      var compare = Compare()
      compare.relation = .equal
      compare.target = .modRevision
      compare.key = key
      compare.operand = .modRevision(swap.expected.rawValue)
      output.append(field: 1, message: compare)
      switch swap.change {
      case .put(let value, let lease):
        value.withUnsafeBytes { value in
          var put = PutRequest()
          put.key = key
          put.value = value
          put.lease = lease.rawValue
          output.append(field: 2, message: RequestOp(.put(put)))
        }
      case .delete:
        var delete = DeleteRangeRequest()
        delete.key = key
        output.append(field: 2, message: RequestOp(.deleteRange(delete)))
      }
      var read = RangeRequest()
      read.key = key
      output.append(field: 3, message: RequestOp(.range(read)))
    }
    for companion in swap.companions { append(companion, to: &output) }
    return output
  }

  private static func append(_ companion: StoreSwap.Companion, to output: inout [UInt8]) {
    switch companion {
    case .claim(let key, let value):
      key.withUnsafeBytes { key in
        var compare = Compare()
        compare.relation = .equal
        compare.target = .modRevision
        compare.key = key
        compare.operand = .modRevision(0)
        output.append(field: 1, message: compare)
        value.withUnsafeBytes { value in
          var put = PutRequest()
          put.key = key
          put.value = value
          output.append(field: 2, message: RequestOp(.put(put)))
        }
        var read = RangeRequest()
        read.key = key
        read.keysOnly = true
        output.append(field: 3, message: RequestOp(.range(read)))
      }
    case .release(let key):
      key.withUnsafeBytes { key in
        var delete = DeleteRangeRequest()
        delete.key = key
        output.append(field: 2, message: RequestOp(.deleteRange(delete)))
      }
    }
  }

  static func swapOutcome(
    _ bytes: [UInt8], of swap: StoreSwap
  ) throws(StoreError) -> StoreSwapOutcome {
    try decode(bytes) { (response: TxnResponse) throws(StoreError) in
      if response.succeeded { return .done(Revision(response.header?.revision ?? 0)) }
      var found: [StoreRecord?] = []
      for operation in response.responses {
        guard case .range(let range) = operation.response else { continue }
        found.append(range.keyValues.first.map(record))
      }
      guard found.count == 1 + swap.claims.count else {
        throw StoreError(.malformedAnswer, "a transaction's answer lacks its reads")
      }
      if (found[0]?.modRevision ?? .zero) != swap.expected { return .conflict(current: found[0]) }
      return .taken(keys: found.dropFirst().compactMap { $0?.key })
    }
  }

  static func put(key: [UInt8], value: [UInt8], lease: LeaseID) -> [UInt8] {
    key.withUnsafeBytes { key in
      value.withUnsafeBytes { value in
        var request = PutRequest()
        request.key = key
        request.value = value
        request.lease = lease.rawValue
        return request.encoded()
      }
    }
  }

  static func delete(_ range: StoreRange) -> [UInt8] {
    range.first.withUnsafeBytes { first in
      range.end.withUnsafeBytes { end in
        var request = DeleteRangeRequest()
        request.key = first
        request.rangeEnd = end
        return request.encoded()
      }
    }
  }

  static func watch(_ range: StoreRange, from revision: Revision?) -> [UInt8] {
    range.first.withUnsafeBytes { first in
      range.end.withUnsafeBytes { end in
        var create = WatchCreateRequest()
        create.key = first
        create.rangeEnd = end
        create.startRevision = revision?.rawValue ?? 0
        create.wantsProgress = true
        return WatchRequest(.create(create)).encoded()
      }
    }
  }

  /// One message of a watch stream, copied out.
  struct WatchMessage {
    var revision: Revision
    /// An answer to a progress request: sent for the stream as a whole. Before 3.5.8 etcd sent it even
    /// while changes were still waiting, so it proves that the stream lives and nothing else.
    var isRequestedProgress: Bool
    var isCreated: Bool
    var isCancelled: Bool
    var cancelReason: String
    var compactRevision: Revision
    var changes: [StoreChange]
  }

  static func watchMessage(_ bytes: [UInt8]) throws(StoreError) -> WatchMessage {
    try decode(bytes) { (response: WatchResponse) throws(StoreError) in
      WatchMessage(
        revision: Revision(response.header?.revision ?? 0),
        isRequestedProgress: response.watchID == -1, isCreated: response.created,
        isCancelled: response.canceled,
        cancelReason: String(decoding: response.cancelReason, as: UTF8.self),
        compactRevision: Revision(response.compactRevision),
        changes: response.events.compactMap { event in
          guard let keyValue = event.keyValue else { return nil }
          return StoreChange(
            kind: event.kind == .delete ? .delete : .put, record: record(keyValue))
        })
    }
  }

  static func leaseGrant(seconds: Int64) -> [UInt8] {
    var request = LeaseGrantRequest()
    request.timeToLive = seconds
    return request.encoded()
  }

  static func lease(_ bytes: [UInt8]) throws(StoreError) -> (id: LeaseID, seconds: Int64) {
    try decode(bytes) { (response: LeaseGrantResponse) throws(StoreError) in
      (LeaseID(response.id), response.timeToLive)
    }
  }

  static func leaseRevoke(_ id: LeaseID) -> [UInt8] {
    var request = LeaseRevokeRequest()
    request.id = id.rawValue
    return request.encoded()
  }

  private static func record(_ keyValue: KeyValue) -> StoreRecord {
    StoreRecord(
      key: Array(keyValue.key), value: Array(keyValue.value),
      createRevision: Revision(keyValue.createRevision),
      modRevision: Revision(keyValue.modRevision), version: keyValue.version,
      lease: LeaseID(keyValue.lease))
  }

  /// Reads a message and hands it on while its bytes live.
  static func decode<Message: WireMessage, Answer>(
    _ bytes: [UInt8], _ read: (Message) throws(StoreError) -> Answer
  ) throws(StoreError) -> Answer {
    let result: Result<Answer, StoreError> = bytes.withUnsafeBytes { buffer in
      do throws(WireError) {
        let message = try Message(buffer)
        do throws(StoreError) { return .success(try read(message)) } catch {
          return .failure(error)
        }
      } catch {
        return .failure(StoreError(.malformedAnswer, "an answer can't be read: \(error)"))
      }
    }
    return try result.get()
  }
}
