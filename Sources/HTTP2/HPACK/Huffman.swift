/// HPACK's fixed Huffman code. Source: RFC 7541, section 5.2 and appendix B.
///
/// The code is canonical: within one length, codes rise with the symbol, and each length starts where
/// the one before it ended, shifted by a bit. So the lengths of appendix B say everything, and decoding
/// needs, for each length, the first code and the first symbol of that length. Codes of up to 8 bits,
/// nearly all that occur, are found in one look at a table of 256.
enum Huffman {
  /// The length in bits of each byte's code.
  private static let lengths: [UInt8] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  ]
  /// The length of the code that means "end of string", all ones; it must not occur.
  private static let endLength = 30

  struct Tables: Sendable {
    /// Each byte's code, in the low bits.
    var codes = [UInt32](repeating: 0, count: 256)
    var lengths: [UInt8] = []
    /// For the next 8 bits: symbol in the low byte, its code's length in the high one; 0 where longer.
    var short = [UInt16](repeating: 0, count: 256)
    /// For each length: one past its last code, shifted to the top of 32 bits, so that a window is
    /// compared directly.
    var limits = [UInt64](repeating: 0, count: 33)
    /// For each length: the first code, and where its symbols start in `symbols`.
    var firstCodes = [UInt32](repeating: 0, count: 33)
    var firstSymbols = [Int](repeating: 0, count: 33)
    /// Symbols ordered by length, then value.
    var symbols: [UInt8] = []

    init(lengths: [UInt8], endLength: Int) {
      self.lengths = lengths
      var code: UInt32 = 0
      for length in 1...endLength {
        code <<= 1
        firstCodes[length] = code
        firstSymbols[length] = symbols.count
        for symbol in 0..<256 where Int(lengths[symbol]) == length {
          codes[symbol] = code
          symbols.append(UInt8(symbol))
          if length <= 8 {
            let start = Int(code) << (8 - length)
            for entry in start..<(start + 1 << (8 - length)) {
              short[entry] = UInt16(length) << 8 | UInt16(symbol)
            }
          }
          code += 1
        }
        limits[length] = UInt64(code) << UInt64(32 - length)
      }
    }
  }
  static let tables = Tables(lengths: lengths, endLength: endLength)

  /// Bytes that `count` coded bytes can become at most: the shortest code has 5 bits.
  static func maximumDecodedSize(_ count: Int) -> Int { count * 8 / 5 + 1 }

  /// Decodes into `target`, which has room for `maximumDecodedSize`; nil if the code is broken: it
  /// holds the end symbol, or its padding isn't fewer than 8 one bits.
  static func decode(
    _ coded: UnsafeRawBufferPointer, into target: UnsafeMutableRawPointer
  ) -> Int? {
    let tables = Self.tables
    var written = 0
    var window: UInt64 = 0  // The low `available` bits are still to be decoded.
    var available = 0
    var next = 0
    return tables.short.withUnsafeBufferPointer { short in
      while true {
        while available <= 32, next < coded.count {
          window = window << 8 | UInt64(coded[next])
          next &+= 1
          available &+= 8
        }
        if available == 0 { return written }
        // The next 32 bits, filled up with ones as padding is.
        var bits: UInt64
        if available >= 32 {
          bits = (window >> UInt64(available &- 32)) & 0xFFFF_FFFF
        } else {
          let missing = UInt64(32 &- available)
          bits = ((window << missing) | ((1 << missing) &- 1)) & 0xFFFF_FFFF
        }
        let entry = short[Int(bits >> 24)]
        var length = Int(entry >> 8)
        var symbol = UInt8(truncatingIfNeeded: entry)
        if length == 0 {
          length = 9
          while length <= Self.endLength, bits >= tables.limits[length] { length &+= 1 }
          guard length <= Self.endLength else {
            // Only ones are left: padding if fewer than 8 bits, else the end symbol.
            return next == coded.count && available < 8 ? written : nil
          }
          let offset = Int(bits >> UInt64(32 &- length)) &- Int(tables.firstCodes[length])
          symbol = tables.symbols[tables.firstSymbols[length] &+ offset]
        }
        if length > available {
          // A code that needs bits beyond the end: they must have been padding alone.
          let padding = (UInt64(1) << UInt64(available)) &- 1
          return available < 8 && window & padding == padding ? written : nil
        }
        target.storeBytes(of: symbol, toByteOffset: written, as: UInt8.self)
        written &+= 1
        available &-= length
      }
    }
  }

  /// The size in bytes of `bytes` once coded.
  static func encodedSize(_ bytes: [UInt8]) -> Int {
    let lengths = Self.tables.lengths
    var bits = 0
    for byte in bytes { bits += Int(lengths[Int(byte)]) }
    return (bits + 7) / 8
  }

  static func encode(_ bytes: [UInt8], into sink: ByteSink) {
    let tables = Self.tables
    var window: UInt64 = 0
    var pending = 0
    for byte in bytes {
      let length = Int(tables.lengths[Int(byte)])
      window = window << UInt64(length) | UInt64(tables.codes[Int(byte)])
      pending += length
      while pending >= 8 {
        pending -= 8
        sink.append(UInt8(truncatingIfNeeded: window >> UInt64(pending)))
      }
    }
    if pending > 0 {
      let padding = UInt64(8 - pending)
      sink.append(UInt8(truncatingIfNeeded: window << padding | ((1 << padding) - 1)))
    }
  }
}
