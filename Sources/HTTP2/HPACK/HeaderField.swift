/// A header field to send: name and value as bytes, and whether compression may remember it.
public struct HeaderField: Hashable, Sendable, CustomStringConvertible {
  public enum Indexing: UInt8, Hashable, Sendable {
    /// Added to the peer's dynamic table: for fields that come again.
    case indexed
    /// Sent in full each time: for fields that differ from message to message.
    case plain
    /// Sent in full, and proxies must do the same: for secrets.
    case secret
  }
  /// Lower case, as HTTP/2 demands.
  public var name: [UInt8]
  public var value: [UInt8]
  public var indexing: Indexing

  public init(_ name: String, _ value: String, indexing: Indexing = .indexed) {
    self.name = Array(name.utf8)
    self.value = Array(value.utf8)
    self.indexing = indexing
  }
  public init(name: [UInt8], value: [UInt8], indexing: Indexing = .indexed) {
    self.name = name
    self.value = value
    self.indexing = indexing
  }
  public var description: String {
    "\(String(decoding: name, as: UTF8.self)): \(String(decoding: value, as: UTF8.self))"
  }
}

/// A header section that is sent again and again. Make one per kind of message and keep it.
///
/// Each connection keeps the template's last encoding: as long as the compression state hasn't
/// changed since, sending it copies some bytes. With fields that may be indexed that is so from the
/// second time on, and those bytes are about one per field.
public final class HeaderTemplate: Sendable {
  public let fields: [HeaderField]
  /// False for sections that are sent once: their encoding isn't kept.
  let isReusable: Bool
  public init(_ fields: [HeaderField], isReusable: Bool = true) {
    self.fields = fields
    self.isReusable = isReusable
  }
}
