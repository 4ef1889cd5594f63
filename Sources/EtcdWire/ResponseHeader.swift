/// `etcdserverpb.ResponseHeader`: field 1 of every response.
public struct ResponseHeader: WireMessage, Hashable, Sendable {
  public var clusterID: UInt64 = 0
  public var memberID: UInt64 = 0
  public var revision: Int64 = 0
  public var raftTerm: UInt64 = 0
  public private(set) var hasUnknownFields = false

  public init() {}

  public init(clusterID: UInt64, memberID: UInt64, revision: Int64, raftTerm: UInt64) {
    self.clusterID = clusterID
    self.memberID = memberID
    self.revision = revision
    self.raftTerm = raftTerm
  }

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x08: clusterID = try reader.varint()
      case 0x10: memberID = try reader.varint()
      case 0x18: revision = try reader.int64()
      case 0x20: raftTerm = try reader.varint()
      default: try reader.skipUnknown(known: 0b11110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    output.append(field: 1, varint: clusterID)
    output.append(field: 2, varint: memberID)
    output.append(field: 3, int64: revision)
    output.append(field: 4, varint: raftTerm)
  }

  /// Appends the header as field 1 of a response. At most 46 bytes.
  ///
  /// Every response begins with one, so it is written into place and appended at once.
  public func appendAsField(to output: inout [UInt8]) {
    // A tag, a length below 128, and four fields of a tag and at most ten bytes.
    withUnsafeTemporaryAllocation(byteCount: 46, alignment: 1) { buffer in
      var end = 2
      Self.write(0x08, clusterID, into: buffer, at: &end)
      Self.write(0x10, memberID, into: buffer, at: &end)
      Self.write(0x18, UInt64(bitPattern: revision), into: buffer, at: &end)
      Self.write(0x20, raftTerm, into: buffer, at: &end)
      buffer[0] = 0x0A
      buffer[1] = UInt8(truncatingIfNeeded: end - 2)
      output.append(contentsOf: UnsafeRawBufferPointer(rebasing: buffer[..<end]))
    }
  }

  @inline(__always)
  private static func write(
    _ tag: UInt8, _ value: UInt64, into buffer: UnsafeMutableRawBufferPointer, at end: inout Int
  ) {
    if value == 0 { return }
    buffer[end] = tag
    end &+= 1
    var rest = value
    while rest >= 0x80 {
      buffer[end] = UInt8(truncatingIfNeeded: rest) | 0x80
      end &+= 1
      rest &>>= 7
    }
    buffer[end] = UInt8(truncatingIfNeeded: rest)
    end &+= 1
  }
}

extension FieldReader {
  /// Merges the message field that the reader stands at into `message`.
  mutating func mergeMessage<Message: WireMessage>(
    into message: inout Message?, _ nesting: Nesting
  ) throws(WireError) {
    var merged = message ?? Message()
    try merged.merge(try bytes(), nesting)
    if merged.hasUnknownFields { sawUnknown = true }
    message = merged
  }
}
