/// A moment in UTC, as API objects hold it: RFC 3339 text, to the second (`Time`) or to the
/// microsecond (`MicroTime`).
public struct Timestamp: Sendable, Hashable, Comparable {
  /// Since 1970-01-01T00:00:00Z, negative before.
  public let secondsSinceEpoch: Int64
  /// 0 to 999,999,999, counted forwards from the second.
  public let nanoseconds: Int32

  /// - Parameter nanoseconds: any number; whole seconds in it are carried over.
  public init(secondsSinceEpoch: Int64, nanoseconds: Int64 = 0) {
    let carry =
      nanoseconds >= 0
      ? nanoseconds / 1_000_000_000 : -((999_999_999 - nanoseconds) / 1_000_000_000)
    self.secondsSinceEpoch = secondsSinceEpoch &+ carry
    self.nanoseconds = Int32(truncatingIfNeeded: nanoseconds - carry * 1_000_000_000)
  }

  public static func < (a: Timestamp, b: Timestamp) -> Bool {
    (a.secondsSinceEpoch, a.nanoseconds) < (b.secondsSinceEpoch, b.nanoseconds)
  }

  /// The time from `earlier` to this moment; negative if this is before it.
  public func since(_ earlier: Timestamp) -> Duration {
    Duration(
      secondsComponent: secondsSinceEpoch - earlier.secondsSinceEpoch, attosecondsComponent: 0)
      + .nanoseconds(Int64(nanoseconds) - Int64(earlier.nanoseconds))
  }

  /// The moment `duration` later; durations come from clients, so it stops at the clock's ends.
  public func adding(_ duration: Duration) -> Timestamp {
    let (seconds, attoseconds) = duration.components
    let (sum, overflow) = secondsSinceEpoch.addingReportingOverflow(seconds)
    return Timestamp(
      secondsSinceEpoch: overflow ? (seconds < 0 ? .min : .max) : sum,
      nanoseconds: Int64(nanoseconds) + attoseconds / 1_000_000_000)
  }
}

// MARK: Text

/// Why a text is no time, in the words of Go's time package.
public struct TimestampError: Error, Equatable, Sendable, CustomStringConvertible {
  public let message: String

  public init(message: String) { self.message = message }
  public var description: String { message }
}

extension Timestamp: CustomStringConvertible {
  /// RFC 3339 in UTC, to the second.
  public var description: String { text(fraction: "") }

  /// RFC 3339 in UTC with six decimal places.
  public var microDescription: String {
    let micros = String(nanoseconds / 1000)
    return text(fraction: "." + String(repeating: "0", count: 6 - micros.count) + micros)
  }

  private func text(fraction: String) -> String {
    let day = floorDivide(secondsSinceEpoch, 86_400)
    let second = Int(secondsSinceEpoch - day * 86_400)
    let date = Timestamp.civil(daysSinceEpoch: day)
    func padded(_ number: Int, _ width: Int) -> String {
      let text = String(number)
      return String(repeating: "0", count: max(0, width - text.count)) + text
    }
    return padded(Int(date.year), 4) + "-" + padded(date.month, 2) + "-" + padded(date.day, 2)
      + "T" + padded(second / 3600, 2) + ":" + padded(second / 60 % 60, 2) + ":"
      + padded(second % 60, 2) + fraction + "Z"
  }

  /// Reads RFC 3339 text with an optional fraction (cut after nine places) and any zone.
  public init(_ text: String) throws(TimestampError) {
    var parser = TimestampParser(text)
    self = try parser.parse()
  }

  /// Proleptic Gregorian date of a day; the algorithm counts in eras of 400 years from March on.
  public static func civil(daysSinceEpoch: Int64) -> (year: Int64, month: Int, day: Int) {
    let shifted = daysSinceEpoch + 719_468
    let era = floorDivide(shifted, 146_097)
    let dayOfEra = shifted - era * 146_097
    let yearOfEra =
      (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let monthFromMarch = (5 * dayOfYear + 2) / 153
    let day = Int(dayOfYear - (153 * monthFromMarch + 2) / 5 + 1)
    let month = Int(monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9)
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
  }

  static func days(year: Int64, month: Int, day: Int) -> Int64 {
    let year = month <= 2 ? year - 1 : year
    let era = floorDivide(year, 400)
    let yearOfEra = year - era * 400
    let monthFromMarch = Int64(month > 2 ? month - 3 : month + 9)
    let dayOfYear = (153 * monthFromMarch + 2) / 5 + Int64(day) - 1
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    return era * 146_097 + dayOfEra - 719_468
  }
}

private func floorDivide(_ a: Int64, _ b: Int64) -> Int64 {
  let (quotient, remainder) = a.quotientAndRemainder(dividingBy: b)
  return remainder < 0 ? quotient - 1 : quotient
}

private struct TimestampParser {
  private let text: String
  private var rest: Substring.UTF8View

