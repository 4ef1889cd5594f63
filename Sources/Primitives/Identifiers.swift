/// A Raft term: a logical clock that rises with each election. Zero means "before the first".
public struct Term: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
  public var rawValue: UInt64
  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  public static let zero = Term(0)
  @inlinable public static func < (left: Term, right: Term) -> Bool {
    left.rawValue < right.rawValue
  }
  @inlinable public var next: Term { Term(rawValue &+ 1) }
  public var description: String { "\(rawValue)" }
}

/// The position of an entry in the replicated log. The first entry has index 1; zero means "none".
public struct LogIndex: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
  public var rawValue: UInt64
  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  public static let zero = LogIndex(0)
  @inlinable public static func < (left: LogIndex, right: LogIndex) -> Bool {
    left.rawValue < right.rawValue
  }
  @inlinable public static func + (left: LogIndex, right: UInt64) -> LogIndex {
    LogIndex(left.rawValue &+ right)
  }
  /// The distance between two indexes; zero where `right` lies behind `left`.
  @inlinable public static func - (left: LogIndex, right: LogIndex) -> UInt64 {
    left.rawValue >= right.rawValue ? left.rawValue - right.rawValue : 0
  }
  @inlinable public var next: LogIndex { LogIndex(rawValue &+ 1) }
  /// The index before this one; zero stays zero.
  @inlinable public var previous: LogIndex { LogIndex(rawValue == 0 ? 0 : rawValue - 1) }
  public var description: String { "\(rawValue)" }
}

/// The store's version counter: it rises by one with each transaction that changes keys.
///
/// A new store is at revision 1, as etcd's is.
public struct Revision: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
  public var rawValue: Int64
  @inlinable public init(rawValue: Int64) { self.rawValue = rawValue }
  @inlinable public init(_ rawValue: Int64) { self.rawValue = rawValue }
  public static let zero = Revision(0)
  @inlinable public static func < (left: Revision, right: Revision) -> Bool {
    left.rawValue < right.rawValue
  }
  @inlinable public var next: Revision { Revision(rawValue &+ 1) }
  public var description: String { "\(rawValue)" }
}

/// A member of the store's cluster. Printed in hexadecimal, as etcd prints member ids.
public struct NodeID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
  public var rawValue: UInt64
  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable public static func < (left: NodeID, right: NodeID) -> Bool {
    left.rawValue < right.rawValue
  }
  public var description: String { String(rawValue, radix: 16) }
}

/// A lease's identity, chosen by the client or by the store. Printed in hexadecimal.
public struct LeaseID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
  public var rawValue: Int64
  @inlinable public init(rawValue: Int64) { self.rawValue = rawValue }
  @inlinable public init(_ rawValue: Int64) { self.rawValue = rawValue }
  public static let none = LeaseID(0)
  @inlinable public static func < (left: LeaseID, right: LeaseID) -> Bool {
    left.rawValue < right.rawValue
  }
  public var description: String { String(UInt64(bitPattern: rawValue), radix: 16) }
}

/// A point on a monotonic clock, in nanoseconds since an origin of that clock's own.
///
/// Nothing below the shells reads a clock: instants come in by parameter, from the machine's
/// monotonic clock in production and from the simulated one in tests.
public struct Instant: Hashable, Comparable, Sendable {
  public var nanoseconds: UInt64
  @inlinable public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }
  public static let origin = Instant(nanoseconds: 0)
  @inlinable public static func < (left: Instant, right: Instant) -> Bool {
    left.nanoseconds < right.nanoseconds
  }
  /// The instant `nanoseconds` later; stays at the clock's end instead of overflowing.
  @inlinable public func advanced(byNanoseconds nanoseconds: UInt64) -> Instant {
    let (sum, overflow) = self.nanoseconds.addingReportingOverflow(nanoseconds)
    return Instant(nanoseconds: overflow ? .max : sum)
  }
  @inlinable public func advanced(by duration: Duration) -> Instant {
    advanced(byNanoseconds: duration.wholeNanoseconds)
  }
  /// Nanoseconds from `earlier` to this instant; zero where `earlier` lies ahead.
  @inlinable public func nanoseconds(since earlier: Instant) -> UInt64 {
    nanoseconds >= earlier.nanoseconds ? nanoseconds - earlier.nanoseconds : 0
  }
}

extension Duration {
  /// The duration in nanoseconds; negative ones count as zero, too long ones as the maximum.
  @inlinable public var wholeNanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    if seconds < 0 || attoseconds < 0 { return 0 }
    let (product, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
    if overflow { return .max }
    let (sum, carry) = product.addingReportingOverflow(UInt64(attoseconds) / 1_000_000_000)
    return carry ? .max : sum
  }
}
