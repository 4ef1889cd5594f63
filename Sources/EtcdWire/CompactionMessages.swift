/// `etcdserverpb.CompactionRequest`: forget what was superseded at or before a revision.
public struct CompactionRequest: WireMessage {
  public var revision: Int64 = 0
  /// Answer only when the space has been given back.
  public var physical = false
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x08: revision = try reader.int64()
      case 0x10: physical = try reader.bool()
      default: try reader.skipUnknown(known: 0b110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    output.append(field: 1, int64: revision)
    output.append(field: 2, bool: physical)
  }
}

/// A response that holds its header and nothing else: `CompactionResponse`, `LeaseRevokeResponse`,
/// `LeaseCheckpointResponse`.
public struct HeaderOnlyResponse: WireMessage {
  public var header: ResponseHeader?
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A: try reader.mergeMessage(into: &header, nesting)
      default: try reader.skipUnknown(known: 0b10)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) { header?.appendAsField(to: &output) }
}

/// `etcdserverpb.CompactionResponse`.
public typealias CompactionResponse = HeaderOnlyResponse
