/// Why bytes are not JSON.
public struct JSONError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What is wrong, in the words that a Go client knows.
  public let message: String
  /// The byte at which it was found.
  public let offset: Int

  public var description: String { message }
}

extension Value {
  /// What parsing found besides the value.
  public struct Parsed: Sendable {
    public let value: Value
    /// The paths of keys that came more than once in their object, as strict field validation
    /// reports them (`spec.containers[0].image`), at most `Limits.strictErrors`. The last value won.
    public let duplicates: [String]

    public init(value: Value, duplicates: [String]) {
      self.value = value
      self.duplicates = duplicates
    }
  }

  /// Parses one JSON text, with nothing but white space around it.
  ///
  /// Takes O(n) time. Fails on malformed or truncated text, on text that isn't UTF-8 and on nesting
  /// deeper than `Limits.nestingDepth`.
  public init(json bytes: UnsafeRawBufferPointer) throws(JSONError) {
    var parser = JSONParser(bytes)
    self = try parser.parse()
  }

  public init(json bytes: [UInt8]) throws(JSONError) {
    self = try Value.parse(bytes).value
  }

  public init(json text: String) throws(JSONError) {
    self = try Value.parse(Array(text.utf8)).value
  }

  /// Parses as `init(json:)` and reports duplicate keys.
  public static func parse(_ bytes: [UInt8]) throws(JSONError) -> Parsed {
    let result = bytes.withUnsafeBytes { bytes in
      Result { () throws(JSONError) in try parse(bytes) }
    }
    return try result.get()
  }

  public static func parse(_ bytes: UnsafeRawBufferPointer) throws(JSONError) -> Parsed {
    var parser = JSONParser(bytes)
    let value = try parser.parse()
    guard parser.sawDuplicate else { return Parsed(value: value, duplicates: []) }
    // Rare: only now is it worth keeping the path.
    var second = JSONParser(bytes, tracksPath: true)
    _ = try second.parse()
    return Parsed(value: value, duplicates: second.duplicates)
  }
}

/// A recursive-descent parser over borrowed bytes.
///
/// Members and elements of what is still open lie on two stacks that all nesting shares. An object or array is
/// made when it ends and its size is known: one allocation, and none too large.
struct JSONParser {
  private let bytes: UnsafeRawBufferPointer
  private var position = 0
  private var depth = 0
  private let tracksPath: Bool
  private var path: [PathStep] = []
  private var members: [Value.Object.Member] = []
  private var elements: [Value] = []
  private(set) var sawDuplicate = false
  private(set) var duplicates: [String] = []

  private enum PathStep {
    case key(String)
    case index(Int)
  }

  init(_ bytes: UnsafeRawBufferPointer, tracksPath: Bool = false) {
    self.bytes = bytes
    self.tracksPath = tracksPath
  }

  mutating func parse() throws(JSONError) -> Value {
    skipSpace()
    let value = try parseValue()
    skipSpace()
    if position < bytes.count { throw unexpected("after top-level value") }
    return value
  }

  // MARK: Values

  private mutating func parseValue() throws(JSONError) -> Value {
    guard position < bytes.count else { throw truncated() }
    switch bytes[position] {
    case UInt8(ascii: "{"): return .object(try parseObject())
    case UInt8(ascii: "["): return .array(try parseArray())
    case UInt8(ascii: "\""): return .string(try parseString())
    case UInt8(ascii: "t"):
      try expect("true")
      return .bool(true)
    case UInt8(ascii: "f"):
      try expect("false")
      return .bool(false)
    case UInt8(ascii: "n"):
      try expect("null")
      return .null
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try parseNumber()
    default: throw unexpected("looking for beginning of value")
    }
  }

  private mutating func enter() throws(JSONError) {
    depth += 1
    if depth > Value.Limits.nestingDepth {
      throw JSONError(message: "exceeded max depth", offset: position)
    }
  }

  private mutating func parseObject() throws(JSONError) -> Value.Object {
    try enter()
    defer { depth -= 1 }
    position += 1
    skipSpace()
    if peek() == UInt8(ascii: "}") {
      position += 1
      return Value.Object()
    }
    let base = members.count
    // Where each key is, once there are many.
    var index: [String: Int] = [:]
    while true {
      skipSpace()
      guard position < bytes.count else { throw truncated() }
      guard bytes[position] == UInt8(ascii: "\"") else {
        throw unexpected("looking for beginning of object key string")
      }
      let key = try parseString()
      skipSpace()
      guard position < bytes.count else { throw truncated() }
      guard bytes[position] == UInt8(ascii: ":") else { throw unexpected("after object key") }
      position += 1
      skipSpace()
      if tracksPath { path.append(.key(key)) }
      let known = find(key, from: base, &index)
      if known != nil { noteDuplicate() }
      let value = try parseValue()
      if tracksPath { path.removeLast() }
      if let known {
        members[known].value = value
      } else {
        members.append(Value.Object.Member(key: key, value: value))
      }
      skipSpace()
      guard position < bytes.count else { throw truncated() }
      switch bytes[position] {
      case UInt8(ascii: ","): position += 1
      case UInt8(ascii: "}"):
        position += 1
        let object = Value.Object(unique: members[base...])
        members.removeSubrange(base...)
        return object
      default: throw unexpected("after object key:value pair")
      }
    }
  }

