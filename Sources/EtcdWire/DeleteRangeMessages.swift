/// `etcdserverpb.DeleteRangeRequest`: delete one key or a range of them.
public struct DeleteRangeRequest: WireMessage {
  public var key = UnsafeRawBufferPointer.none
  /// See `KeyRange` for what empty, zero and other ends mean.
  public var rangeEnd = UnsafeRawBufferPointer.none
  /// Return the keys as they were.
  public var wantsPrevious = false
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
      case 0x18: wantsPrevious = try reader.bool()
      default: try reader.skipUnknown(known: 0b1110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    output.append(field: 1, bytes: key)
    output.append(field: 2, bytes: rangeEnd)
    output.append(field: 3, bool: wantsPrevious)
  }
}

/// `etcdserverpb.DeleteRangeResponse`.
///
/// The store writes `appendDeleted`, then each previous record with `append(encodedPrevious:to:)`.
public struct DeleteRangeResponse: WireMessage {
  public var header: ResponseHeader?
  public var deleted: Int64 = 0
  public var previous = RepeatedField<KeyValue>(field: 3)
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    guard previous.isEmpty else { throw .splitMessage }
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A: try reader.mergeMessage(into: &header, nesting)
      case 0x10: deleted = try reader.int64()
      case 0x1A: try previous.add(&reader, nesting)
      default: try reader.skipUnknown(known: 0b1110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    header?.appendAsField(to: &output)
    Self.append(deleted: deleted, to: &output)
    previous.append(to: &output)
  }

  /// Appends the number of deleted keys.
  public static func append(deleted: Int64, to output: inout [UInt8]) {
    output.append(field: 2, int64: deleted)
  }

  /// Appends one previous record, already encoded.
  public static func append(
    encodedPrevious: UnsafeRawBufferPointer, to output: inout [UInt8]
  ) {
    output.append(field: 3, encoded: encodedPrevious)
  }
}
