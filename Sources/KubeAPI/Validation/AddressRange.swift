/// A block of IP addresses, as `10.96.0.0/12` or `fd00::/108`.
public struct AddressRange: Sendable, Equatable, CustomStringConvertible {
  public let isV6: Bool
  public let prefixLength: Int
  /// The block's first address.
  private let base: UInt128

  /// - Returns: nil where `text` isn't an address, a slash and a length that leaves at least four
  ///   addresses.
  public init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let address = IPAddress.number(String(parts[0])),
      let length = Int(parts[1]), length >= 0, length <= (address.isV6 ? 126 : 30)
    else { return nil }
    isV6 = address.isV6
    prefixLength = length
    let width = address.isV6 ? 128 : 32
    let hosts = width - length == 128 ? UInt128.max : (UInt128(1) << UInt128(width - length)) - 1
    base = address.number & ~hosts
  }

  public var description: String { IPAddress.text(base, isV6: isV6) + "/\(prefixLength)" }

  /// How many addresses there are to give away: the first, which names the block, and IPv4's last, which
  /// is for broadcasts, left out. Of a large block only the beginning is used, so that what is given away
  /// can be written down.
  public var count: UInt64 {
    let bits = (isV6 ? 128 : 32) - prefixLength
    if bits > 20, isV6 { return (1 << 20) - 1 }
    return (UInt64(1) << UInt64(bits)) - (isV6 ? 1 : 2)
  }

  /// The address with this number, from 0.
  public func address(_ index: UInt64) -> String {
    IPAddress.text(base &+ UInt128(index) &+ 1, isV6: isV6)
  }

  /// Whether `address` is one to give away.
  public func contains(_ address: String) -> Bool {
    guard let parsed = IPAddress.number(address), parsed.isV6 == isV6, parsed.number > base else {
      return false
    }
    return parsed.number - base <= UInt128(count)
  }
}

extension IPAddress {
  /// The address as a number; nil where `text` is none.
  public static func number(_ text: String) -> (number: UInt128, isV6: Bool)? {
    if isV4(text) {
      return (text.split(separator: ".").reduce(0) { $0 << 8 | UInt128(UInt8($1) ?? 0) }, false)
    }
    guard isV6(text) else { return nil }
    let halves = text.split(separator: "::", omittingEmptySubsequences: false).map(groups)
    let missing = 8 - halves.reduce(0) { $0 + $1.count }
    let all =
      halves.count == 2
      ? halves[0] + Array(repeating: 0, count: max(0, missing)) + halves[1] : halves[0]
    return (all.reduce(0) { $0 << 16 | UInt128($1) }, true)
  }

  private static func groups(_ half: Substring) -> [UInt16] {
    half.split(separator: ":").flatMap { part -> [UInt16] in
      if part.contains(".") {
        let parts = part.split(separator: ".").map { UInt16($0) ?? 0 }
        guard parts.count == 4 else { return [] }
        return [parts[0] << 8 | parts[1], parts[2] << 8 | parts[3]]
      }
      return [UInt16(part, radix: 16) ?? 0]
    }
  }

  /// The canonical text of an address. Source: RFC 5952.
  public static func text(_ number: UInt128, isV6: Bool) -> String {
    if !isV6 {
      return [24, 16, 8, 0].map { String(UInt8(truncatingIfNeeded: number >> UInt128($0))) }
        .joined(separator: ".")
    }
    let groups = (0..<8).map { UInt16(truncatingIfNeeded: number >> UInt128(16 * (7 - $0))) }
    // The longest run of at least two zeros is left out; the first of equals.
    var longest = 0..<0
    var start = 0
    while start < 8 {
      var end = start
      while end < 8, groups[end] == 0 { end += 1 }
      if end - start > max(1, longest.count) { longest = start..<end }
      start = end + 1
    }
    func join(_ part: ArraySlice<UInt16>) -> String {
      part.map { String($0, radix: 16) }.joined(separator: ":")
    }
    if longest.isEmpty { return join(groups[...]) }
    return join(groups[..<longest.lowerBound]) + "::" + join(groups[longest.upperBound...])
  }
}
