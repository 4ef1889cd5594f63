import HTTP2
import Primitives

/// One key as the store holds it, in memory of its own.
public struct StoreRecord: Sendable, Equatable {
  public var key: [UInt8]
  public var value: [UInt8]
  public var createRevision: Revision
  public var modRevision: Revision
  /// How many times the key was put since its creation.
  public var version: Int64
  public var lease: LeaseID

  public init(
    key: [UInt8], value: [UInt8], createRevision: Revision, modRevision: Revision,
    version: Int64 = 1, lease: LeaseID = .none
  ) {
    self.key = key
    self.value = value
    self.createRevision = createRevision
    self.modRevision = modRevision
    self.version = version
    self.lease = lease
  }
}

/// Which keys a request means: `first <= key < end`.
public struct StoreRange: Sendable, Equatable {
  public var first: [UInt8]
  /// Empty: `first` alone. One zero byte: no end.
  public var end: [UInt8]

  public init(first: [UInt8], end: [UInt8]) {
    self.first = first
    self.end = end
  }

  public static func key(_ key: [UInt8]) -> StoreRange { StoreRange(first: key, end: []) }

  /// Every key that begins with `prefix`.
  public static func prefix(_ prefix: [UInt8]) -> StoreRange {
    StoreRange(first: prefix, end: endOfPrefix(prefix))
  }

  /// The first key behind all that begin with `prefix`; one zero byte where there is none.
  public static func endOfPrefix(_ prefix: [UInt8]) -> [UInt8] {
    var end = prefix
    while let last = end.last {
      if last < 0xFF {
        end[end.count - 1] = last + 1
        return end
      }
      end.removeLast()
    }
    return [0]
  }
}

/// A read of some keys.
public struct StoreQuery: Sendable {
  public var range: StoreRange
  /// The most records to return; nil means all.
  public var limit: Int?
  /// The revision to read at; nil means the newest.
  public var revision: Revision?
  /// Answered from the member's own state, which may lie behind the cluster's.
  public var isSerializable = false
  public var keysOnly = false
  public var countOnly = false

  public init(_ range: StoreRange, limit: Int? = nil, revision: Revision? = nil) {
    self.range = range
    self.limit = limit
    self.revision = revision
  }
}

/// What a read found.
public struct StorePage: Sendable {
  public var records: [StoreRecord]
  /// True if `limit` left records out.
  public var hasMore: Bool
  /// How many keys lie in the range, whatever the limit.
  public var count: Int
  /// The store's revision when it answered.
  public var revision: Revision

  public init(records: [StoreRecord], hasMore: Bool, count: Int, revision: Revision) {
    self.records = records
    self.hasMore = hasMore
    self.count = count
    self.revision = revision
  }
}

/// A write that takes place only if its key is at the expected revision: compare and swap.
public struct StoreSwap: Sendable {
  public enum Change: Sendable {
    case put(value: [UInt8], lease: LeaseID)
    case delete
  }

  /// Another key that is changed in the same transaction, or not at all.
  public enum Companion: Sendable {
    /// Makes a key that must not exist.
    case claim(key: [UInt8], value: [UInt8])
    /// Deletes a key, whether it exists or not.
    case release(key: [UInt8])
  }

  public var key: [UInt8]
  /// The mod revision that the key must have; zero: the key must not exist.
  public var expected: Revision
  public var change: Change
  public var companions: [Companion]

  public init(key: [UInt8], expected: Revision, change: Change, companions: [Companion] = []) {
    self.key = key
    self.expected = expected
    self.change = change
    self.companions = companions
  }

  /// The keys of the companions that must not exist, in order.
  public var claims: [[UInt8]] {
    companions.compactMap { if case .claim(let key, _) = $0 { key } else { nil } }
  }
}

/// How a compare and swap ended.
public enum StoreSwapOutcome: Sendable {
  /// It took place, at this revision.
  case done(Revision)
  /// The key is not at the expected revision; what it is now, nil if it doesn't exist.
  case conflict(current: StoreRecord?)
  /// The key is where it was expected, but these keys, which were to be claimed, exist.
  case taken(keys: [[UInt8]])
}

/// One change of one key.
public struct StoreChange: Sendable {
  public enum Kind: Sendable, Equatable {
    case put
    case delete
  }

  public var kind: Kind
  /// After the change; of a deletion, only key and mod revision.
  public var record: StoreRecord

  public init(kind: Kind, record: StoreRecord) {
    self.kind = kind
    self.record = record
  }
}

/// What a watch delivers, in order.
public enum StoreUpdate: Sendable {
  /// Changes in the order of their revisions. One revision's changes are never split.
  case changes([StoreChange])
  /// Every change up to this revision has been delivered.
  case progress(Revision)
}

/// Why a request to the store failed.
public struct StoreError: Error, Sendable, CustomStringConvertible {
  public enum Code: Hashable, Sendable {
    /// No member answered, or the one that did can't serve. Nothing was changed.
    case unavailable
    /// No answer came in time, or the connection broke in between: a write may have taken place.
    case unknownOutcome
    /// The revision asked for is older than the compaction; `compactRevision` is the oldest kept.
    case compacted
    /// The revision asked for doesn't exist yet.
    case futureRevision
    case leaseNotFound
    /// The store is out of space or the request too large.
    case exhausted
    /// The answer could not be understood.
    case malformedAnswer
    case cancelled
    /// Anything else that the store refused, in its own words.
    case refused
  }

  public var code: Code
  public var message: String
  public var compactRevision: Revision?
  /// What the server answered, if it did.
  public internal(set) var status: GRPCStatus?

  public init(_ code: Code, _ message: String, compactRevision: Revision? = nil) {
    self.code = code
    self.message = message
    self.compactRevision = compactRevision
  }

  public var description: String { "store: \(message)" }
}
