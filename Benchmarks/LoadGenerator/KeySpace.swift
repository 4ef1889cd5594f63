/// The keys that a run touches: numbers written into keys of one size.
///
/// A key is a filler followed by the number in hexadecimal, so that numeric and key order agree and a
/// request is made by writing a few digits into a template.
struct KeySpace: Sendable {
  /// Bytes of a key.
  let keySize: Int
  /// Digits of the number, at the key's end.
  let digits: Int

  static let filler = Array("bench/".utf8)
  static let maximumDigits = 12

  init(keySize: Int) {
    self.keySize = keySize
    digits = min(Self.maximumDigits, keySize)
  }

  /// How many different keys there are.
  var capacity: UInt64 { digits >= 16 ? .max : 1 << UInt64(4 * digits) }

  /// The key with number zero.
  var template: [UInt8] {
    let fillerSize = keySize - digits
    let filler = (0..<fillerSize).map { Self.filler[$0 % Self.filler.count] }
    return filler + [UInt8](repeating: UInt8(ascii: "0"), count: digits)
  }

  /// Writes `number` into the key that begins at `offset` of `bytes`.
  func write(_ number: UInt64, into bytes: inout [UInt8], at offset: Int) {
    var rest = number
    var position = offset + keySize
    for _ in 0..<digits {
      position -= 1
      let digit = UInt8(truncatingIfNeeded: rest & 0xF)
      bytes[position] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") - 10 + digit
      rest >>= 4
    }
  }

  /// The key of `number`.
  func key(_ number: UInt64) -> [UInt8] {
    var key = template
    write(number, into: &key, at: 0)
    return key
  }
}
