import Foundation

// How Go writes and reads values as text: etcdctl's output and transactions are in that form, and scripts parse it.

/// Text as Go's `fmt` package has it.
enum GoText {
  /// `%q`: in double quotes, what isn't printable escaped. Bytes that are no UTF-8 are `\xNN`.
  static func quoted(_ bytes: some Sequence<UInt8>) -> String {
    let bytes = Array(bytes)
    var text = "\""
    var decoder = UTF8()
    var position = 0
    while position < bytes.count {
      var iterator = bytes[position...].makeIterator()
      decoder = UTF8()
      switch decoder.decode(&iterator) {
      case .scalarValue(let scalar):
        append(scalar, to: &text)
        position += UTF8.width(scalar)
      case .emptyInput, .error:
        text += "\\x" + hexadecimal(UInt64(bytes[position]), digits: 2)
        position += 1
      }
    }
    return text + "\""
  }

  static func quoted(_ text: String) -> String { quoted(text.utf8) }

  private static func append(_ scalar: Unicode.Scalar, to text: inout String) {
    switch scalar {
    case "\"": text += "\\\""
    case "\\": text += "\\\\"
    case "\u{07}": text += "\\a"
    case "\u{08}": text += "\\b"
    case "\u{0C}": text += "\\f"
    case "\n": text += "\\n"
    case "\r": text += "\\r"
    case "\t": text += "\\t"
    case "\u{0B}": text += "\\v"
    default:
      if isPrintable(scalar) {
        text.unicodeScalars.append(scalar)
      } else if scalar.value < 0x80 {
        text += "\\x" + hexadecimal(UInt64(scalar.value), digits: 2)
      } else if scalar.value < 0x10000 {
        text += "\\u" + hexadecimal(UInt64(scalar.value), digits: 4)
      } else {
        text += "\\U" + hexadecimal(UInt64(scalar.value), digits: 8)
      }
    }
  }

