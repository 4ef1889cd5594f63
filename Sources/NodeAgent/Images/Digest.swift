import Crypto

/// The SHA-256 of some content, by which images address everything.
public struct Digest: Hashable, Sendable, CustomStringConvertible {
  /// 64 lower-case hexadecimal digits. Safe as a file name.
  public let hex: String

  /// Reads `sha256:…`; nil for other algorithms and malformed text.
  public init?(_ text: some StringProtocol) {
    let prefix = "sha256:"
    guard text.hasPrefix(prefix) else { return nil }
    let digits = text.utf8.dropFirst(prefix.utf8.count)
    guard digits.count == 64,
      digits.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) })
    else { return nil }
    hex = String(decoding: digits, as: UTF8.self)
  }

  /// The digest of bytes in memory.
  public init(of bytes: [UInt8]) {
    var hasher = Hasher()
    bytes.withUnsafeBytes { hasher.update($0) }
    self = hasher.finish()
  }

  fileprivate init(bytes: some Sequence<UInt8>) {
    var text: [UInt8] = []
    text.reserveCapacity(64)
    let digits = Array("0123456789abcdef".utf8)
    for byte in bytes {
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    hex = String(decoding: text, as: UTF8.self)
  }

  public var description: String { "sha256:" + hex }

  /// Computes a digest piece by piece.
  struct Hasher {
    private var state = SHA256()
    mutating func update(_ bytes: UnsafeRawBufferPointer) { state.update(bufferPointer: bytes) }
    func finish() -> Digest { Digest(bytes: state.finalize()) }
  }
}
