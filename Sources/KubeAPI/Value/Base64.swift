/// Base64 with the standard alphabet and padding, as `bytes` fields (a Secret's data) hold it.
public enum Base64 {
  private static let alphabet = Array(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  private static func value(of byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): byte - 65
    case UInt8(ascii: "a")...UInt8(ascii: "z"): byte - 71
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte + 4
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    default: nil
    }
  }

  /// The bytes that `text` stands for, or nil if it is not base64. Line ends are skipped.
  public static func decode(_ text: String) -> [UInt8]? {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.utf8.count / 4 * 3)
    return scan(text, into: &bytes) == nil ? bytes : nil
  }

  /// Where `text` stops being base64, counted in bytes; nil if all of it is.
  static func firstInvalidByte(of text: String) -> Int? {
    var ignored: [UInt8] = []
    return scan(text, into: &ignored)
  }

  private static func scan(_ text: String, into bytes: inout [UInt8]) -> Int? {
    var group: UInt32 = 0
    var count = 0
    var padding = 0
    for (offset, byte) in text.utf8.enumerated() {
      if byte == 0x0a || byte == 0x0d { continue }
      if byte == UInt8(ascii: "=") {
        padding += 1
        if count + padding > 4 || count < 2 { return offset }
        continue
      }
      guard padding == 0, let bits = value(of: byte) else { return offset }
      group = group << 6 | UInt32(bits)
      count += 1
      if count == 4 {
        bytes.append(UInt8(truncatingIfNeeded: group >> 16))
        bytes.append(UInt8(truncatingIfNeeded: group >> 8))
        bytes.append(UInt8(truncatingIfNeeded: group))
        group = 0
        count = 0
      }
    }
    if count == 0 { return padding == 0 ? nil : text.utf8.count }
    guard count + padding == 4 else { return text.utf8.count }
    bytes.append(UInt8(truncatingIfNeeded: group >> (count == 2 ? 4 : 10)))
    if count == 3 { bytes.append(UInt8(truncatingIfNeeded: group >> 2)) }
    return nil
  }

  public static func encode(_ bytes: some Sequence<UInt8>) -> String {
    var text: [UInt8] = []
    var group: UInt32 = 0
    var count = 0
    func emit(_ shift: UInt32) { text.append(alphabet[Int(group >> shift & 63)]) }
    for byte in bytes {
      group = group << 8 | UInt32(byte)
      count += 1
      if count == 3 {
        for shift in [18, 12, 6, 0] as [UInt32] { emit(shift) }
        group = 0
        count = 0
      }
    }
    if count == 1 {
      group <<= 16
      emit(18)
      emit(12)
      text.append(contentsOf: "==".utf8)
    } else if count == 2 {
      group <<= 8
      emit(18)
      emit(12)
      emit(6)
      text.append(UInt8(ascii: "="))
    }
    return String(decoding: text, as: UTF8.self)
  }
}
