/// `mvccpb.Event`: a change of one key, as watchers see it.
public struct Event: WireMessage {
  /// What happened; an open enum, as all of protobuf's are.
  public struct Kind: RawRepresentable, Hashable, Sendable {
    public var rawValue: Int32
    public init(rawValue: Int32) { self.rawValue = rawValue }
    public static let put = Kind(rawValue: 0)
    public static let delete = Kind(rawValue: 1)
  }

  public var kind = Kind.put
  /// The key after the change; of a deletion only key and mod revision.
  public var keyValue: KeyValue?
  /// The key before the change, if the watcher asked for it and there was one.
  public var previous: KeyValue?
  public private(set) var hasUnknownFields = false

  public init() {}

  public mutating func merge(
    _ bytes: UnsafeRawBufferPointer, _ nesting: Nesting
  ) throws(WireError) {
    var reader = FieldReader(bytes)
    while try reader.next() {
      switch reader.tag {
      case 0x08: kind = Kind(rawValue: try reader.enumeration())
      case 0x12: try reader.mergeMessage(into: &keyValue, nesting)
      case 0x1A: try reader.mergeMessage(into: &previous, nesting)
      default: try reader.skipUnknown(known: 0b1110)
      }
    }
    if reader.sawUnknown { hasUnknownFields = true }
  }

  public func append(to output: inout [UInt8]) {
    output.append(field: 1, int64: Int64(kind.rawValue))
    if let keyValue { output.append(field: 2, message: keyValue) }
    if let previous { output.append(field: 3, message: previous) }
  }

  /// Appends an event made of records that are already encoded.
  public static func append(
    _ kind: Kind, encodedKeyValue: UnsafeRawBufferPointer,
    encodedPrevious: UnsafeRawBufferPointer?, to output: inout [UInt8]
  ) {
    output.append(field: 1, int64: Int64(kind.rawValue))
    output.append(field: 2, encoded: encodedKeyValue)
    if let encodedPrevious { output.append(field: 3, encoded: encodedPrevious) }
  }
}
