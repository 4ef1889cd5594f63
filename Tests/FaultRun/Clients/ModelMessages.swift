import EtcdProto
import Foundation
import SwiftProtobuf
import Verification

// Between the checker's words and etcd's messages, by the generated types: the store's own hand-written readers and
// writers have no part in what is held against the store.

extension ModelRequest {
  var range: Etcdserverpb_RangeRequest {
    guard case .range(let range, let revision, let isSerializable) = self else { return .init() }
    return .with {
      $0.key = Data(range.key)
      $0.rangeEnd = Data(range.end)
      $0.revision = revision
      $0.serializable = isSerializable
    }
  }

  var put: Etcdserverpb_PutRequest {
    guard case .put(let key, let value, let lease) = self else { return .init() }
    return .with {
      $0.key = Data(key)
      $0.value = Data(value)
      $0.lease = lease
      $0.prevKv = true
    }
  }

  var delete: Etcdserverpb_DeleteRangeRequest {
    guard case .delete(let range) = self else { return .init() }
    return .with {
      $0.key = Data(range.key)
      $0.rangeEnd = Data(range.end)
      $0.prevKv = true
    }
  }

  var transaction: Etcdserverpb_TxnRequest {
    guard case .txn(let compares, let success, let failure) = self else { return .init() }
    return .with {
      $0.compare = compares.map(\.message)
      $0.success = success.map(\.operation)
      $0.failure = failure.map(\.operation)
    }
  }

  private var operation: Etcdserverpb_RequestOp {
    .with {
      switch self {
      case .range: $0.requestRange = range
      case .put: $0.requestPut = put
      case .delete: $0.requestDeleteRange = delete
      case .txn: $0.requestTxn = transaction
      case .endLease: break
      }
    }
  }
}

extension ModelCompare {
  fileprivate var message: Etcdserverpb_Compare {
    .with {
      $0.key = Data(key)
      $0.result =
        switch relation {
        case .equal: .equal
        case .notEqual: .notEqual
        case .greater: .greater
        case .less: .less
        }
      switch operand {
      case .version(let value):
        $0.target = .version
        $0.version = value
      case .createRevision(let value):
        $0.target = .create
        $0.createRevision = value
      case .modRevision(let value):
        $0.target = .mod
        $0.modRevision = value
      case .value(let value):
        $0.target = .value
        $0.value = Data(value)
      case .lease(let value):
        $0.target = .lease
        $0.lease = value
      }
    }
  }
}

extension ModelRecord {
  init(_ record: Mvccpb_KeyValue) {
    self.init(
      key: Array(record.key), value: Array(record.value), createRevision: record.createRevision,
      modRevision: record.modRevision, version: record.version, lease: record.lease)
  }
}

extension ModelResponse {
  init(_ response: Etcdserverpb_RangeResponse) {
    self = .range(response.kvs.map { ModelRecord($0) }, count: response.count)
  }

  init(_ response: Etcdserverpb_PutResponse) {
    self = .put(previous: .some(response.hasPrevKv ? ModelRecord(response.prevKv) : nil))
  }

  init(_ response: Etcdserverpb_DeleteRangeResponse) {
    self = .delete(count: response.deleted, previous: response.prevKvs.map { ModelRecord($0) })
  }

  /// Nil for an answer that has parts of no kind.
  init?(_ response: Etcdserverpb_TxnResponse) {
    var parts: [ModelResponse] = []
    for part in response.responses {
      switch part.response {
      case .responseRange(let response): parts.append(ModelResponse(response))
      case .responsePut(let response): parts.append(ModelResponse(response))
      case .responseDeleteRange(let response): parts.append(ModelResponse(response))
      case .responseTxn(let response):
        guard let inner = ModelResponse(response) else { return nil }
        parts.append(inner)
      case nil: return nil
      }
    }
    self = .txn(succeeded: response.succeeded, parts)
  }
}

extension ModelEvent {
  init(_ event: Mvccpb_Event) {
    self.init(
      isDelete: event.type == .delete, record: ModelRecord(event.kv),
      previous: event.hasPrevKv ? ModelRecord(event.prevKv) : nil)
  }
}

extension ModelWatch {
  var message: Etcdserverpb_WatchRequest {
    .with {
      $0.createRequest = .with {
        $0.key = Data(range.key)
        $0.rangeEnd = Data(range.end)
        $0.startRevision = startRevision
        $0.prevKv = wantsPrevious
        $0.progressNotify = true
        if !wantsPuts { $0.filters.append(.noput) }
        if !wantsDeletes { $0.filters.append(.nodelete) }
      }
    }
  }
}
