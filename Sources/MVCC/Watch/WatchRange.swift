import EtcdWire

/// Which events a watcher does not want.
public typealias WatchFilter = WatchCreateRequest.Filters

/// The keys that a watcher watches, owning their bytes; see `KeyRange` for what `rangeEnd` means.
public struct WatchRange: Hashable, Sendable {
  public var key: [UInt8]
  public var rangeEnd: [UInt8]

  public init(key: [UInt8], rangeEnd: [UInt8]) {
    self.key = key
    self.rangeEnd = rangeEnd
  }
}

/// A watcher at the writer.
///
/// The lower half is a *slot*: a small number that no other watcher has at the same time, so that what
/// belongs to watchers can lie in arrays. The upper half counts the slot's uses, so that an id is never
/// given twice.
public struct WatcherID: RawRepresentable, Hashable, Comparable, Sendable {
  public var rawValue: UInt64
  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable public init(slot: Int, use: UInt32) {
    rawValue = UInt64(use) << 32 | UInt64(UInt32(truncatingIfNeeded: slot))
  }
  @inlinable public var slot: Int { Int(rawValue & 0xFFFF_FFFF) }
  @inlinable public var use: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) }
  @inlinable public static func < (left: WatcherID, right: WatcherID) -> Bool {
    left.rawValue < right.rawValue
  }
}