  init(_ text: String) {
    self.text = text
    rest = Substring(text).utf8
  }

  mutating func parse() throws(TimestampError) -> Timestamp {
    let year = try number(4, "2006")
    try literal("-")
    let month = try number(2, "01")
    if month < 1 || month > 12 { throw outOfRange("month") }
    try literal("-")
    let day = try number(2, "02")
    try literal("T")
    let hour = try number(2, "15")
    if hour > 23 { throw outOfRange("hour") }
    try literal(":")
    let minute = try number(2, "04")
    if minute > 59 { throw outOfRange("minute") }
    try literal(":")
    let second = try number(2, "05")
    if second > 59 { throw outOfRange("second") }
    var nanoseconds: Int64 = 0
    if rest.first == UInt8(ascii: "."), let next = rest.dropFirst().first, isDigit(next) {
      rest.removeFirst()
      var place: Int64 = 100_000_000
      while let byte = rest.first, isDigit(byte) {
        nanoseconds += Int64(byte & 0x0f) * place
        place /= 10
        rest.removeFirst()
      }
    }
    let zone = try zoneSeconds()
    if !rest.isEmpty { throw error(": extra text: \(quoted(String(Substring(rest))))") }
    let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
    let lengths = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    if day < 1 || day > lengths[month - 1] { throw outOfRange("day") }
    let days = Timestamp.days(year: Int64(year), month: month, day: day)
    return Timestamp(
      secondsSinceEpoch: days * 86_400 + Int64(hour * 3600 + minute * 60 + second - zone),
      nanoseconds: nanoseconds)
  }

  private mutating func zoneSeconds() throws(TimestampError) -> Int {
    if rest.first == UInt8(ascii: "Z") {
      rest.removeFirst()
      return 0
    }
    let start = rest
    guard let sign = rest.popFirst(), sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-"),
      let hours = twoDigits(), rest.popFirst() == UInt8(ascii: ":"), let minutes = twoDigits()
    else {
      rest = start
      throw mismatch("Z07:00")
    }
    if hours > 24 || minutes > 59 { throw outOfRange("time zone offset") }
    return (sign == UInt8(ascii: "-") ? -1 : 1) * (hours * 3600 + minutes * 60)
  }

  private func isDigit(_ byte: UInt8) -> Bool {
    byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
  }

  private mutating func twoDigits() -> Int? {
    guard let tens = rest.popFirst(), isDigit(tens), let ones = rest.popFirst(), isDigit(ones)
    else { return nil }
    return Int(tens & 0x0f) * 10 + Int(ones & 0x0f)
  }

  private mutating func number(_ width: Int, _ element: String) throws(TimestampError) -> Int {
    let digits = rest.prefix(width)
    guard digits.count == width, digits.allSatisfy(isDigit) else { throw mismatch(element) }
    rest.removeFirst(width)
    return digits.reduce(0) { $0 * 10 + Int($1 & 0x0f) }
  }

  private mutating func literal(_ character: Character) throws(TimestampError) {
    guard let byte = rest.first, byte == character.asciiValue else {
      throw mismatch(String(character))
    }
    rest.removeFirst()
  }

  private func error(_ problem: String) -> TimestampError {
    TimestampError(message: "parsing time \(quoted(text))\(problem)")
  }

  private func mismatch(_ element: String) -> TimestampError {
    error(
      " as \"2006-01-02T15:04:05Z07:00\": cannot parse \(quoted(String(Substring(rest)))) as "
        + quoted(element))
  }

  private func outOfRange(_ what: String) -> TimestampError { error(": \(what) out of range") }
}

extension Value {
  /// The moment in a string; nil if it is none.
  public var timestamp: Timestamp? { string.flatMap { try? Timestamp($0) } }

  /// RFC 3339 to the second.
  public init(_ timestamp: Timestamp) { self = .string(timestamp.description) }
}
