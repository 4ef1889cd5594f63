/// Cuts a body that holds several JSON values into its values.
package enum JSONValues {
  /// The values, unchecked but for their brackets and strings: whether each is valid, its decoder says.
  ///
  /// - Returns: nil where the last value isn't complete, or something other than objects is there.
  package static func split(_ body: [UInt8]) -> [Range<Int>]? {
    var values: [Range<Int>] = []
    var depth = 0
    var start = 0
    var isInString = false
    var isEscaped = false
    for (offset, byte) in body.enumerated() {
      if isInString {
        if isEscaped {
          isEscaped = false
        } else if byte == UInt8(ascii: "\\") {
          isEscaped = true
        } else if byte == UInt8(ascii: "\"") {
          isInString = false
        }
        continue
      }
      switch byte {
      case UInt8(ascii: "{"), UInt8(ascii: "["):
        if depth == 0 { start = offset }
        depth += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        depth -= 1
        if depth < 0 { return nil }
        if depth == 0 { values.append(start..<(offset + 1)) }
      case UInt8(ascii: "\""):
        if depth == 0 { return nil }
        isInString = true
      case 0x20, 0x09, 0x0A, 0x0D: break
      default: if depth == 0 { return nil }
      }
    }
    return depth == 0 ? values : nil
  }
}
