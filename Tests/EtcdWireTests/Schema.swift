/// What fields a message has: drives the generator of random encodings.
///
/// Written from the protocol's documents a second time, apart from the readers under test and from the
/// generated code.
indirect enum FieldKind: Sendable {
  /// A varint with any bits.
  case integer
  /// A varint that is 0 or 1, mostly.
  case bool
  /// A varint below the count, mostly.
  case enumeration(Int)
  case bytes
  /// Bytes that are valid UTF-8.
  case text
  case message(Schema)
  /// Repeated enum, packed or not.
  case packed(Int)
}

struct Schema: Sendable {
  var fields: [(number: UInt64, kind: FieldKind)]

  init(_ fields: (UInt64, FieldKind)...) { self.fields = fields.map { ($0.0, $0.1) } }

  /// Whether a field, here or in a message within, has to be UTF-8.
  var hasText: Bool {
    fields.contains { field in
      switch field.kind {
      case .text: true
      case .message(let schema): schema.hasText
      default: false
      }
    }
  }
}

extension Schema {
  static let keyValue = Schema(
    (1, .bytes), (2, .integer), (3, .integer), (4, .integer), (5, .bytes), (6, .integer))
  static let event = Schema(
    (1, .enumeration(2)), (2, .message(keyValue)), (3, .message(keyValue)))
  static let header = Schema((1, .integer), (2, .integer), (3, .integer), (4, .integer))

  static let range = Schema(
    (1, .bytes), (2, .bytes), (3, .integer), (4, .integer), (5, .enumeration(3)),
    (6, .enumeration(5)), (7, .bool), (8, .bool), (9, .bool), (10, .integer), (11, .integer),
    (12, .integer), (13, .integer))
  static let rangeResponse = Schema(
    (1, .message(header)), (2, .message(keyValue)), (2, .message(keyValue)), (3, .bool),
    (4, .integer))
  static let put = Schema(
    (1, .bytes), (2, .bytes), (3, .integer), (4, .bool), (5, .bool), (6, .bool))
  static let putResponse = Schema((1, .message(header)), (2, .message(keyValue)))
  static let deleteRange = Schema((1, .bytes), (2, .bytes), (3, .bool))
  static let deleteRangeResponse = Schema(
    (1, .message(header)), (2, .integer), (3, .message(keyValue)), (3, .message(keyValue)))

  static let compare = Schema(
    (1, .enumeration(4)), (2, .enumeration(5)), (3, .bytes), (4, .integer), (5, .integer),
    (6, .integer), (7, .bytes), (8, .integer), (64, .bytes))
  static let txn = txn(depth: 3)
  static let txnResponse = txnResponse(depth: 3)

  static func requestOp(depth: Int) -> Schema {
    var schema = Schema((1, .message(range)), (2, .message(put)), (3, .message(deleteRange)))
    if depth > 0 { schema.fields.append((4, .message(txn(depth: depth - 1)))) }
    return schema
  }

  static func txn(depth: Int) -> Schema {
    let operation = FieldKind.message(requestOp(depth: depth))
    return Schema(
      (1, .message(compare)), (1, .message(compare)), (2, operation), (2, operation),
      (3, operation), (3, operation))
  }

  static func responseOp(depth: Int) -> Schema {
    var schema = Schema(
      (1, .message(rangeResponse)), (2, .message(putResponse)),
      (3, .message(deleteRangeResponse)))
    if depth > 0 { schema.fields.append((4, .message(txnResponse(depth: depth - 1)))) }
    return schema
  }

  static func txnResponse(depth: Int) -> Schema {
    let operation = FieldKind.message(responseOp(depth: depth))
    return Schema((1, .message(header)), (2, .bool), (3, operation), (3, operation))
  }

  static let compaction = Schema((1, .integer), (2, .bool))
  static let headerOnly = Schema((1, .message(header)))

  static let watchCreate = Schema(
    (1, .bytes), (2, .bytes), (3, .integer), (4, .bool), (5, .packed(2)), (6, .bool),
    (7, .integer), (8, .bool))
  static let watch = Schema(
    (1, .message(watchCreate)), (2, .message(Schema((1, .integer)))), (3, .message(Schema())))
  static let watchResponse = Schema(
    (1, .message(header)), (2, .integer), (3, .bool), (4, .bool), (5, .integer), (6, .text),
    (7, .bool), (11, .message(event)), (11, .message(event)))

  static let leaseGrant = Schema((1, .integer), (2, .integer))
  static let leaseGrantResponse = Schema(
    (1, .message(header)), (2, .integer), (3, .integer), (4, .text))
  static let leaseID = Schema((1, .integer))
  static let leaseKeepAliveResponse = Schema((1, .message(header)), (2, .integer), (3, .integer))
  static let leaseTimeToLive = Schema((1, .integer), (2, .bool))
  static let leaseTimeToLiveResponse = Schema(
    (1, .message(header)), (2, .integer), (3, .integer), (4, .integer), (5, .bytes), (5, .bytes))
  static let leaseLeasesResponse = Schema(
    (1, .message(header)), (2, .message(leaseID)), (2, .message(leaseID)))
  static let leaseCheckpoint = Schema((1, .integer), (2, .integer))
  static let leaseCheckpoints = Schema(
    (1, .message(leaseCheckpoint)), (1, .message(leaseCheckpoint)))
}
