import Glibc

/// A moment of the wall clock, to the nanosecond.
public struct Timestamp: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// Nanoseconds since 1970-01-01T00:00:00Z.
  public var nanoseconds: Int64

  public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }
  public init(seconds: Int64) {
    let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    nanoseconds = overflow ? (seconds < 0 ? .min : .max) : product
  }

  /// The machine's clock now.
  public static var now: Timestamp {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Timestamp(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
  }

  public static func < (a: Timestamp, b: Timestamp) -> Bool { a.nanoseconds < b.nanoseconds }

  /// The moment `duration` later, or earlier if it is negative; stays within what can be expressed.
  public func advanced(by duration: Duration) -> Timestamp {
    let (seconds, attoseconds) = duration.components
    let (scaled, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    if overflow { return Timestamp(nanoseconds: seconds < 0 ? .min : .max) }
    let (delta, deltaOverflow) = scaled.addingReportingOverflow(attoseconds / 1_000_000_000)
    let (sum, sumOverflow) = nanoseconds.addingReportingOverflow(delta)
    if deltaOverflow || sumOverflow { return Timestamp(nanoseconds: seconds < 0 ? .min : .max) }
    return Timestamp(nanoseconds: sum)
  }

  /// From `earlier` to this moment; negative if that lies ahead.
  public func duration(since earlier: Timestamp) -> Duration {
    let (difference, overflow) = nanoseconds.subtractingReportingOverflow(earlier.nanoseconds)
    return .nanoseconds(overflow ? .max : difference)
  }

  /// RFC 3339 in UTC with seconds, as Kubernetes writes `metav1.Time`.
  public var description: String { text(fraction: 0) }

  /// RFC 3339 in UTC with nine digits of a second, as in the CRI's logs.
  public var nanosecondText: String { text(fraction: 9) }

  /// RFC 3339 in UTC with six digits of a second, as Kubernetes writes `metav1.MicroTime`.
  public var microsecondText: String { text(fraction: 6) }

  private func text(fraction digits: Int) -> String {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(30)
    append(to: &bytes, fraction: digits)
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Appends the RFC 3339 text with `digits` digits of a second, 0 through 9.
  func append(to bytes: inout [UInt8], fraction digits: Int) {
    let seconds = Self.floorDivide(nanoseconds, 1_000_000_000)
    var rest = nanoseconds - seconds * 1_000_000_000
    let days = Self.floorDivide(seconds, 86_400)
    let second = seconds - days * 86_400
    let (year, month, day) = Self.civil(fromDays: days)

    func put(_ value: Int64, _ width: Int) {
      var divisor: Int64 = 1
      for _ in 1..<width { divisor *= 10 }
      for _ in 0..<width {
        bytes.append(UInt8(48 + (value / divisor) % 10))
        divisor /= 10
        if divisor == 0 { divisor = 1 }
      }
    }
    put(year, 4)
    bytes.append(UInt8(ascii: "-"))
    put(month, 2)
    bytes.append(UInt8(ascii: "-"))
    put(day, 2)
    bytes.append(UInt8(ascii: "T"))
    put(second / 3_600, 2)
    bytes.append(UInt8(ascii: ":"))
    put(second / 60 % 60, 2)
    bytes.append(UInt8(ascii: ":"))
    put(second % 60, 2)
    if digits > 0 {
      bytes.append(UInt8(ascii: "."))
      for _ in digits..<9 { rest /= 10 }
      put(rest, digits)
    }
    bytes.append(UInt8(ascii: "Z"))
  }

  /// Reads RFC 3339 text with `Z` or an offset; nil if it is anything else.
  public init?(_ text: some StringProtocol) {
    let bytes = Array(text.utf8)
    func number(_ range: Range<Int>) -> Int64? {
      guard range.upperBound <= bytes.count else { return nil }
      var value: Int64 = 0
      for byte in bytes[range] {
        guard byte >= 48, byte <= 57 else { return nil }
        value = value * 10 + Int64(byte - 48)
      }
      return value
    }
    guard bytes.count >= 20, bytes.count <= 64, bytes[4] == 45, bytes[7] == 45,
      bytes[10] == 84 || bytes[10] == 116, bytes[13] == 58, bytes[16] == 58,
      let year = number(0..<4), let month = number(5..<7), let day = number(8..<10),
      let hour = number(11..<13), let minute = number(14..<16), let second = number(17..<19),
      (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60, second < 61
    else { return nil }
    var next = 19
    var fraction: Int64 = 0
    if bytes[next] == 46 {
      next += 1
      var scale: Int64 = 100_000_000
      let start = next
      while next < bytes.count, bytes[next] >= 48, bytes[next] <= 57 {
        fraction += Int64(bytes[next] - 48) * scale
        scale /= 10
        next += 1
      }
      guard next > start else { return nil }
    }
    guard next < bytes.count else { return nil }
    var offset: Int64 = 0
    switch bytes[next] {
    case 90, 122: guard next + 1 == bytes.count else { return nil }
    case 43, 45:
      guard next + 6 == bytes.count, bytes[next + 3] == 58,
        let hours = number(next + 1..<next + 3), let minutes = number(next + 4..<next + 6)
      else { return nil }
      offset = (hours * 3_600 + minutes * 60) * (bytes[next] == 45 ? -1 : 1)
    default: return nil
    }
    let days = Self.days(year: year, month: month, day: day)
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset
    let (scaled, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    let (sum, sumOverflow) = scaled.addingReportingOverflow(fraction)
    guard !overflow, !sumOverflow else { return nil }
    nanoseconds = sum
  }

  private static func floorDivide(_ value: Int64, _ divisor: Int64) -> Int64 {
    let quotient = value / divisor
    return value % divisor < 0 ? quotient - 1 : quotient
  }

  /// Days since the epoch as a date. The year is counted from March, so that the leap day comes last,
  /// in cycles of 400 years (146,097 days).
  private static func civil(fromDays days: Int64) -> (year: Int64, month: Int64, day: Int64) {
    let shifted = days + 719_468
    let cycle = floorDivide(shifted, 146_097)
    let dayOfCycle = shifted - cycle * 146_097
    let yearOfCycle =
      (dayOfCycle - dayOfCycle / 1_460 + dayOfCycle / 36_524 - dayOfCycle / 146_096) / 365
    let dayOfYear = dayOfCycle - (365 * yearOfCycle + yearOfCycle / 4 - yearOfCycle / 100)
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
    let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
    return (yearOfCycle + cycle * 400 + (month <= 2 ? 1 : 0), month, day)
  }

  private static func days(year: Int64, month: Int64, day: Int64) -> Int64 {
    let shiftedYear = month <= 2 ? year - 1 : year
    let cycle = floorDivide(shiftedYear, 400)
    let yearOfCycle = shiftedYear - cycle * 400
    let shiftedMonth = month > 2 ? month - 3 : month + 9
    let dayOfYear = (153 * shiftedMonth + 2) / 5 + day - 1
    let dayOfCycle = yearOfCycle * 365 + yearOfCycle / 4 - yearOfCycle / 100 + dayOfYear
    return cycle * 146_097 + dayOfCycle - 719_468
  }
}
