/// `etcdserverpb.LeaseGrantRequest`: create a lease.
public struct LeaseGrantRequest: WireMessage {
  /// Seconds.
  public var timeToLive: Int64 = 0
  /// 0 lets the store choose.
  public var id: Int64 = 0
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x08: timeToLive = try reader.int64()
      case 0x10: id = try reader.int64()
      default: try reader.skipUnknown(known: 0b110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    output.append(field: 1, int64: timeToLive)
    output.append(field: 2, int64: id)
  }
}

/// `etcdserverpb.LeaseGrantResponse`.
public struct LeaseGrantResponse: WireMessage {
  public var header: ResponseHeader?
  public var id: Int64 = 0
  /// Seconds, as granted.
  public var timeToLive: Int64 = 0
  /// UTF-8; servers leave it empty and answer with a status.
  public var error = UnsafeRawBufferPointer.none
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A: try reader.mergeMessage(into: &header, nesting)
      case 0x10: id = try reader.int64()
      case 0x18: timeToLive = try reader.int64()
      case 0x22: error = try reader.bytes()
      default: try reader.skipUnknown(known: 0b11110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    header?.appendAsField(to: &output)
    output.append(field: 2, int64: id)
    output.append(field: 3, int64: timeToLive)
    output.append(field: 4, bytes: error)
  }
}

/// `etcdserverpb.LeaseRevokeRequest`: end a lease and delete its keys.
public struct LeaseRevokeRequest: WireMessage {
  public var id: Int64 = 0
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x08: id = try reader.int64()
      default: try reader.skipUnknown(known: 0b10)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    output.append(field: 1, int64: id)
  }
}

/// `etcdserverpb.LeaseRevokeResponse`.
public typealias LeaseRevokeResponse = HeaderOnlyResponse

/// `etcdserverpb.LeaseKeepAliveRequest`: one message of a keep-alive stream.
public struct LeaseKeepAliveRequest: WireMessage {
  public var id: Int64 = 0
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x08: id = try reader.int64()
      default: try reader.skipUnknown(known: 0b10)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    output.append(field: 1, int64: id)
  }
}

/// `etcdserverpb.LeaseKeepAliveResponse`.
public struct LeaseKeepAliveResponse: WireMessage {
  public var header: ResponseHeader?
  public var id: Int64 = 0
  /// Seconds left; 0 or less if the lease is gone.
  public var timeToLive: Int64 = 0
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A: try reader.mergeMessage(into: &header, nesting)
      case 0x10: id = try reader.int64()
      case 0x18: timeToLive = try reader.int64()
      default: try reader.skipUnknown(known: 0b1110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    header?.appendAsField(to: &output)
    output.append(field: 2, int64: id)
    output.append(field: 3, int64: timeToLive)
  }
}
