/// Durations as Go writes them, in flags: `300ms`, `1.5h`, `2h45m`.
public enum GoDuration {
  private static let units: [(name: String, nanoseconds: Double)] = [
    ("ns", 1), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9),
    ("h", 3600e9),
  ]

  /// Nil for what Go wouldn't take, negative ones, and those beyond 290 years.
  public static func parse(_ text: String) -> Duration? {
    if text == "0" { return .zero }
    var rest = text[...]
    if rest.hasPrefix("+") { rest = rest.dropFirst() }
    guard !rest.isEmpty else { return nil }
    var total = 0.0
    while !rest.isEmpty {
      let digits = rest.prefix { $0.isASCII && $0.isNumber || $0 == "." }
      guard let value = Double(digits) else { return nil }
      rest = rest.dropFirst(digits.count)
      let name = rest.prefix { !($0.isNumber || $0 == ".") }
      guard let unit = units.first(where: { $0.name == name }) else { return nil }
      rest = rest.dropFirst(name.count)
      total += value * unit.nanoseconds
    }
    guard total < Double(Int64.max) else { return nil }
    return .nanoseconds(Int64(total))
  }
}
