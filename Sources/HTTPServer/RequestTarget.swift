/// The path and query of a request, percent-decoded once and checked.
///
/// `/api/v1/namespaces/default/pods?limit=500&labelSelector=app%3Dweb` has the segments `api`, `v1`,
/// `namespaces`, `default`, `pods` and the two query items. A segment is decoded *after* splitting, so
/// an encoded slash stays inside its segment, as proxies and clients expect of it.
///
/// What is refused: a target that is not a path, an escape that is not two hexadecimal digits, text that
/// is not UTF-8, and the segments `.` and `..`, which no resource has and which only mislead
/// authorization.
public struct RequestTarget: Sendable, Equatable {
  /// The decoded path, beginning with a slash.
  public let path: String
  /// The decoded segments between slashes; empty ones are left out.
  public let segments: [String]
  /// The decoded query items in order; an item without `=` has an empty value.
  public let query: [QueryItem]
  /// The query as it came, without the question mark.
  public let rawQuery: String

  public struct QueryItem: Sendable, Equatable {
    public let name: String
    public let value: String
  }

  /// - Returns: nil where the target can't be a request's path and query.
  public init?(_ target: String) {
    guard target.utf8.first == UInt8(ascii: "/") else { return nil }
    let parts = target.utf8.split(
      separator: UInt8(ascii: "?"), maxSplits: 1, omittingEmptySubsequences: false)
    var segments: [String] = []
    for part in parts[0].split(separator: UInt8(ascii: "/")) {
      guard let segment = Self.decode(part, plusIsSpace: false), segment != ".", segment != ".."
      else { return nil }
      segments.append(segment)
    }
    var query: [QueryItem] = []
    if parts.count > 1 {
      for item in parts[1].split(separator: UInt8(ascii: "&")) {
        let halves = item.split(
          separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
        guard let name = Self.decode(halves[0], plusIsSpace: true),
          let value = Self.decode(
            halves.count > 1 ? halves[1] : item[item.endIndex...], plusIsSpace: true)
        else { return nil }
        query.append(QueryItem(name: name, value: value))
      }
    }
    self.segments = segments
    self.query = query
    self.path = "/" + segments.joined(separator: "/")
    self.rawQuery = parts.count > 1 ? String(decoding: parts[1], as: UTF8.self) : ""
  }

  /// The first value of a query item.
  public func value(of name: String) -> String? {
    query.first { $0.name == name }?.value
  }

  /// Every value of a query item, in order.
  public func values(of name: String) -> [String] {
    query.filter { $0.name == name }.map(\.value)
  }

  private static func decode(_ text: Substring.UTF8View, plusIsSpace: Bool) -> String? {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.count)
    var index = text.startIndex
    while index < text.endIndex {
      let byte = text[index]
      text.formIndex(after: &index)
      switch byte {
      case UInt8(ascii: "%"):
        guard index < text.endIndex, let high = hexadecimalDigit(text[index]) else { return nil }
        text.formIndex(after: &index)
        guard index < text.endIndex, let low = hexadecimalDigit(text[index]) else { return nil }
        text.formIndex(after: &index)
        bytes.append(high << 4 | low)
      case UInt8(ascii: "+") where plusIsSpace:
        bytes.append(UInt8(ascii: " "))
      default:
        bytes.append(byte)
      }
    }
    return String(validating: bytes, as: UTF8.self)
  }

  private static func hexadecimalDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
