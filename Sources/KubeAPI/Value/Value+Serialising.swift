extension Value {
  /// Compact JSON, in the order of the keys.
  public var json: [UInt8] {
    var bytes: [UInt8] = []
    encode(into: &bytes)
    return bytes
  }

  /// Compact JSON as text.
  public var jsonString: String { String(decoding: json, as: UTF8.self) }

  /// JSON over several lines, indented by two blanks a level (kubectl's own is four).
  public func indentedJSON(by indent: Int = 2) -> String {
    var bytes: [UInt8] = []
    encodeIndented(into: &bytes, indent: indent, level: 0)
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Appends compact JSON to `bytes`.
  public func encode(into bytes: inout [UInt8]) {
    switch self {
    case .null: bytes.append(contentsOf: "null".utf8)
    case .bool(let value): bytes.append(contentsOf: (value ? "true" : "false").utf8)
    case .integer(let value): Value.encode(integer: value, into: &bytes)
    case .double(let value): bytes.append(contentsOf: Value.text(of: value).utf8)
    case .string(let value): Value.encode(string: value, into: &bytes)
    case .array(let elements):
      bytes.append(UInt8(ascii: "["))
      var isFirst = true
      for element in elements {
        if !isFirst { bytes.append(UInt8(ascii: ",")) }
        isFirst = false
        element.encode(into: &bytes)
      }
      bytes.append(UInt8(ascii: "]"))
    case .object(let object):
      bytes.append(UInt8(ascii: "{"))
      var isFirst = true
      for member in object.members {
        if !isFirst { bytes.append(UInt8(ascii: ",")) }
        isFirst = false
        Value.encode(string: member.key, into: &bytes)
        bytes.append(UInt8(ascii: ":"))
        member.value.encode(into: &bytes)
      }
      bytes.append(UInt8(ascii: "}"))
    }
  }

  private func encodeIndented(into bytes: inout [UInt8], indent: Int, level: Int) {
    func newLine(_ level: Int) {
      bytes.append(UInt8(ascii: "\n"))
      bytes.append(contentsOf: repeatElement(UInt8(ascii: " "), count: indent * level))
    }
    switch self {
    case .array(let elements) where !elements.isEmpty:
      bytes.append(UInt8(ascii: "["))
      for (position, element) in elements.enumerated() {
        if position > 0 { bytes.append(UInt8(ascii: ",")) }
        newLine(level + 1)
        element.encodeIndented(into: &bytes, indent: indent, level: level + 1)
      }
      newLine(level)
      bytes.append(UInt8(ascii: "]"))
    case .object(let object) where !object.isEmpty:
      bytes.append(UInt8(ascii: "{"))
      for (position, member) in object.members.enumerated() {
        if position > 0 { bytes.append(UInt8(ascii: ",")) }
        newLine(level + 1)
        Value.encode(string: member.key, into: &bytes)
        bytes.append(contentsOf: ": ".utf8)
        member.value.encodeIndented(into: &bytes, indent: indent, level: level + 1)
      }
      newLine(level)
      bytes.append(UInt8(ascii: "}"))
    default: encode(into: &bytes)
    }
  }

  // MARK: Scalars

  static func encode(integer value: Int64, into bytes: inout [UInt8]) {
    if value < 0 { bytes.append(UInt8(ascii: "-")) }
    var magnitude = value.magnitude
    let start = bytes.count
    repeat {
      bytes.append(UInt8(ascii: "0") + UInt8(magnitude % 10))
      magnitude /= 10
    } while magnitude > 0
    bytes[start...].reverse()
  }

  /// Appends `string` as a JSON string. Only what JSON demands is escaped.
  public static func encode(string: String, into bytes: inout [UInt8]) {
    bytes.append(UInt8(ascii: "\""))
    let done: Void? = string.utf8.withContiguousStorageIfAvailable { units in
      var start = 0
      for position in units.indices where needsEscape(units[position]) {
        bytes.append(contentsOf: units[start..<position])
        escape(units[position], into: &bytes)
        start = position + 1
      }
      bytes.append(contentsOf: units[start...])
    }
    if done == nil {
      for unit in string.utf8 {
        if needsEscape(unit) { escape(unit, into: &bytes) } else { bytes.append(unit) }
      }
    }
    bytes.append(UInt8(ascii: "\""))
  }

  private static func needsEscape(_ unit: UInt8) -> Bool {
    unit < 0x20 || unit == UInt8(ascii: "\"") || unit == UInt8(ascii: "\\")
  }

  private static func escape(_ unit: UInt8, into bytes: inout [UInt8]) {
    bytes.append(UInt8(ascii: "\\"))
    switch unit {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes.append(unit)
    case 0x08: bytes.append(UInt8(ascii: "b"))
    case 0x0c: bytes.append(UInt8(ascii: "f"))
    case 0x0a: bytes.append(UInt8(ascii: "n"))
    case 0x0d: bytes.append(UInt8(ascii: "r"))
    case 0x09: bytes.append(UInt8(ascii: "t"))
    default:
      let digits = Array("0123456789abcdef".utf8)
      bytes.append(contentsOf: "u00".utf8)
      bytes.append(digits[Int(unit >> 4)])
      bytes.append(digits[Int(unit & 15)])
    }
  }

  /// The shortest text that reads back as `value`, plain between 1e-6 and 1e21 as Go writes it.
  /// An integral double keeps no fraction in Go (`1`); here it stays a double when read again (`1.0`
  /// is written), so that a round trip changes nothing.
  static func text(of value: Double) -> String {
    guard value.isFinite else { return "null" }
    return value.description
  }
}
