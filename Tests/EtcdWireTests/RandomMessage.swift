import Primitives

/// Random encodings of a schema's messages: fields in any order and number, defaults spelled out,
/// numbers of all sizes and signs, unknown fields in between. All of them valid protobuf.
struct RandomMessage {
  var random: RandomSource

  mutating func encoding(of schema: Schema) -> [UInt8] {
    var output: [UInt8] = []
    for _ in 0..<random.below(UInt64(schema.fields.count + 3)) {
      guard !schema.fields.isEmpty, !random.oneIn(12) else {
        appendUnknownField(to: &output, above: 100)
        continue
      }
      let field = schema.fields[Int(random.below(UInt64(schema.fields.count)))]
      append(field.number, field.kind, to: &output)
    }
    return output
  }

  private mutating func append(_ number: UInt64, _ kind: FieldKind, to output: inout [UInt8]) {
    switch kind {
    case .integer:
      output.append(varint: number << 3)
      output.append(varint: integer())
    case .bool:
      output.append(varint: number << 3)
      output.append(varint: random.oneIn(10) ? integer() : random.below(2))
    case .enumeration(let count):
      output.append(varint: number << 3)
      output.append(varint: random.oneIn(10) ? integer() : random.below(UInt64(count)))
    case .bytes:
      output.append(varint: number << 3 | 2)
      appendLengthPrefixed(bytes(), to: &output)
    case .text:
      output.append(varint: number << 3 | 2)
      appendLengthPrefixed(bytes().map { $0 & 0x7F }, to: &output)
    case .message(let schema):
      let content = encoding(of: schema)
      output.append(varint: number << 3 | 2)
      appendLengthPrefixed(content, to: &output)
    case .packed(let count):
      if random.oneIn(2) {
        append(number, .enumeration(count), to: &output)
      } else {
        var content: [UInt8] = []
        for _ in 0..<random.below(4) {
          content.append(varint: random.oneIn(8) ? integer() : random.below(UInt64(count)))
        }
        output.append(varint: number << 3 | 2)
        appendLengthPrefixed(content, to: &output)
      }
    }
  }

  private mutating func appendUnknownField(to output: inout [UInt8], above least: UInt64) {
    // Mostly small numbers, sometimes the largest there are.
    let number = random.oneIn(4) ? (1 << 29) - 1 - random.below(100) : least + random.below(500)
    switch random.below(4) {
    case 0:
      output.append(varint: number << 3)
      output.append(varint: integer())
    case 1:
      output.append(varint: number << 3 | 1)
      output.append(littleEndian: random.next())
    case 2:
      output.append(varint: number << 3 | 2)
      appendLengthPrefixed(bytes(), to: &output)
    default:
      output.append(varint: number << 3 | 5)
      output.append(littleEndian: UInt32(truncatingIfNeeded: random.next()))
    }
  }

  private mutating func integer() -> UInt64 {
    switch random.below(5) {
    case 0: random.below(3)
    case 1: random.below(300)
    case 2: UInt64(bitPattern: -Int64(random.below(1000)))
    case 3: random.next() >> random.below(64)
    default: random.next()
    }
  }

  private mutating func bytes() -> [UInt8] {
    let length = random.oneIn(8) ? 120 + random.below(300) : random.below(9)
    return (0..<length).map { _ in UInt8(truncatingIfNeeded: random.next()) }
  }

  private func appendLengthPrefixed(_ content: [UInt8], to output: inout [UInt8]) {
    content.withUnsafeBytes { output.append(lengthPrefixed: $0) }
  }

  /// Damages an encoding: flips, inserts, deletes, cuts, repeats.
  mutating func mutated(_ bytes: [UInt8]) -> [UInt8] {
    var result = bytes
    for _ in 0...random.below(3) {
      let position = Int(random.below(UInt64(result.count + 1)))
      let byte = UInt8(truncatingIfNeeded: random.next())
      switch random.below(6) {
      case 0 where position < result.count: result[position] ^= 1 << (byte & 7)
      case 1 where position < result.count: result[position] = byte
      case 2 where position < result.count: result.remove(at: position)
      case 3: result.insert(byte, at: position)
      case 4: result.removeSubrange(position...)
      default:
        let end = min(result.count, position + Int(random.below(8)))
        result.insert(contentsOf: result[position..<end], at: position)
      }
    }
    return result
  }
}
