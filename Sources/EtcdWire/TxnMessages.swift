import Primitives

/// `etcdserverpb.Compare`: one predicate of a transaction.
public struct Compare: WireMessage {
  /// The relation that must hold; an open enum.
  public struct Relation: RawRepresentable, Hashable, Sendable {
    public var rawValue: Int32
    public init(rawValue: Int32) { self.rawValue = rawValue }
    public static let equal = Relation(rawValue: 0)
    public static let greater = Relation(rawValue: 1)
    public static let less = Relation(rawValue: 2)
    public static let notEqual = Relation(rawValue: 3)
  }

  /// What is compared; an open enum.
  public struct Target: RawRepresentable, Hashable, Sendable {
    public var rawValue: Int32
    public init(rawValue: Int32) { self.rawValue = rawValue }
    public static let version = Target(rawValue: 0)
    public static let createRevision = Target(rawValue: 1)
    public static let modRevision = Target(rawValue: 2)
    public static let value = Target(rawValue: 3)
    public static let lease = Target(rawValue: 4)
  }

  /// The operand that was sent. It may differ from what `target` asks for; then the target's operand
  /// counts as zero or empty, as in etcd.
  public enum Operand {
    case none
    case version(Int64)
    case createRevision(Int64)
    case modRevision(Int64)
    case value(UnsafeRawBufferPointer)
    case lease(Int64)
  }

  public var relation = Relation.equal
  public var target = Target.version
  public var key = UnsafeRawBufferPointer.none
  public var operand = Operand.none
  /// See `KeyRange`: with an end, the predicate must hold for every key in the range.
  public var rangeEnd = UnsafeRawBufferPointer.none
  public private(set) var hasUnknownFields = false

  public init() {}

  /// The keys that are meant.
  public var range: KeyRange { KeyRange(key: key, rangeEnd: rangeEnd) }

  /// The number to compare with; 0 if the operand sent is not the target's.
  public var number: Int64 {
    switch (target, operand) {
    case (.version, .version(let number)), (.createRevision, .createRevision(let number)),
      (.modRevision, .modRevision(let number)), (.lease, .lease(let number)):
      number
    default: 0
    }
  }

  /// The value to compare with; empty if the operand sent is not a value.
  public var value: UnsafeRawBufferPointer {
    if case .value(let value) = operand { value } else { .none }
  }

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x08: relation = Relation(rawValue: try reader.enumeration())
      case 0x10: target = Target(rawValue: try reader.enumeration())
      case 0x1A: key = try reader.bytes()
      case 0x20: operand = .version(try reader.int64())
      case 0x28: operand = .createRevision(try reader.int64())
      case 0x30: operand = .modRevision(try reader.int64())
      case 0x3A: operand = .value(try reader.bytes())
      case 0x40: operand = .lease(try reader.int64())
      case 64 << 3 | 2: rangeEnd = try reader.bytes()
      default:
        if reader.fieldNumber == 64 { throw .wrongWireType }
        try reader.skipUnknown(known: 0b1_1111_1110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    output.append(field: 1, int64: Int64(relation.rawValue))
    output.append(field: 2, int64: Int64(target.rawValue))
    output.append(field: 3, bytes: key)
    // A oneof has presence: its defaults are written.
    switch operand {
    case .none: break
    case .version(let number): output.append(tag: 0x20, presentInt64: number)
    case .createRevision(let number): output.append(tag: 0x28, presentInt64: number)
    case .modRevision(let number): output.append(tag: 0x30, presentInt64: number)
    case .value(let value): output.append(field: 7, encoded: value)
    case .lease(let number): output.append(tag: 0x40, presentInt64: number)
    }
    output.append(field: 64, bytes: rangeEnd)
  }
}

extension [UInt8] {
  fileprivate mutating func append(tag: UInt8, presentInt64 value: Int64) {
    append(tag)
    append(varint: UInt64(bitPattern: value))
  }
}

/// `etcdserverpb.RequestOp`: one operation of a transaction.
public struct RequestOp: WireMessage {
  public enum Request {
    /// Nothing was set; etcd answers that with "key not found".
    case none
    case range(RangeRequest)
    case put(PutRequest)
    case deleteRange(DeleteRangeRequest)
    case txn(TxnRequest)
  }

  public var request = Request.none
  public private(set) var hasUnknownFields = false

