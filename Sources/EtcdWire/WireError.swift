/// Why bytes are not a message that this module accepts.
///
/// Small and without payload: a decoder that refuses costs no more than one that accepts.
public enum WireError: UInt8, Error, Hashable, Sendable, CustomStringConvertible {
  /// The bytes end inside a field.
  case truncated
  /// A varint runs past ten bytes or 64 bits.
  case malformedVarint
  /// A field number of zero or above 2^29-1, or a wire type that does not exist.
  case malformedTag
  /// A known field arrived with another wire type than its own.
  case wrongWireType
  /// A group (wire types 3 and 4), which no version of etcd's protocol has.
  case groupRefused
  /// Messages nested deeper than `WireLimits.nestedTransactions`.
  case nestedTooDeep
  /// A message with repeated fields arrived in two pieces where one was expected.
  case splitMessage

  public var description: String {
    switch self {
    case .truncated: "the message ends inside a field"
    case .malformedVarint: "a varint is longer than 64 bits"
    case .malformedTag: "a field number or wire type is invalid"
    case .wrongWireType: "a known field has the wrong wire type"
    case .groupRefused: "groups are not accepted"
    case .nestedTooDeep: "messages are nested too deeply"
    case .splitMessage: "a message is split over several fields"
    }
  }
}

/// The bounds that decoding observes.
public enum WireLimits {
  /// How many transactions may stand inside one another. Decoding, checking and applying recurse once
  /// a level, so this bounds the stack; etcd's own bound is `--max-txn-ops` (128), far above any use.
  public static let nestedTransactions = 32
}
