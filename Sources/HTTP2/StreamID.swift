/// An HTTP/2 stream's number: odd for streams that the client opened; zero means the connection.
///
/// Source: RFC 9113, section 5.1.1.
public struct StreamID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
  public var rawValue: UInt32
  @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  @inlinable public init(_ rawValue: UInt32) { self.rawValue = rawValue }
  public static let connection = StreamID(0)
  /// The largest number a stream can have: 31 bits.
  public static let last = StreamID(0x7FFF_FFFF)
  @inlinable public static func < (left: StreamID, right: StreamID) -> Bool {
    left.rawValue < right.rawValue
  }
  public var description: String { "\(rawValue)" }
}