  /// Where on the stack the open object's member `key` is.
  private func find(_ key: String, from base: Int, _ index: inout [String: Int]) -> Int? {
    guard members.count - base > Value.Limits.linearSearch else {
      for place in base..<members.count where members[place].key == key { return place }
      return nil
    }
    // Keys were added since the last look.
    for place in (base + index.count)..<members.count { index[members[place].key] = place }
    return index[key]
  }

  private mutating func parseArray() throws(JSONError) -> [Value] {
    try enter()
    defer { depth -= 1 }
    position += 1
    skipSpace()
    if peek() == UInt8(ascii: "]") {
      position += 1
      return []
    }
    let base = elements.count
    while true {
      skipSpace()
      if tracksPath { path.append(.index(elements.count - base)) }
      let element = try parseValue()
      elements.append(element)
      if tracksPath { path.removeLast() }
      skipSpace()
      guard position < bytes.count else { throw truncated() }
      switch bytes[position] {
      case UInt8(ascii: ","): position += 1
      case UInt8(ascii: "]"):
        position += 1
        let array = Array(elements[base...])
        elements.removeSubrange(base...)
        return array
      default: throw unexpected("after array element")
      }
    }
  }

  // MARK: Numbers

  private mutating func parseNumber() throws(JSONError) -> Value {
    let start = position
    var isInteger = true
    var magnitude: UInt64 = 0
    var fits = true
    let isNegative = bytes[position] == UInt8(ascii: "-")
    if isNegative { position += 1 }
    guard let first = peek() else { throw truncated() }
    if first == UInt8(ascii: "0") {
      position += 1
    } else {
      guard isDigit(first) else { throw unexpected("in numeric literal") }
      while let byte = peek(), isDigit(byte) {
        let (product, overflow) = magnitude.multipliedReportingOverflow(by: 10)
        let (sum, carry) = product.addingReportingOverflow(UInt64(byte & 0x0f))
        if overflow || carry { fits = false }
        magnitude = sum
        position += 1
      }
    }
    if peek() == UInt8(ascii: ".") {
      isInteger = false
      position += 1
      try parseDigits("after decimal point in numeric literal")
    }
    if let byte = peek(), byte | 0x20 == UInt8(ascii: "e") {
      isInteger = false
      position += 1
      if let sign = peek(), sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") { position += 1 }
      try parseDigits("in exponent of numeric literal")
    }
    if isInteger && fits {
      if !isNegative, let value = Int64(exactly: magnitude) { return .integer(value) }
      if isNegative, magnitude <= UInt64(Int64.max) + 1 {
        return .integer(Int64(truncatingIfNeeded: 0 &- magnitude))
      }
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    guard let value = Double(text), value.isFinite else {
      throw JSONError(message: "number \(text) out of range", offset: start)
    }
    return .double(value)
  }

  private mutating func parseDigits(_ context: String) throws(JSONError) {
    guard let first = peek() else { throw truncated() }
    guard isDigit(first) else { throw unexpected(context) }
    while let byte = peek(), isDigit(byte) { position += 1 }
  }

  private func isDigit(_ byte: UInt8) -> Bool {
    byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
  }

  // MARK: Strings

  private mutating func parseString() throws(JSONError) -> String {
    let start = position + 1
    var end = start
    var isASCII = true
    while end < bytes.count {
      let byte = bytes[end]
      if byte == UInt8(ascii: "\"") {
        position = end + 1
        let text = UnsafeRawBufferPointer(rebasing: bytes[start..<end])
        // Plain text needs no check, and decoding is several times faster than validating.
        return isASCII
          ? String(decoding: text, as: UTF8.self) : try validated(text, at: start)
      }
      if byte == UInt8(ascii: "\\") { return try parseEscaped(start, end) }
      if byte < 0x20 {
        position = end
        throw unexpected("in string literal")
      }
      if byte >= 0x80 { isASCII = false }
      end += 1
    }
    throw truncated()
  }

  private func validated(
    _ text: UnsafeRawBufferPointer, at offset: Int
  ) throws(JSONError) -> String {
    guard let string = String(validating: text, as: UTF8.self) else {
      throw JSONError(message: "invalid UTF-8 in string literal", offset: offset)
    }
    return string
  }

  /// The slow way, from the first backslash on.
  private mutating func parseEscaped(_ start: Int, _ firstEscape: Int) throws(JSONError) -> String {
    var text = Array(bytes[start..<firstEscape])
    position = firstEscape
    while true {
      guard position < bytes.count else { throw truncated() }
      let byte = bytes[position]
      switch byte {
      case UInt8(ascii: "\""):
        position += 1
        guard let string = String(validating: text, as: UTF8.self) else {
          throw JSONError(message: "invalid UTF-8 in string literal", offset: start)
        }
        return string
      case UInt8(ascii: "\\"):
        position += 1
        try parseEscape(into: &text)
      case 0..<0x20: throw unexpected("in string literal")
      default:
        text.append(byte)
        position += 1
      }
    }
  }

  private mutating func parseEscape(into text: inout [UInt8]) throws(JSONError) {
    guard let byte = peek() else { throw truncated() }
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
    case UInt8(ascii: "b"): text.append(0x08)
    case UInt8(ascii: "f"): text.append(0x0c)
    case UInt8(ascii: "n"): text.append(0x0a)
    case UInt8(ascii: "r"): text.append(0x0d)
    case UInt8(ascii: "t"): text.append(0x09)
    case UInt8(ascii: "u"):
      position += 1
      let unit = try parseHex()
      var scalar = Unicode.Scalar(UInt32(unit))
      if UTF16.isLeadSurrogate(unit) {
        // A pair makes one scalar; a surrogate alone makes U+FFFD, as in Go.
        let after = position
        if peek() == UInt8(ascii: "\\"), position + 1 < bytes.count,
          bytes[position + 1] == UInt8(ascii: "u")
        {
          position += 2
          let low = try parseHex()
          if UTF16.isTrailSurrogate(low) {
            scalar = Unicode.Scalar(
              0x1_0000 + (UInt32(unit) & 0x3ff) << 10 + UInt32(low) & 0x3ff)
          } else {
            position = after
          }
        }
      }
      text.append(contentsOf: UTF8.encode(scalar ?? "\u{FFFD}")!)
      return
    default: throw unexpected("in string escape code")
    }
    position += 1
  }

