/// Why a text is not a quantity.
public struct QuantityError: Error, Equatable, Sendable, CustomStringConvertible {
  public let message: String

  public init(message: String) { self.message = message }
  public var description: String { message }

  static let malformed = QuantityError(
    message: "quantities must match the regular expression "
      + "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
  static let suffix = QuantityError(message: "unable to parse quantity's suffix")
}

extension Quantity {

  private static let decimalSuffixes = [
    "n", "u", "m", "", "k", "M", "G", "T", "P", "E",
  ]
  private static let binarySuffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]

  /// Reads a quantity.
  ///
  /// Digits finer than nano-units round away from zero; values beyond ±(2^63−1) are clamped. Both
  /// are Kubernetes' rules. Takes time linear in the text, whatever the exponent.
  public init(_ text: String) throws(QuantityError) {
    var rest = Substring(text).utf8
    if rest.isEmpty { throw .malformed }
    var isNegative = false
    if let sign = rest.first, sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") {
      isNegative = sign == UInt8(ascii: "-")
      rest.removeFirst()
    }
    let isDigit = { (byte: UInt8) in byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }
    let whole = rest.prefix(while: isDigit)
    rest.removeFirst(whole.count)
    var fraction = rest.prefix(0)
    if rest.first == UInt8(ascii: ".") {
      rest.removeFirst()
      fraction = rest.prefix(while: isDigit)
      rest.removeFirst(fraction.count)
    }
    if whole.isEmpty && fraction.isEmpty { throw .malformed }
    let suffixText = String(Substring(rest))
    let allowed = Set("eEinumkKMGTP+-0123456789".utf8)
    guard suffixText.utf8.allSatisfy(allowed.contains) else { throw .malformed }

    let (multiplier, power, format) = try Quantity.interpret(suffixText)
    // The value is digits × multiplier × 10^scale; only the digits that matter are kept.
    let digits = Array(whole) + Array(fraction)
    let scale = power - fraction.count
    var nanoUnits = Quantity.nanoUnits(digits: digits, scale: scale + 9, multiplier: multiplier)
    if isNegative { nanoUnits = -nanoUnits }
    self.init(nanoUnits: nanoUnits, format: format)
  }

  /// The suffix's meaning as a whole multiplier and a power of ten.
  private static func interpret(
    _ suffix: String
  ) throws(QuantityError) -> (multiplier: Int128, power: Int, format: Format) {
    if let index = decimalSuffixes.firstIndex(of: suffix) {
      return (1, (index - 3) * 3, .decimal)
    }
    if let index = binarySuffixes.firstIndex(of: suffix) {
      return (Int128(1) << (10 * index), 0, .binary)
    }
    guard let first = suffix.utf8.first, first | 0x20 == UInt8(ascii: "e"),
      let exponent = Int(suffix.dropFirst()), abs(exponent) < 1_000_000_000
    else { throw .suffix }
    return (1, exponent, .exponent)
  }

  /// ⌈digits × multiplier × 10^scale⌉, clamped well above the greatest quantity.
  private static func nanoUnits(digits: [UInt8], scale: Int, multiplier: Int128) -> Int128 {
    let ceiling = bound128
    let significant = digits.drop { $0 == UInt8(ascii: "0") }
    if significant.isEmpty { return 0 }
    var value: Int128 = 0
    var hasRemainder = false
    // With a negative scale the last digits fall below a nano-unit, unless the binary multiplier
    // lifts them: multiply first, divide after. Digits that cannot matter are only looked at for
    // being zero.
    var taken = 0
    for digit in significant {
      // Beyond this, one more digit would overflow; what follows only matters as magnitude.
      if value > (Int128.max / 10 - 9) / multiplier / 10 { break }
      value = value * 10 + Int128(digit & 0x0f)
      taken += 1
    }
    let dropped = significant.dropFirst(taken)
    if dropped.contains(where: { $0 != UInt8(ascii: "0") }) { hasRemainder = true }
    value *= multiplier
    var power = scale + dropped.count
    while power > 0 {
      if value > ceiling { return ceiling }
      value *= 10
      power -= 1
    }
    while power < 0 {
      if value == 0 { break }
      if value % 10 != 0 { hasRemainder = true }
      value /= 10
      power += 1
    }
    return min(hasRemainder ? value + 1 : value, ceiling)
  }

  /// Above every legal number of nano-units, and ten times it still fits.
  private static let bound128 = Int128(Int64.max) * 1_000_000_000 * 10
}

extension Quantity: CustomStringConvertible {
  /// The canonical form.
  public var description: String {
    if nanoUnits == 0 { return "0" }
    if format == .binary, isWhole, nanoUnits.magnitude >= 1024 * Quantity.nano.magnitude {
      var number = nanoUnits / Quantity.nano
      var index = 0
      while number % 1024 == 0, index + 1 < Quantity.binarySuffixes.count {
        number /= 1024
        index += 1
      }
      return "\(number)\(Quantity.binarySuffixes[index])"
    }
    var number = nanoUnits
    var index = 0
    while number % 1000 == 0, index + 1 < Quantity.decimalSuffixes.count {
      number /= 1000
      index += 1
    }
    if format == .exponent {
      return index == 3 ? "\(number)" : "\(number)e\((index - 3) * 3)"
    }
    return "\(number)\(Quantity.decimalSuffixes[index])"
  }
}

extension Value {
  /// The amount in a string or a number; nil if it is none.
  public var quantity: Quantity? {
    switch self {
    case .string(let text): try? Quantity(text)
    case .integer(let number): Quantity(number)
    case .double(let number): try? Quantity(number.description)
    default: nil
    }
  }

  public init(_ quantity: Quantity) { self = .string(quantity.description) }
}
