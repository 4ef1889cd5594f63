/// `etcdserverpb.WatchRequest`: one message of a watch stream's client.
public struct WatchRequest: WireMessage {
  public enum Request {
    /// Nothing was set; etcd ignores that.
    case none
    case create(WatchCreateRequest)
    case cancel(watchID: Int64)
    case progress
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
        var create = WatchCreateRequest()
        if case .create(let earlier) = request { create = earlier }
        try create.merge(try reader.bytes(), nesting)
        if create.hasUnknownFields { reader.sawUnknown = true }
        request = .create(create)
      case 0x12:
        var watchID: Int64 = 0
        if case .cancel(let earlier) = request { watchID = earlier }
        var inner = FieldReader(try reader.bytes())
        while try inner.next() {
          switch inner.tag {
          case 0x08: watchID = try inner.int64()
          default: try inner.skipUnknown(known: 0b10)
          }
        }
        if inner.sawUnknown { reader.sawUnknown = true }
        request = .cancel(watchID: watchID)
      case 0x1A:
        var inner = FieldReader(try reader.bytes())
        while try inner.next() { try inner.skipUnknown(known: 0) }
        if inner.sawUnknown { reader.sawUnknown = true }
        request = .progress
      default: try reader.skipUnknown(known: 0b1110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    switch request {
    case .none: break
    case .create(let create): output.append(field: 1, message: create)
    case .cancel(let watchID):
      let mark = output.beginMessage(field: 2)
      output.append(field: 1, int64: watchID)
      output.endMessage(mark)
    case .progress: output.append(field: 3, encoded: .none)
    }
  }
}

/// `etcdserverpb.WatchCreateRequest`.
public struct WatchCreateRequest: WireMessage {
  /// Which events the watcher does not want.
  public struct Filters: OptionSet, Hashable, Sendable {
    public var rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// `NOPUT` (0)
    public static let noPut = Filters(rawValue: 1)
    /// `NODELETE` (1)
    public static let noDelete = Filters(rawValue: 2)
  }

  public var key = UnsafeRawBufferPointer.none
  /// See `KeyRange` for what empty, zero and other ends mean.
  public var rangeEnd = UnsafeRawBufferPointer.none
  /// The first revision wanted; 0 means from now on.
  public var startRevision: Int64 = 0
  public var wantsProgress = false
  /// Repeated on the wire, packed or not; filters that this version doesn't know are ignored.
  public var filters: Filters = []
  public var wantsPrevious = false
  /// Chosen by the client; 0 lets the server choose.
  public var watchID: Int64 = 0
  /// Large revisions may be split over several responses.
  public var fragments = false
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
      case 0x18: startRevision = try reader.int64()
      case 0x20: wantsProgress = try reader.bool()
      case 0x28: add(filter: try reader.enumeration())
      case 0x2A:
        var packed = FieldReader(try reader.bytes())
        while !packed.isAtEnd { add(filter: try packed.enumeration()) }
      case 0x30: wantsPrevious = try reader.bool()
      case 0x38: watchID = try reader.int64()
      case 0x40: fragments = try reader.bool()
      default: try reader.skipUnknown(known: 0b1_1111_1110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  private mutating func add(filter: Int32) {
    if filter == 0 { filters.insert(.noPut) }
    if filter == 1 { filters.insert(.noDelete) }
  }

  public func append(to output: inout [UInt8]) {
    output.append(field: 1, bytes: key)
    output.append(field: 2, bytes: rangeEnd)
    output.append(field: 3, int64: startRevision)
    output.append(field: 4, bool: wantsProgress)
    if !filters.isEmpty {
      // Repeated enums are packed in proto3.
      let mark = output.beginMessage(field: 5)
      if filters.contains(.noPut) { output.append(0) }
      if filters.contains(.noDelete) { output.append(1) }
      output.endMessage(mark)
    }
    output.append(field: 6, bool: wantsPrevious)
    output.append(field: 7, int64: watchID)
    output.append(field: 8, bool: fragments)
  }
}

/// `etcdserverpb.WatchResponse`: one message of a watch stream's server.
///
/// The server writes it with `events` empty and appends each event, encoded once for all watchers,
/// with `append(encodedEvent:to:)`.
public struct WatchResponse: WireMessage {
  public var header: ResponseHeader?
  /// The watch that this concerns; -1 for a progress notification of the whole stream.
  public var watchID: Int64 = 0
  public var created = false
  public var canceled = false
  /// Set if the watch was cancelled because its start was compacted: the oldest revision to be had.
  public var compactRevision: Int64 = 0
  /// UTF-8.
  public var cancelReason = UnsafeRawBufferPointer.none
  /// More responses of the same revision follow.
  public var fragment = false
  public var events = RepeatedField<Event>(field: 11)
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    guard events.isEmpty else { throw .splitMessage }
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x0A: try reader.mergeMessage(into: &header, nesting)
      case 0x10: watchID = try reader.int64()
      case 0x18: created = try reader.bool()
      case 0x20: canceled = try reader.bool()
      case 0x28: compactRevision = try reader.int64()
      case 0x32: cancelReason = try reader.bytes()
      case 0x38: fragment = try reader.bool()
      case 0x5A: try events.add(&reader, nesting)
      default: try reader.skipUnknown(known: 0b1000_1111_1110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    header?.appendAsField(to: &output)
    output.append(field: 2, int64: watchID)
    output.append(field: 3, bool: created)
    output.append(field: 4, bool: canceled)
    output.append(field: 5, int64: compactRevision)
    output.append(field: 6, bytes: cancelReason)
    output.append(field: 7, bool: fragment)
    events.append(to: &output)
  }

  /// Appends one event, already encoded.
  public static func append(encodedEvent: UnsafeRawBufferPointer, to output: inout [UInt8]) {
    output.append(field: 11, encoded: encodedEvent)
  }
}
