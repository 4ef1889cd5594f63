import Primitives

// What clients of the store may ask and be told, as plain values: the vocabulary of histories.
//
// It is written anew, from etcd's documentation of its API, and shares no code with the store: a checker
// that used the store's own types and evaluator would agree with the store's mistakes.

/// A key as a client sees it at one revision.
public struct ModelRecord: Hashable, Sendable {
  public var key: [UInt8]
  public var value: [UInt8]
  public var createRevision: Int64
  public var modRevision: Int64
  public var version: Int64
  public var lease: Int64

  public init(
    key: [UInt8], value: [UInt8], createRevision: Int64, modRevision: Int64, version: Int64,
    lease: Int64 = 0
  ) {
    self.key = key
    self.value = value
    self.createRevision = createRevision
    self.modRevision = modRevision
    self.version = version
    self.lease = lease
  }
}

extension ModelRecord: CustomStringConvertible {
  public var description: String {
    "\(text(key))=\(text(value))@\(modRevision) (created \(createRevision), version \(version)"
      + (lease == 0 ? ")" : ", lease \(lease))")
  }
}

/// A single key, or the keys from `key` up to but not including `end`.
///
/// As in etcd, an end of one zero byte means "no upper bound", and a key of one zero byte with it "all".
public struct ModelRange: Hashable, Sendable {
  public var key: [UInt8]
  public var end: [UInt8]

  public init(_ key: [UInt8], end: [UInt8] = []) {
    self.key = key
    self.end = end
  }

  public func contains(_ other: [UInt8]) -> Bool {
    if end.isEmpty { return other == key }
    if other.lexicographicallyPrecedes(key) { return false }
    return end == [0] || other.lexicographicallyPrecedes(end)
  }
}

/// One predicate of a transaction: what the key has, compared with an operand.
public struct ModelCompare: Hashable, Sendable {
  public enum Relation: Hashable, Sendable { case equal, notEqual, greater, less }
  public enum Operand: Hashable, Sendable {
    case version(Int64)
    case createRevision(Int64)
    case modRevision(Int64)
    case lease(Int64)
    case value([UInt8])
  }

  public var key: [UInt8]
  public var relation: Relation
  public var operand: Operand

  public init(key: [UInt8], _ relation: Relation, _ operand: Operand) {
    self.key = key
    self.relation = relation
    self.operand = operand
  }
}

/// What a client asked.
public indirect enum ModelRequest: Hashable, Sendable {
  case put(key: [UInt8], value: [UInt8], lease: Int64 = 0)
  case delete(ModelRange)
  /// `revision` zero reads the newest state; `isSerializable` may read any state that once was newest.
  case range(ModelRange, revision: Int64 = 0, isSerializable: Bool = false)
  case txn([ModelCompare], success: [ModelRequest], failure: [ModelRequest])
  /// The end of a lease, by its holder's wish or because its time ran out: its keys go.
  case endLease(Int64)
}

/// What a client was told, its header's revision apart. What a response leaves out (a previous record that
/// wasn't asked for) is nil, and isn't checked.
public enum ModelResponse: Hashable, Sendable {
  case put(previous: ModelRecord?? = nil)
  case delete(count: Int64, previous: [ModelRecord]? = nil)
  case range([ModelRecord], count: Int64)
  case txn(succeeded: Bool, [ModelResponse])
  case endLease
}

/// How a request ended, as far as its client knows.
public enum ModelOutcome: Hashable, Sendable {
  /// Answered, with the revision in the answer's header.
  case answered(ModelResponse, revision: Int64)
  /// Refused; it certainly changed nothing.
  case refused
  /// Never answered, or with an error that leaves it open: it may have happened, once, at any time since.
  case unknown
}

/// A change of one key, as a watcher is told of it.
public struct ModelEvent: Hashable, Sendable {
  public var isDelete: Bool
  /// The record after the change; of a deletion, only its key and mod revision count.
  public var record: ModelRecord
  /// What was there before; nil if nothing was, or if it wasn't asked for.
  public var previous: ModelRecord?

  public init(isDelete: Bool, record: ModelRecord, previous: ModelRecord? = nil) {
    self.isDelete = isDelete
    self.record = record
    self.previous = previous
  }

  public var revision: Int64 { record.modRevision }
}

extension ModelEvent: CustomStringConvertible {
  public var description: String {
    isDelete ? "delete \(text(record.key))@\(revision)" : "put \(record)"
  }
}

/// Bytes as text, shortened: for messages.
func text(_ bytes: [UInt8]) -> String {
  let start = String(decoding: bytes.prefix(24), as: UTF8.self)
  return bytes.count > 24 ? start + "…" : start
}
