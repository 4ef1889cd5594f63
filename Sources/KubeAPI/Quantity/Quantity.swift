/// An amount of a resource (`500m`, `1Gi`, `2e3`), exact.
///
/// The value is a whole number of nano-units in 128 bits. Kubernetes bounds quantities to ±(2^63−1)
/// and to nine decimal places, so every legal value fits with ten decimal digits to spare, and
/// comparing and adding are plain integer operations: no floating point is involved anywhere.
///
/// A quantity remembers the notation it was written in, because that decides how it is printed:
/// `1Gi` stays binary, `1e3` stays an exponent. `description` is the canonical form: no fraction,
/// the largest suffix with which the number is whole.
///
/// Source: Kubernetes documentation, "Resource units" and the reference of Quantity.
public struct Quantity: Sendable {
  public enum Format: Sendable {
    /// `1500m`, `2k`.
    case decimal
    /// `512Mi`.
    case binary
    /// `2e3`.
    case exponent
  }

  /// The value times 10^9.
  public private(set) var nanoUnits: Int128
  public var format: Format

  static let nano: Int128 = 1_000_000_000
  private static let bound = Int128(Int64.max) * nano

  /// - Parameter nanoUnits: clamped to what a quantity can hold.
  public init(nanoUnits: Int128, format: Format = .decimal) {
    self.nanoUnits = min(max(nanoUnits, -Quantity.bound), Quantity.bound)
    self.format = format
  }

  /// A whole number.
  public init(_ units: Int64, format: Format = .decimal) {
    self.init(nanoUnits: Int128(units) * Quantity.nano, format: format)
  }

  /// Thousandths, as CPU time is counted.
  public init(milli: Int64, format: Format = .decimal) {
    self.init(nanoUnits: Int128(milli) * 1_000_000, format: format)
  }

  public static let zero = Quantity(0)

  /// The value in whole units, rounded away from zero as Kubernetes rounds.
  public var value: Int64 { rounded(to: Quantity.nano) }
  /// The value in thousandths, rounded away from zero, clamped to what fits.
  public var milliValue: Int64 { rounded(to: 1_000_000) }

  private func rounded(to unit: Int128) -> Int64 {
    let (quotient, remainder) = nanoUnits.quotientAndRemainder(dividingBy: unit)
    let result = quotient + (remainder == 0 ? 0 : remainder.signum())
    return Int64(clamping: result)
  }

  /// Rounded away from zero to thousandths.
  public func roundedUpToMilli() -> Quantity {
    let (quotient, remainder) = nanoUnits.quotientAndRemainder(dividingBy: 1_000_000)
    return Quantity(
      nanoUnits: (quotient + (remainder == 0 ? 0 : remainder.signum())) * 1_000_000, format: format)
  }

  public var isZero: Bool { nanoUnits == 0 }
  public var isNegative: Bool { nanoUnits < 0 }
  /// Whether the value has no fraction.
  public var isWhole: Bool { nanoUnits % Quantity.nano == 0 }
}

extension Quantity: Comparable {
  /// By value alone: `1` equals `1000m`.
  public static func == (a: Quantity, b: Quantity) -> Bool { a.nanoUnits == b.nanoUnits }
  public static func < (a: Quantity, b: Quantity) -> Bool { a.nanoUnits < b.nanoUnits }
}

extension Quantity {
  /// The sum, clamped at the greatest quantity, in the notation of the first that isn't zero.
  public static func + (a: Quantity, b: Quantity) -> Quantity {
    Quantity(nanoUnits: a.nanoUnits + b.nanoUnits, format: a.isZero ? b.format : a.format)
  }
  public static func - (a: Quantity, b: Quantity) -> Quantity {
    Quantity(nanoUnits: a.nanoUnits - b.nanoUnits, format: a.isZero ? b.format : a.format)
  }
  public static func += (a: inout Quantity, b: Quantity) { a = a + b }
  public static func -= (a: inout Quantity, b: Quantity) { a = a - b }
}