  private mutating func parseHex() throws(JSONError) -> UInt16 {
    var value: UInt16 = 0
    for _ in 0..<4 {
      guard let byte = peek() else { throw truncated() }
      let digit: UInt16
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = UInt16(byte) - 0x30
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = UInt16(byte) - 0x57
      case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = UInt16(byte) - 0x37
      default: throw unexpected("in \\u hexadecimal character escape")
      }
      value = value << 4 | digit
      position += 1
    }
    return value
  }

  // MARK: Bytes

  private func peek() -> UInt8? {
    position < bytes.count ? bytes[position] : nil
  }

  private mutating func skipSpace() {
    while position < bytes.count {
      switch bytes[position] {
      case 0x20, 0x09, 0x0a, 0x0d: position += 1
      default: return
      }
    }
  }

  private mutating func expect(_ literal: StaticString) throws(JSONError) {
    for index in 0..<literal.utf8CodeUnitCount {
      guard position < bytes.count else { throw truncated() }
      guard bytes[position] == literal.utf8Start[index] else {
        let expected = Character(Unicode.Scalar(literal.utf8Start[index]))
        throw unexpected("in literal \(literal) (expecting '\(expected)')")
      }
      position += 1
    }
  }

  private func truncated() -> JSONError {
    JSONError(message: "unexpected end of JSON input", offset: bytes.count)
  }

  private func unexpected(_ context: String) -> JSONError {
    let byte = bytes[position]
    let shown: String
    switch byte {
    case UInt8(ascii: "'"): shown = #"'\''"#
    case UInt8(ascii: "\""): shown = #"'"'"#
    case 0x0a: shown = #"'\n'"#
    case 0x0d: shown = #"'\r'"#
    case 0x09: shown = #"'\t'"#
    case 0x20..<0x7f: shown = "'\(Character(Unicode.Scalar(byte)))'"
    default:
      let hex = String(byte, radix: 16)
      shown = "'\\x\(hex.count < 2 ? "0" : "")\(hex)'"
    }
    return JSONError(message: "invalid character \(shown) \(context)", offset: position)
  }

  private mutating func noteDuplicate() {
    sawDuplicate = true
    guard tracksPath, duplicates.count < Value.Limits.strictErrors else { return }
    var text = ""
    for step in path {
      switch step {
      case .key(let key): text += text.isEmpty ? key : ".\(key)"
      case .index(let index): text += "[\(index)]"
      }
    }
    if !duplicates.contains(text) { duplicates.append(text) }
  }
}
