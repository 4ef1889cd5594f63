/// `etcdserverpb.PutRequest`: set one key.
public struct PutRequest: WireMessage {
  public var key = UnsafeRawBufferPointer.none
  public var value = UnsafeRawBufferPointer.none
  /// The lease to attach the key to; 0 means none.
  public var lease: Int64 = 0
  /// Return the key as it was.
  public var wantsPrevious = false
  /// Keep the key's value; it must exist.
  public var ignoresValue = false
  /// Keep the key's lease; it must exist.
  public var ignoresLease = false
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A: key = try reader.bytes()
      case 0x12: value = try reader.bytes()
      case 0x18: lease = try reader.int64()
      case 0x20: wantsPrevious = try reader.bool()
      case 0x28: ignoresValue = try reader.bool()
      case 0x30: ignoresLease = try reader.bool()
      default: try reader.skipUnknown(known: 0b111_1110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    output.append(field: 1, bytes: key)
    output.append(field: 2, bytes: value)
    output.append(field: 3, int64: lease)
    output.append(field: 4, bool: wantsPrevious)
    output.append(field: 5, bool: ignoresValue)
    output.append(field: 6, bool: ignoresLease)
  }
}

/// `etcdserverpb.PutResponse`. The store writes at most `append(field: 2, encoded:)`.
public struct PutResponse: WireMessage {
  public var header: ResponseHeader?
  public var previous: KeyValue?
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A: try reader.mergeMessage(into: &header, nesting)
      case 0x12: try reader.mergeMessage(into: &previous, nesting)
      default: try reader.skipUnknown(known: 0b110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    header?.appendAsField(to: &output)
    if let previous { output.append(field: 2, message: previous) }
  }

  /// Appends the previous record, already encoded.
  public static func append(
    encodedPrevious: UnsafeRawBufferPointer, to output: inout [UInt8]
  ) {
    output.append(field: 2, encoded: encodedPrevious)
  }
}
