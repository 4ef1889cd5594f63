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

/// Names a watcher of one registry.
public struct WatcherID: RawRepresentable, Hashable, Comparable, Sendable {
  public var rawValue: UInt64
  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable public static func < (left: WatcherID, right: WatcherID) -> Bool {
    left.rawValue < right.rawValue
  }
}
