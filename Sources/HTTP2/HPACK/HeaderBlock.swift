/// A decoded header section: a request's or response's head, or its trailers.
///
/// Names and values lie one after the other in a buffer that the connection uses again for the next
/// block, so bytes handed out here are good only until the event's handler returns. Nothing is
/// turned into a `String` unless asked.
///
/// A connection keeps the last few blocks it has decoded, by their compressed bytes. A client that
/// sends the same request head again costs one comparison, and what the user of the connection found
/// out about it (`route`) is still there.
public final class HeaderBlock {
  struct Field {
    /// Where the name starts in `storage`; the value follows it.
    var start: Int
    var nameCount: Int
    var valueCount: Int
    var name: HeaderName
  }

  /// For the user: what this head was recognised as, such as a method's number. -1 until set; kept as
  /// long as the block is.
  public var route: Int = -1

  /// The status code of a response; 0 in requests and trailers.
  public internal(set) var status = 0
  /// `content-length`, or -1 where absent.
  public internal(set) var contentLength: Int64 = -1

  var fields: [Field] = []
  var storage: UnsafeMutableRawPointer
  var capacity: Int
  var used = 0
  /// RFC 9113's measure: names, values and 32 bytes for each field.
  var listSize = 0
  /// The section was larger than the limits allow; fields beyond them are missing.
  var exceedsLimits = false
  /// Filled by validation: where each pseudo-header is, -1 where absent.
  var pathField = -1
  var methodField = -1
  var schemeField = -1
  var authorityField = -1
  /// What the section has been checked as, and what was found wrong.
  var checked = Kind.unchecked
  var fault: StaticString?

  init() {
    // A gRPC request's head.
    capacity = 256
    storage = .allocate(byteCount: capacity, alignment: 1)
    fields.reserveCapacity(8)
  }

  deinit { storage.deallocate() }

  /// A section without fields, for calls that don't come over HTTP/2.
  public static var empty: HeaderBlock { HeaderBlock() }

  /// The number of fields, pseudo-headers included.
  public var count: Int { fields.count }

  /// The name of field `index`, borrowed.
  public func name(at index: Int) -> UnsafeRawBufferPointer {
    let field = fields[index]
    return UnsafeRawBufferPointer(start: storage + field.start, count: field.nameCount)
  }

  /// The value of field `index`, borrowed.
  public func value(at index: Int) -> UnsafeRawBufferPointer {
    let field = fields[index]
    return UnsafeRawBufferPointer(
      start: storage + field.start + field.nameCount, count: field.valueCount)
  }

  /// What field `index` was recognised as.
  public func headerName(at index: Int) -> HeaderName { fields[index].name }

  /// The value of the first field of that name, borrowed.
  public func first(_ name: HeaderName) -> UnsafeRawBufferPointer? {
    for index in fields.indices where fields[index].name == name { return value(at: index) }
    return nil
  }

  /// The value of the first field of that (lower-case) name, borrowed.
  public func first(named name: StaticString) -> UnsafeRawBufferPointer? {
    for index in fields.indices where equal(self.name(at: index), name) { return value(at: index) }
    return nil
  }

  /// The request's path and query, borrowed; empty in responses.
  public var path: UnsafeRawBufferPointer { pseudo(pathField) }
  public var method: UnsafeRawBufferPointer { pseudo(methodField) }
  public var scheme: UnsafeRawBufferPointer { pseudo(schemeField) }
  /// `:authority`, or else `host`; may be empty.
  public var authority: UnsafeRawBufferPointer {
    authorityField >= 0 ? value(at: authorityField) : first(.host) ?? pseudo(-1)
  }

  private func pseudo(_ index: Int) -> UnsafeRawBufferPointer {
    index >= 0 ? value(at: index) : UnsafeRawBufferPointer(start: nil, count: 0)
  }

  /// The value of the first field of that name, as text.
  public func string(_ name: HeaderName) -> String? {
    first(name).map { String(decoding: $0, as: UTF8.self) }
  }

  /// All fields as name and value, copied: for users that don't mind the cost.
  public func copyFields() -> [(name: String, value: String)] {
    fields.indices.map {
      (
        String(decoding: name(at: $0), as: UTF8.self),
        String(decoding: value(at: $0), as: UTF8.self)
      )
    }
  }
}