  public init() {}
  public init(_ request: Request) { self.request = request }

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A:
        var range = RangeRequest()
        if case .range(let earlier) = request { range = earlier }
        try range.merge(try reader.bytes(), nesting)
        if range.hasUnknownFields { reader.sawUnknown = true }
        request = .range(range)
      case 0x12:
        var put = PutRequest()
        if case .put(let earlier) = request { put = earlier }
        try put.merge(try reader.bytes(), nesting)
        if put.hasUnknownFields { reader.sawUnknown = true }
        request = .put(put)
      case 0x1A:
        var deleteRange = DeleteRangeRequest()
        if case .deleteRange(let earlier) = request { deleteRange = earlier }
        try deleteRange.merge(try reader.bytes(), nesting)
        if deleteRange.hasUnknownFields { reader.sawUnknown = true }
        request = .deleteRange(deleteRange)
      case 0x22:
        if case .txn = request { throw .splitMessage }
        var txn = TxnRequest()
        try txn.merge(try reader.bytes(), try nesting.inner())
        if txn.hasUnknownFields { reader.sawUnknown = true }
        request = .txn(txn)
      default: try reader.skipUnknown(known: 0b11110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    switch request {
    case .none: break
    case .range(let range): output.append(field: 1, message: range)
    case .put(let put): output.append(field: 2, message: put)
    case .deleteRange(let deleteRange): output.append(field: 3, message: deleteRange)
    case .txn(let txn): output.append(field: 4, message: txn)
    }
  }
}

/// `etcdserverpb.TxnRequest`: if all predicates hold, do these operations, else those.
///
/// To write one, append `Compare`s as field 1 and `RequestOp`s as fields 2 and 3 with
/// `[UInt8].append(field:message:)`.
public struct TxnRequest: WireMessage {
  public var compare = RepeatedField<Compare>(field: 1)
  public var success = RepeatedField<RequestOp>(field: 2)
  public var failure = RepeatedField<RequestOp>(field: 3)
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    guard compare.isEmpty, success.isEmpty, failure.isEmpty else { throw .splitMessage }
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A: try compare.add(&reader, nesting)
      case 0x12: try success.add(&reader, nesting)
      case 0x1A: try failure.add(&reader, nesting)
      default: try reader.skipUnknown(known: 0b1110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    compare.append(to: &output)
    success.append(to: &output)
    failure.append(to: &output)
  }
}

/// `etcdserverpb.ResponseOp`: the result of one operation of a transaction.
public struct ResponseOp: WireMessage {
  public enum Response {
    case none
    case range(RangeResponse)
    case put(PutResponse)
    case deleteRange(DeleteRangeResponse)
    case txn(TxnResponse)
  }

  /// The field number of each kind of response, for writing one piecewise with `beginMessage(field:)`.
  public enum Field {
    public static let range: UInt32 = 1
    public static let put: UInt32 = 2
    public static let deleteRange: UInt32 = 3
    public static let txn: UInt32 = 4
  }

  public var response = Response.none
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A:
        if case .range = response { throw .splitMessage }
        var range = RangeResponse()
        try range.merge(try reader.bytes(), nesting)
        if range.hasUnknownFields { reader.sawUnknown = true }
        response = .range(range)
      case 0x12:
        if case .put = response { throw .splitMessage }
        var put = PutResponse()
        try put.merge(try reader.bytes(), nesting)
        if put.hasUnknownFields { reader.sawUnknown = true }
        response = .put(put)
      case 0x1A:
        if case .deleteRange = response { throw .splitMessage }
        var deleteRange = DeleteRangeResponse()
        try deleteRange.merge(try reader.bytes(), nesting)
        if deleteRange.hasUnknownFields { reader.sawUnknown = true }
        response = .deleteRange(deleteRange)
      case 0x22:
        if case .txn = response { throw .splitMessage }
        var txn = TxnResponse()
        try txn.merge(try reader.bytes(), try nesting.inner())
        if txn.hasUnknownFields { reader.sawUnknown = true }
        response = .txn(txn)
      default: try reader.skipUnknown(known: 0b11110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    switch response {
    case .none: break
    case .range(let range): output.append(field: Field.range, message: range)
    case .put(let put): output.append(field: Field.put, message: put)
    case .deleteRange(let deleteRange):
      output.append(field: Field.deleteRange, message: deleteRange)
    case .txn(let txn): output.append(field: Field.txn, message: txn)
    }
  }
}

/// `etcdserverpb.TxnResponse`.
///
/// The store writes `append(succeeded:to:)`, then each result between
/// `beginMessage(field: TxnResponse.responsesField)` and `endMessage`.
public struct TxnResponse: WireMessage {
  public static let responsesField: UInt32 = 3

  public var header: ResponseHeader?
  public var succeeded = false
  public var responses = RepeatedField<ResponseOp>(field: responsesField)
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    guard responses.isEmpty else { throw .splitMessage }
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A: try reader.mergeMessage(into: &header, nesting)
      case 0x10: succeeded = try reader.bool()
      case 0x1A: try responses.add(&reader, nesting)
      default: try reader.skipUnknown(known: 0b1110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    header?.appendAsField(to: &output)
    Self.append(succeeded: succeeded, to: &output)
    responses.append(to: &output)
  }

  /// Appends which branch was taken.
  public static func append(succeeded: Bool, to output: inout [UInt8]) {
    output.append(field: 2, bool: succeeded)
  }
}
