/// `etcdserverpb.RangeRequest`: read one key or a range of them.
public struct RangeRequest: WireMessage {
  /// The order of the result; an open enum.
  public struct SortOrder: RawRepresentable, Hashable, Sendable {
    public var rawValue: Int32
    public init(rawValue: Int32) { self.rawValue = rawValue }
    public static let none = SortOrder(rawValue: 0)
    public static let ascending = SortOrder(rawValue: 1)
    public static let descending = SortOrder(rawValue: 2)
    public var isKnown: Bool { (0...2).contains(rawValue) }
  }

  /// What the result is ordered by; an open enum.
  public struct SortTarget: RawRepresentable, Hashable, Sendable {
    public var rawValue: Int32
    public init(rawValue: Int32) { self.rawValue = rawValue }
    public static let key = SortTarget(rawValue: 0)
    public static let version = SortTarget(rawValue: 1)
    public static let createRevision = SortTarget(rawValue: 2)
    public static let modRevision = SortTarget(rawValue: 3)
    public static let value = SortTarget(rawValue: 4)
    public var isKnown: Bool { (0...4).contains(rawValue) }
  }

  public var key = UnsafeRawBufferPointer.none
  /// See `KeyRange` for what empty, zero and other ends mean.
  public var rangeEnd = UnsafeRawBufferPointer.none
  /// The most keys to return; 0 or less means all.
  public var limit: Int64 = 0
  /// The revision to read at; 0 or less means the newest.
  public var revision: Int64 = 0
  public var sortOrder = SortOrder.none
  public var sortTarget = SortTarget.key
  public var serializable = false
  public var keysOnly = false
  public var countOnly = false
  public var minModRevision: Int64 = 0
  public var maxModRevision: Int64 = 0
  public var minCreateRevision: Int64 = 0
  public var maxCreateRevision: Int64 = 0
  public private(set) var hasUnknownFields = false

  public init() {}

  /// The keys that are meant.
  public var range: KeyRange { KeyRange(key: key, rangeEnd: rangeEnd) }

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A: key = try reader.bytes()
      case 0x12: rangeEnd = try reader.bytes()
      case 0x18: limit = try reader.int64()
      case 0x20: revision = try reader.int64()
      case 0x28: sortOrder = SortOrder(rawValue: try reader.enumeration())
      case 0x30: sortTarget = SortTarget(rawValue: try reader.enumeration())
      case 0x38: serializable = try reader.bool()
      case 0x40: keysOnly = try reader.bool()
      case 0x48: countOnly = try reader.bool()
      case 0x50: minModRevision = try reader.int64()
      case 0x58: maxModRevision = try reader.int64()
      case 0x60: minCreateRevision = try reader.int64()
      case 0x68: maxCreateRevision = try reader.int64()
      default: try reader.skipUnknown(known: 0b11_1111_1111_1110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    output.append(field: 1, bytes: key)
    output.append(field: 2, bytes: rangeEnd)
    output.append(field: 3, int64: limit)
    output.append(field: 4, int64: revision)
    output.append(field: 5, int64: Int64(sortOrder.rawValue))
    output.append(field: 6, int64: Int64(sortTarget.rawValue))
    output.append(field: 7, bool: serializable)
    output.append(field: 8, bool: keysOnly)
    output.append(field: 9, bool: countOnly)
    output.append(field: 10, int64: minModRevision)
    output.append(field: 11, int64: maxModRevision)
    output.append(field: 12, int64: minCreateRevision)
    output.append(field: 13, int64: maxCreateRevision)
  }
}

/// `etcdserverpb.RangeResponse`.
///
/// The store writes it piecewise: each record with `append(field: 2, encoded:)`, then `appendTail`.
public struct RangeResponse: WireMessage {
  public var header: ResponseHeader?
  public var keyValues = RepeatedField<KeyValue>(field: 2)
  /// True if `limit` left keys out.
  public var more = false
  /// How many keys lie in the range, whatever the limit.
  public var count: Int64 = 0
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    guard keyValues.isEmpty else { throw .splitMessage }
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A: try reader.mergeMessage(into: &header, nesting)
      case 0x12: try keyValues.add(&reader, nesting)
      case 0x18: more = try reader.bool()
      case 0x20: count = try reader.int64()
      default: try reader.skipUnknown(known: 0b11110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    header?.appendAsField(to: &output)
    keyValues.append(to: &output)
    Self.appendTail(more: more, count: count, to: &output)
  }

  /// Appends one record, already encoded.
  public static func append(
    encodedKeyValue: UnsafeRawBufferPointer, to output: inout [UInt8]
  ) {
    output.append(field: 2, encoded: encodedKeyValue)
  }

  /// Appends what follows the records.
  public static func appendTail(more: Bool, count: Int64, to output: inout [UInt8]) {
    output.append(field: 3, bool: more)
    output.append(field: 4, int64: count)
  }
}
