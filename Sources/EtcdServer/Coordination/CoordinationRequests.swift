import EtcdProto
import Foundation
import HTTP2

// The requests that locks and elections are made of.

/// The first key behind all that begin with `prefix`, as `range_end` has it.
func prefixEnd(_ prefix: [UInt8]) -> [UInt8] {
  var end = prefix
  while let last = end.popLast() {
    if last < 0xFF { return end + [last + 1] }
  }
  return [0]
}

extension Etcdserverpb_RangeRequest {
  static func only(_ key: [UInt8]) -> Self {
    var request = Self()
    request.key = Data(key)
    return request
  }

  /// The key of a prefix that was created first.
  static func oldest(of prefix: [UInt8]) -> Self { first(of: prefix, .ascend) }

  /// The key of a prefix that was created last.
  static func newest(of prefix: [UInt8]) -> Self { first(of: prefix, .descend) }

  private static func first(of prefix: [UInt8], _ order: SortOrder) -> Self {
    var request = only(prefix)
    request.rangeEnd = Data(prefixEnd(prefix))
    request.sortTarget = .create
    request.sortOrder = order
    request.limit = 1
    return request
  }
}

extension Etcdserverpb_Compare {
  /// Whether a key is there since a revision; not at all, for zero.
  static func isCreated(_ key: [UInt8], at revision: Int64) -> Self {
    var compare = Self()
    compare.key = Data(key)
    compare.target = .create
    compare.result = .equal
    compare.createRevision = revision
    return compare
  }
}

extension Etcdserverpb_RequestOp {
  static func put(_ request: Etcdserverpb_PutRequest) -> Self {
    var operation = Self()
    operation.requestPut = request
    return operation
  }

  static func range(_ request: Etcdserverpb_RangeRequest) -> Self {
    var operation = Self()
    operation.requestRange = request
    return operation
  }

  static func delete(_ key: [UInt8]) -> Self {
    var operation = Self()
    operation.requestDeleteRange.key = Data(key)
    return operation
  }
}

extension Etcdserverpb_WatchCreateRequest {
  /// Tells when a key is deleted after a revision.
  static func departure(of key: [UInt8], after revision: Int64) -> Self {
    var request = Self()
    request.key = Data(key)
    request.startRevision = revision + 1
    request.filters = [.noput]
    return request
  }
}

extension Etcdserverpb_WatchResponse {
  /// Why a watch was cancelled, if for another reason than that its start was compacted: after that, looking again
  /// helps.
  var refusal: GRPCStatus? {
    canceled && compactRevision == 0 ? GRPCStatus(.unknown, cancelReason) : nil
  }
}
