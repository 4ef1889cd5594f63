import CChecksum

/// CRC-32C (Castagnoli), the checksum of every record on disk and between members.
///
/// A running checksum is continued by passing the last value as `seed`. Source: RFC 3720, appendix B.4.
public enum CRC32C {
  /// The checksum of `bytes`, continuing from `seed`. O(bytes.count).
  @inlinable public static func checksum(_ bytes: UnsafeRawBufferPointer, seed: UInt32 = 0) -> UInt32 {
    guard let base = bytes.baseAddress else { return seed }
    return martlet_crc32c(seed, base, bytes.count)
  }

  /// The checksum of `bytes`, continuing from `seed`. O(bytes.count).
  @inlinable public static func checksum(_ bytes: [UInt8], seed: UInt32 = 0) -> UInt32 {
    bytes.withUnsafeBytes { checksum($0, seed: seed) }
  }
}
