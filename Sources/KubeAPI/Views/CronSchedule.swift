/// A schedule in cron's format: minute, hour, day of the month, month, day of the week.
///
/// As in cron, a day counts if it is one of the month *or* one of the week, where both are restricted.
/// Source: Kubernetes, "CronJob", "Schedule syntax"; crontab(5).
public struct CronSchedule: Equatable, Sendable {
  /// Bit n: the value n counts.
  private var minutes: UInt64 = 0
  private var hours: UInt64 = 0
  private var days: UInt64 = 0
  private var months: UInt64 = 0
  private var weekdays: UInt64 = 0
  /// A star: the field restricts nothing.
  private var anyDay = false
  private var anyWeekday = false
  /// `@every` so many seconds.
  private var interval: Int64?

  /// Why a text is no schedule.
  public struct Failure: Error, CustomStringConvertible {
    public var description: String
  }

  private static let names: [String: String] = [
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0", "@daily": "0 0 * * *", "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
  ]
  private static let monthNames = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
  ]
  private static let weekdayNames = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]

  public init(_ text: String) throws(Failure) {
    var text = text.trimmed
    if let meaning = Self.names[text] { text = meaning }
    if text.hasPrefix("@every ") {
      guard let seconds = Self.seconds(String(text.dropFirst(7))), seconds >= 1 else {
        throw Failure(description: "failed to parse duration \(text)")
      }
      interval = seconds
      return
    }
    if text.hasPrefix("@") { throw Failure(description: "unrecognized descriptor: \(text)") }
    let fields = text.split(separator: " ").map { $0.lowercased() }
    guard fields.count == 5 else {
      throw Failure(
        description:
          "expected exactly 5 fields, found \(fields.count): [\(fields.joined(separator: " "))]"
      )
    }
    minutes = try Self.parse(fields[0], 0...59, [])
    hours = try Self.parse(fields[1], 0...23, [])
    days = try Self.parse(fields[2], 1...31, [])
    months = try Self.parse(fields[3], 1...12, Self.monthNames)
    weekdays = try Self.parse(fields[4], 0...7, Self.weekdayNames)
    // Seven is Sunday, too.
    if weekdays & 1 << 7 != 0 { weekdays |= 1 }
    anyDay = fields[2].hasPrefix("*") || fields[2].hasPrefix("?")
    anyWeekday = fields[4].hasPrefix("*") || fields[4].hasPrefix("?")
  }

  private static func parse(
    _ field: String, _ range: ClosedRange<Int>, _ names: [String]
  ) throws(Failure) -> UInt64 {
    var bits: UInt64 = 0
    func number(_ text: Substring) throws(Failure) -> Int {
      if let index = names.firstIndex(of: String(text)) { return index + range.lowerBound }
      guard let number = Int(text), range.contains(number) else {
        throw Failure(description: "failed to parse \(text) in \(field): out of \(range)")
      }
      return number
    }
    for part in field.split(separator: ",", omittingEmptySubsequences: false) {
      let halves = part.split(separator: "/", omittingEmptySubsequences: false)
      guard halves.count <= 2, let head = halves.first, !head.isEmpty else {
        throw Failure(description: "failed to parse \(part)")
      }
      var low = range.lowerBound
      var high = range.upperBound == 7 ? 6 : range.upperBound
      if head != "*", head != "?" {
        let ends = head.split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count <= 2 else { throw Failure(description: "too many hyphens: \(part)") }
        low = try number(ends[0])
        // A start with a step goes on to the end.
        high = ends.count == 2 ? try number(ends[1]) : halves.count == 2 ? high : low
      }
      var step = 1
      if halves.count == 2 {
        guard let given = Int(halves[1]), given > 0 else {
          throw Failure(description: "step of range should be a positive number: \(part)")
        }
        step = given
      }
      guard low <= high else {
        throw Failure(
          description: "beginning of range (\(low)) beyond end of range (\(high)): \(part)")
      }
      for value in stride(from: low, through: high, by: step) { bits |= 1 << UInt64(value) }
    }
    return bits
  }

  /// `1h30m`, `90s`.
  private static func seconds(_ text: String) -> Int64? {
    var total: Int64 = 0
    var number: Int64?
    for character in text {
      if let digit = character.wholeNumberValue, character.isASCII {
        guard (number ?? 0) < 1_000_000_000 else { return nil }
        number = (number ?? 0) * 10 + Int64(digit)
        continue
      }
      guard let value = number else { return nil }
      switch character {
      case "h": total += value * 3600
      case "m": total += value * 60
      case "s": total += value
      default: return nil
      }
      number = nil
    }
    return number == nil && total > 0 ? total : nil
  }

  // MARK: Times

  /// The first time of the schedule after `time`; nil where there is none within five years.
  ///
  /// - Parameter offset: seconds east of Greenwich at a moment, in the schedule's zone.
  public func next(after time: Timestamp, offset: (Timestamp) -> Int64) -> Timestamp? {
    if let interval { return Timestamp(secondsSinceEpoch: time.secondsSinceEpoch + interval) }
    let begin = time.secondsSinceEpoch
    // Whole minutes of local time from here on; each day that can't match is skipped at once.
    var moment = begin - Self.modulo(begin, 60) + 60
    let end = begin + 5 * 366 * 86_400
    while moment < end {
      let shift = offset(Timestamp(secondsSinceEpoch: moment))
      let local = moment + shift
      let day = Self.floor(local, 86_400)
      if !matchesDay(day) {
        moment = (day + 1) * 86_400 - shift
        continue
      }
      let second = Self.modulo(local, 86_400)
      if hours & 1 << UInt64(second / 3600) == 0 {
        moment += 3600 - Self.modulo(second, 3600)
        continue
      }
      if minutes & 1 << UInt64(second % 3600 / 60) != 0 {
        return Timestamp(secondsSinceEpoch: moment)
      }
      moment += 60
    }
    return nil
  }

  private func matchesDay(_ day: Int64) -> Bool {
    let date = Timestamp.civil(daysSinceEpoch: day)
    guard months & 1 << UInt64(date.month) != 0 else { return false }
    let isDay = days & 1 << UInt64(date.day) != 0
    // The first of January 1970 was a Thursday.
    let isWeekday = weekdays & 1 << UInt64(Self.modulo(day + 4, 7)) != 0
    return anyDay || anyWeekday ? isDay && isWeekday : isDay || isWeekday
  }

  private static func modulo(_ a: Int64, _ b: Int64) -> Int64 { (a % b + b) % b }
  private static func floor(_ a: Int64, _ b: Int64) -> Int64 { (a - modulo(a, b)) / b }
}

extension String {
  fileprivate var trimmed: String {
    var text = self[...]
    while text.first == " " { text.removeFirst() }
    while text.last == " " { text.removeLast() }
    return String(text)
  }
}
