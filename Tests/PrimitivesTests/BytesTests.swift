import CChecksum
import Primitives
import Testing

@Suite struct CRC32CTests {
  @Test func knownAnswers() {
    // RFC 3720, appendix B.4.
    #expect(CRC32C.checksum([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
    #expect(CRC32C.checksum([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
    #expect(CRC32C.checksum([UInt8](0..<32)) == 0x46DD_794E)
    #expect(CRC32C.checksum(Array("123456789".utf8)) == 0xE306_9283)
  }

  @Test func aSeedContinuesAChecksum() {
    let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    for cut in [0, 1, 7, 8, 9, 500, 999, 1000] {
      let first = CRC32C.checksum(Array(bytes[..<cut]))
      #expect(CRC32C.checksum(Array(bytes[cut...]), seed: first) == CRC32C.checksum(bytes))
    }
  }

  @Test func theTableAgreesWithTheInstruction() {
    var random = RandomSource(seed: 1)
    for count in 0..<300 {
      let bytes = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      let seed = UInt32(truncatingIfNeeded: random.next())
      #expect(martlet_crc32c(seed, bytes, count) == martlet_crc32c_portable(seed, bytes, count))
    }
  }
}

@Suite struct ByteReaderTests {
  @Test func varintsRoundTripAtEverySize() throws {
    for shift in 0..<64 {
      for value in [UInt64(1) << shift, (UInt64(1) << shift) &- 1, UInt64.max >> shift] {
        var bytes: [UInt8] = []
        bytes.append(varint: value)
        #expect(bytes.count == varintSize(value))
        try bytes.withUnsafeBytes {
          var reader = ByteReader($0)
          let read = try reader.readVarint()
          #expect(read == value)
          #expect(reader.isAtEnd)
        }
      }
    }
  }

  @Test(arguments: [
    ([UInt8](repeating: 0x80, count: 9), ByteReaderError.Code.truncated),
    ([UInt8](repeating: 0x80, count: 11), .malformedVarint),
    ([UInt8](repeating: 0xFF, count: 9) + [2], .malformedVarint),
    ([], .truncated),
  ])
  func badVarintsAreRefused(bytes: [UInt8], code: ByteReaderError.Code) throws {
    try bytes.withUnsafeBytes {
      var reader = ByteReader($0)
      do {
        _ = try reader.readVarint()
        Issue.record("read \(bytes)")
      } catch let error as ByteReaderError {
        #expect(error.code == code)
        #expect(reader.offset == 0, "a failed read must not advance")
      }
    }
  }

  @Test func aLengthPastTheEndIsRefusedWhateverItsSize() {
    for length: UInt64 in [4, 1 << 31, 1 << 62, .max] {
      var bytes: [UInt8] = []
      bytes.append(varint: length)
      bytes += [1, 2, 3]
      bytes.withUnsafeBytes {
        var reader = ByteReader($0)
        #expect(throws: ByteReaderError.self) { _ = try reader.readLengthPrefixed() }
        #expect(reader.offset == 0)
      }
    }
  }
}
