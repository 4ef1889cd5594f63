/// The texts of IP addresses.
public enum IPAddress {
  /// Whether `text` is an IPv4 address in four decimal parts or an IPv6 address.
  public static func isValid(_ text: String) -> Bool { isV4(text) || isV6(text) }

  public static func isV4(_ text: String) -> Bool {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4
      && parts.allSatisfy { part in
        part.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 } && (part == "0" || !part.hasPrefix("0"))
          && (UInt8(part) != nil)
      }
  }

  public static func isV6(_ text: String) -> Bool {
    guard text.contains(":"), text.utf8.count <= 45 else { return false }
    let halves = text.split(separator: "::", omittingEmptySubsequences: false)
    guard halves.count <= 2, !text.contains(":::") else { return false }
    var groups = 0
    for (position, half) in halves.enumerated() where !half.isEmpty {
      let parts = half.split(separator: ":", omittingEmptySubsequences: false)
      for (index, part) in parts.enumerated() {
        let isLast = position == halves.count - 1 && index == parts.count - 1
        if isLast, part.contains(".") {
          guard isV4(String(part)) else { return false }
          groups += 2
        } else {
          guard (1...4).contains(part.utf8.count), UInt16(part, radix: 16) != nil,
            !part.hasPrefix("+")
          else { return false }
          groups += 1
        }
      }
    }
    return halves.count == 2 ? groups <= 7 : groups == 8
  }
}
