import CCrypt

/// bcrypt, as etcd stores passwords, by the system's `crypt(3)`. Slow by intent: never call these on an
/// event loop.
///
/// The same hashes as etcd's, so that users can be brought over with their passwords.
enum PasswordHash {
  /// Costs that bcrypt knows; each step doubles the time. etcd's default is 10, some 60 ms.
  static let costs = 4...31
  static let standardCost = 10

  /// Why a password can't be hashed.
  enum Refusal: Error {
    /// bcrypt looks at 72 bytes and no more: the rest would count for nothing.
    case tooLong
    /// `crypt(3)` takes a C string: what follows a zero byte would count for nothing.
    case zeroByte
    case unsupported
  }

  /// Hashes a password with a salt of its own.
  static func make(_ password: [UInt8], cost: Int) throws(Refusal) -> [UInt8] {
    if password.count > 72 { throw .tooLong }
    if password.contains(0) { throw .zeroByte }
    var random = SystemRandomNumberGenerator()
    let salt = (0..<16).map { _ in CChar(bitPattern: UInt8.random(in: 0...255, using: &random)) }
    var setting = [CChar](repeating: 0, count: Int(CRYPT_GENSALT_OUTPUT_SIZE))
    guard
      crypt_gensalt_rn(
        "$2a$", UInt(cost), salt, Int32(salt.count), &setting, Int32(setting.count)) != nil,
      let hash = crypt(password, setting)
    else { throw .unsupported }
    return hash
  }

  /// Whether a password is the one that was hashed. Takes the same time for any password.
  static func matches(_ password: [UInt8], _ hash: [UInt8]) -> Bool {
    // crypt(3) would cut such passwords short, so they are nobody's.
    if password.count > 72 || password.contains(0) || !isHash(hash) { return false }
    let setting = (hash + [0]).map { CChar(bitPattern: $0) }
    guard let computed = crypt(password, setting), computed.count == hash.count else { return false }
    return zip(computed, hash).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
  }

  /// Whether bytes have the form of a bcrypt hash.
  static func isHash(_ bytes: [UInt8]) -> Bool {
    guard bytes.count == 60, bytes.starts(with: Array("$2".utf8)), bytes[6] == UInt8(ascii: "$"),
      bytes[3] == UInt8(ascii: "$"), let cost = Int(String(decoding: bytes[4..<6], as: UTF8.self))
    else { return false }
    return costs.contains(cost) && Array("abxy".utf8).contains(bytes[2]) && !bytes.contains(0)
  }

  private static func crypt(_ password: [UInt8], _ setting: [CChar]) -> [UInt8]? {
    let phrase = (password + [0]).map { CChar(bitPattern: $0) }
    let data = UnsafeMutablePointer<crypt_data>.allocate(capacity: 1)
    defer { data.deallocate() }
    // The call's memory holds the password; it is not left behind.
    let bytes = UnsafeMutableRawBufferPointer(start: data, count: MemoryLayout<crypt_data>.size)
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
    defer { bytes.initializeMemory(as: UInt8.self, repeating: 0) }
    guard
      let result = crypt_rn(phrase, setting, data, Int32(MemoryLayout<crypt_data>.size))
    else { return nil }
    return Array(String(cString: result).utf8)
  }
}