  /// Letters, marks, numbers, punctuation, symbols and the ASCII space.
  private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
    if scalar == " " { return true }
    switch scalar.properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .spaceSeparator, .lineSeparator,
      .paragraphSeparator:
      return false
    default: return true
    }
  }

  /// Reads a Go string literal in double quotes from the start of `text`, and takes it away; nil if none is there.
  static func takeQuoted(_ text: inout Substring) -> [UInt8]? {
    guard text.first == "\"" else { return nil }
    var rest = text.dropFirst()
    var bytes: [UInt8] = []
    while let character = rest.first {
      rest = rest.dropFirst()
      if character == "\"" {
        text = rest
        return bytes
      }
      guard character == "\\" else {
        bytes += Array(String(character).utf8)
        continue
      }
      guard let escape = rest.first else { return nil }
      rest = rest.dropFirst()
      switch escape {
      case "a": bytes.append(7)
      case "b": bytes.append(8)
      case "f": bytes.append(12)
      case "n": bytes.append(10)
      case "r": bytes.append(13)
      case "t": bytes.append(9)
      case "v": bytes.append(11)
      case "\\", "\"": bytes += Array(String(escape).utf8)
      case "x":
        guard let byte = takeDigits(&rest, 2, radix: 16), let byte = UInt8(exactly: byte) else {
          return nil
        }
        bytes.append(byte)
      case "u", "U":
        guard let value = takeDigits(&rest, escape == "u" ? 4 : 8, radix: 16),
          let scalar = Unicode.Scalar(value)
        else { return nil }
        bytes += Array(String(Character(scalar)).utf8)
      case "0"..."7":
        guard let low = takeDigits(&rest, 2, radix: 8), let high = UInt32(String(escape)),
          let byte = UInt8(exactly: high * 64 + low)
        else { return nil }
        bytes.append(byte)
      default: return nil
      }
    }
    return nil
  }

  private static func takeDigits(_ text: inout Substring, _ count: Int, radix: Int) -> UInt32? {
    let digits = text.prefix(count)
    guard digits.count == count, digits.allSatisfy(\.isHexDigit) else { return nil }
    text = text.dropFirst(count)
    return UInt32(digits, radix: radix)
  }

  static func hexadecimal(_ value: UInt64, digits: Int = 0) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
  }

  /// A lease's id, as `%016x` writes a signed number.
  static func lease(_ id: Int64) -> String {
    id < 0
      ? "-" + hexadecimal(id.magnitude, digits: 15) : hexadecimal(UInt64(id), digits: 16)
  }

  /// A member's id, as `%16x` writes it.
  static func member(_ id: UInt64) -> String {
    let text = hexadecimal(id)
    return String(repeating: " ", count: max(0, 16 - text.count)) + text
  }

  /// A duration as Go writes it: `1.5s`, `12.345678ms`.
  static func duration(_ duration: Duration) -> String {
    let nanoseconds =
      duration.components.seconds * 1_000_000_000 + duration.components.attoseconds / 1_000_000_000
    if nanoseconds == 0 { return "0s" }
    func scaled(_ unit: Int64) -> String {
      let whole = nanoseconds / unit
      var fraction = String(nanoseconds % unit)
      fraction = String(repeating: "0", count: String(unit).count - 1 - fraction.count) + fraction
      while fraction.last == "0" { fraction.removeLast() }
      return fraction.isEmpty ? "\(whole)" : "\(whole).\(fraction)"
    }
    if nanoseconds < 1_000 { return "\(nanoseconds)ns" }
    if nanoseconds < 1_000_000 { return scaled(1_000) + "µs" }
    if nanoseconds < 1_000_000_000 { return scaled(1_000_000) + "ms" }
    let minutes = nanoseconds / 60_000_000_000
    if minutes == 0 { return scaled(1_000_000_000) + "s" }
    let rest = duration - .seconds(minutes * 60)
    let seconds =
      rest == .zero
      ? "0s" : (rest < .seconds(1) ? "0" + Self.fractionOfSecond(rest) : Self.duration(rest))
    return (minutes >= 60 ? "\(minutes / 60)h\(minutes % 60)m" : "\(minutes)m") + seconds
  }

  private static func fractionOfSecond(_ duration: Duration) -> String {
    var fraction = String(duration.components.attoseconds / 1_000_000_000)
    fraction = String(repeating: "0", count: 9 - fraction.count) + fraction
    while fraction.last == "0" { fraction.removeLast() }
    return "." + fraction + "s"
  }

  /// A size in powers of a thousand, with two digits below ten: `25 kB`, `1.2 MB`.
  static func size(_ bytes: UInt64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
    if bytes < 10 { return "\(bytes) B" }
    let exponent = min(Int(log(Double(bytes)) / log(1000)), units.count - 1)
    let value = (Double(bytes) / pow(1000, Double(exponent)) * 10 + 0.5).rounded(.down) / 10
    return String(format: value < 10 ? "%.1f %@" : "%.0f %@", value, units[exponent])
  }

  /// Splits a line into words as a shell would, more or less: blanks part them, quotes keep them.
  static func words(_ line: String) throws -> [String] {
    var words: [String] = []
    var rest = line[...]
    while let first = rest.first {
      if first.isWhitespace {
        rest = rest.dropFirst()
      } else if first == "'" {
        let word = rest.dropFirst().prefix { $0 != "'" }
        words.append(String(word))
        rest = rest.dropFirst(word.count + 2)
      } else if first == "\"" {
        guard let word = takeQuoted(&rest) else {
          throw CtlFailure(.invalidInput, "invalid syntax in \(line)")
        }
        words.append(String(decoding: word, as: UTF8.self))
      } else {
        let word = rest.prefix { !$0.isWhitespace }
        words.append(String(word))
        rest = rest.dropFirst(word.count)
      }
    }
    return words
  }
}
