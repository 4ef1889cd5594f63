import EtcdWire
import MVCC
import Primitives
import Verification

// Between the model's words and the store's bytes. Requests are written here field by field, from etcd's
// protobuf definitions, so that the store's readers meet bytes that its own writers didn't make.

extension ModelRequest {
  /// The command of a request that changes something.
  func appendCommand(to commands: inout [UInt8]) {
    let body = protobuf
    switch self {
    case .put: body.withUnsafeBytes { CommandBatch.append(.put, body: $0, to: &commands) }
    case .delete: body.withUnsafeBytes { CommandBatch.append(.deleteRange, body: $0, to: &commands) }
    case .txn: body.withUnsafeBytes { CommandBatch.append(.txn, body: $0, to: &commands) }
    case .endLease: body.withUnsafeBytes { CommandBatch.append(.leaseRevoke, body: $0, to: &commands) }
    case .range: invariantFailure("a read is not a command")
    }
  }

  /// The request's protobuf form.
  var protobuf: [UInt8] {
    var body: [UInt8] = []
    func append(_ number: UInt32, _ bytes: [UInt8]) {
      bytes.withUnsafeBytes { body.append(field: number, bytes: $0) }
    }
    switch self {
    case .put(let key, let value, let lease):
      append(1, key)
      append(2, value)
      body.append(field: 3, int64: lease)
      body.append(field: 4, bool: true)
    case .delete(let range):
      append(1, range.key)
      append(2, range.end)
      body.append(field: 3, bool: true)
    case .range(let range, let revision, _):
      append(1, range.key)
      append(2, range.end)
      body.append(field: 4, int64: revision)
    case .endLease(let lease):
      body.append(field: 1, int64: lease)
    case .txn(let compares, let success, let failure):
      for compare in compares { append(1, compare.protobuf) }
      for request in success { append(2, request.operation) }
      for request in failure { append(3, request.operation) }
    }
    return body
  }

  /// The `RequestOp` that holds the request.
  private var operation: [UInt8] {
    let number: UInt32 =
      switch self {
      case .range: 1
      case .put: 2
      case .delete: 3
      case .txn, .endLease: 4
      }
    var operation: [UInt8] = []
    protobuf.withUnsafeBytes { operation.append(field: number, encoded: $0) }
    return operation
  }
}

extension ModelRequest {
  /// Whether it may put a key: those are refused where the state is too large.
  var hasPuts: Bool {
    switch self {
    case .put: true
    case .delete, .range, .endLease: false
    case .txn(_, let success, let failure): (success + failure).contains { $0.hasPuts }
    }
  }
}

extension ModelCompare {
  fileprivate var protobuf: [UInt8] {
    var body: [UInt8] = []
    let relation: Int64 =
      switch self.relation {
      case .equal: 0
      case .greater: 1
      case .less: 2
      case .notEqual: 3
      }
    body.append(field: 1, int64: relation)
    func finish(_ target: Int64, _ write: (inout [UInt8]) -> Void) {
      body.append(field: 2, int64: target)
      key.withUnsafeBytes { body.append(field: 3, bytes: $0) }
      write(&body)
    }
    // The operands are a oneof: written even where they are zero.
    func number(_ field: UInt8, _ value: Int64) -> (inout [UInt8]) -> Void {
      {
        $0.append(field << 3)
        $0.append(varint: UInt64(bitPattern: value))
      }
    }
    switch operand {
    case .version(let value): finish(0, number(4, value))
    case .createRevision(let value): finish(1, number(5, value))
    case .modRevision(let value): finish(2, number(6, value))
    case .value(let value): finish(3) { out in value.withUnsafeBytes { out.append(field: 7, encoded: $0) } }
    case .lease(let value): finish(4, number(8, value))
    }
    return body
  }
}

extension ModelRecord {
  init(_ record: KeyValue) {
    self.init(
      key: Array(record.key), value: Array(record.value), createRevision: record.createRevision,
      modRevision: record.modRevision, version: record.version, lease: record.lease)
  }
}

extension ModelResponse {
  /// What a command's result says in answer to a request; nil if it can't be understood.
  init?(_ body: CommandResult.Body, to request: ModelRequest) {
    switch (body, request) {
    case (.empty, .put): self = .put(previous: .some(nil))
    case (.empty, .delete): self = .delete(count: 0, previous: [])
    case (.empty, .endLease): self = .endLease
    case (.encoded(let bytes), _):
      let decoded = bytes.withUnsafeBytes { bytes -> ModelResponse? in
        switch request {
        case .put: return (try? PutResponse(bytes)).map(Self.init)
        case .delete: return (try? DeleteRangeResponse(bytes)).map(Self.init)
        case .txn: return (try? TxnResponse(bytes)).flatMap(Self.init)
        case .range, .endLease: return nil
        }
      }
      guard let decoded else { return nil }
      self = decoded
    default: return nil
    }
  }

  init(_ response: PutResponse) {
    self = .put(previous: .some(response.previous.map { ModelRecord($0) }))
  }

  init(_ response: DeleteRangeResponse) {
    self = .delete(count: response.deleted, previous: response.previous.map { ModelRecord($0) })
  }

  init(_ response: RangeResponse) {
    self = .range(response.keyValues.map { ModelRecord($0) }, count: response.count)
  }

  init?(_ response: TxnResponse) {
    var parts: [ModelResponse] = []
    for part in response.responses {
      switch part.response {
      case .put(let response): parts.append(ModelResponse(response))
      case .deleteRange(let response): parts.append(ModelResponse(response))
      case .range(let response): parts.append(ModelResponse(response))
      case .txn, .none: return nil
      }
    }
    self = .txn(succeeded: response.succeeded, parts)
  }
}

extension StoreView {
  /// Answers a read from this view; nil where the store refuses it (its revision is compacted).
  func answer(_ request: ModelRequest) -> ModelResponse? {
    request.protobuf.withUnsafeBytes { bytes -> ModelResponse? in
      guard let range = try? RangeRequest(bytes) else { return nil }
      var output: [UInt8] = []
      guard (try? self.range(range, into: &output)) != nil else { return nil }
      return output.withUnsafeBytes { (try? RangeResponse($0)).map { ModelResponse($0) } }
    }
  }
}

extension EventRun {
  /// The run's events, in order.
  var modelEvents: [ModelEvent] {
    parts.flatMap { part in
      bytes[part.range].withUnsafeBytes { bytes -> [ModelEvent] in
        guard let response = try? EtcdWire.WatchResponse(bytes) else { return [] }
        return response.events.compactMap { event in
          event.keyValue.map {
            ModelEvent(
              isDelete: event.kind == .delete, record: ModelRecord($0),
              previous: event.previous.map { ModelRecord($0) })
          }
        }
      }
    }
  }
}
