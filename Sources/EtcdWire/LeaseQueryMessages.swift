/// `etcdserverpb.LeaseTimeToLiveRequest`: how long a lease will live.
public struct LeaseTimeToLiveRequest: WireMessage {
  public var id: Int64 = 0
  public var wantsKeys = false
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x08: id = try reader.int64()
      case 0x10: wantsKeys = try reader.bool()
      default: try reader.skipUnknown(known: 0b110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    output.append(field: 1, int64: id)
    output.append(field: 2, bool: wantsKeys)
  }
}

/// `etcdserverpb.LeaseTimeToLiveResponse`.
public struct LeaseTimeToLiveResponse: WireMessage {
  public var header: ResponseHeader?
  public var id: Int64 = 0
  /// Seconds left; -1 if there is no such lease.
  public var timeToLive: Int64 = 0
  /// Seconds, as granted.
  public var grantedTimeToLive: Int64 = 0
  public var keys = RepeatedField<LeasedKey>(field: 5)
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    guard keys.isEmpty else { throw .splitMessage }
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A: try reader.mergeMessage(into: &header, nesting)
      case 0x10: id = try reader.int64()
      case 0x18: timeToLive = try reader.int64()
      case 0x20: grantedTimeToLive = try reader.int64()
      case 0x2A: try keys.add(&reader, nesting)
      default: try reader.skipUnknown(known: 0b111110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    header?.appendAsField(to: &output)
    output.append(field: 2, int64: id)
    output.append(field: 3, int64: timeToLive)
    output.append(field: 4, int64: grantedTimeToLive)
    keys.append(to: &output)
  }

  /// Appends one key of the lease.
  public static func append(key: UnsafeRawBufferPointer, to output: inout [UInt8]) {
    output.append(field: 5, encoded: key)
  }
}

/// An element of `LeaseTimeToLiveResponse.keys`: plain bytes, which any content is valid for.
public struct LeasedKey: WireMessage {
  public var bytes = UnsafeRawBufferPointer.none
  public var hasUnknownFields: Bool { false }

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    self.bytes = bytes
  }

  public func append(to output: inout [UInt8]) { output.append(contentsOf: bytes) }
}

/// `etcdserverpb.LeaseLeasesRequest`: list all leases. It has no fields.
public struct LeaseLeasesRequest: WireMessage {
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() { try reader.skipUnknown(known: 0) }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {}
}

/// `etcdserverpb.LeaseStatus`.
public struct LeaseStatus: WireMessage {
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

  /// A lease's status.
  public init(id: Int64) { self.id = id }
}

/// `etcdserverpb.LeaseLeasesResponse`. To write one, append `LeaseStatus`es as field 2.
public struct LeaseLeasesResponse: WireMessage {
  public var header: ResponseHeader?
  public var leases = RepeatedField<LeaseStatus>(field: 2)
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    guard leases.isEmpty else { throw .splitMessage }
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A: try reader.mergeMessage(into: &header, nesting)
      case 0x12: try leases.add(&reader, nesting)
      default: try reader.skipUnknown(known: 0b110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    header?.appendAsField(to: &output)
    leases.append(to: &output)
  }
}

/// `etcdserverpb.LeaseCheckpoint`: what is left of a lease.
public struct LeaseCheckpoint: WireMessage {
  public var id: Int64 = 0
  /// Seconds.
  public var remainingTimeToLive: Int64 = 0
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x08: id = try reader.int64()
      case 0x10: remainingTimeToLive = try reader.int64()
      default: try reader.skipUnknown(known: 0b110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    output.append(field: 1, int64: id)
    output.append(field: 2, int64: remainingTimeToLive)
  }
}

/// `etcdserverpb.LeaseCheckpointRequest`. To write one, append `LeaseCheckpoint`s as field 1.
public struct LeaseCheckpointRequest: WireMessage {
  public var checkpoints = RepeatedField<LeaseCheckpoint>(field: 1)
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    guard checkpoints.isEmpty else { throw .splitMessage }
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A: try checkpoints.add(&reader, nesting)
      default: try reader.skipUnknown(known: 0b10)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    checkpoints.append(to: &output)
  }
}

/// `etcdserverpb.LeaseCheckpointResponse`.
public typealias LeaseCheckpointResponse = HeaderOnlyResponse
