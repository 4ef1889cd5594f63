#if canImport(Glibc)
  import Glibc
#endif

/// One question of the kernel's about a file system.
struct FuseRequest {
  /// The numbers of `linux/fuse.h`.
  enum Kind: UInt32 {
    case lookup = 1, forget = 2, getAttributes = 3, setAttributes = 4, makeDirectory = 9, unlink = 10
    case removeDirectory = 11, rename = 12, open = 14, read = 15, write = 16, fileSystemStatus = 17, release = 18
    case sync = 20, flush = 25, initialize = 26, openDirectory = 27, readDirectory = 28, releaseDirectory = 29
    case syncDirectory = 30, create = 35, interrupt = 36, destroy = 38, forgetMany = 42, allocate = 43, rename2 = 45
  }

  /// Nil for a kind that is not answered here.
  let kind: Kind?
  let unique: UInt64
  let node: UInt64
  /// What follows the header, good while the request is answered.
  let body: UnsafeRawBufferPointer

  static let headerSize = 40

  /// Nil for bytes that are no request.
  init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= Self.headerSize else { return nil }
    kind = Kind(rawValue: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
    unique = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
    node = bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
    body = UnsafeRawBufferPointer(rebasing: bytes[Self.headerSize...])
  }

  var isSync: Bool { kind == .sync || kind == .syncDirectory }

  func word(_ offset: Int) -> UInt32 {
    offset + 4 <= body.count ? body.loadUnaligned(fromByteOffset: offset, as: UInt32.self) : 0
  }

  func long(_ offset: Int) -> UInt64 {
    offset + 8 <= body.count ? body.loadUnaligned(fromByteOffset: offset, as: UInt64.self) : 0
  }

  /// The text from `offset` to the next zero byte, and where what follows it begins.
  func text(_ offset: Int) -> (text: String, end: Int) {
    let rest = body[min(offset, body.count)...]
    let name = rest.prefix { $0 != 0 }
    return (String(decoding: name, as: UTF8.self), offset + name.count + 1)
  }
}

/// What the kernel is told.
enum FuseAnswer {
  case success([UInt8] = [])
  case failure(Int32)
  /// The kernel expects none.
  case silence
}

/// Takes the kernel's requests one after the other.
struct FuseService: Sendable {
  let handle: Int32
  static let largestWrite = 1 << 20

  /// Serves until the file system is unmounted.
  func serve(_ answer: (FuseRequest) -> FuseAnswer) {
    var buffer = [UInt8](repeating: 0, count: Self.largestWrite + (64 << 10))
    while true {
      let count = buffer.withUnsafeMutableBytes { Glibc.read(handle, $0.baseAddress, $0.count) }
      if count <= 0 {
        // A request that was given up before it was read.
        if errno == ENOENT || errno == EINTR || errno == EAGAIN { continue }
        return
      }
      buffer.withUnsafeBytes { bytes in
        guard let request = FuseRequest(UnsafeRawBufferPointer(rebasing: bytes[..<count])) else { return }
        switch answer(request) {
        case .success(let payload): reply(request, 0, payload)
        case .failure(let code): reply(request, code, [])
        case .silence: break
        }
      }
    }
  }

  private func reply(_ request: FuseRequest, _ code: Int32, _ payload: [UInt8]) {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(16 + payload.count)
    bytes.append(native: UInt32(16 + payload.count))
    bytes.append(native: -code)
    bytes.append(native: request.unique)
    bytes += payload
    _ = bytes.withUnsafeBytes { Glibc.write(handle, $0.baseAddress, $0.count) }
  }
}

extension [UInt8] {
  /// Adds a number as this machine keeps it.
  mutating func append<Number: FixedWidthInteger>(native number: Number) {
    Swift.withUnsafeBytes(of: number) { append(contentsOf: $0) }
  }
}
