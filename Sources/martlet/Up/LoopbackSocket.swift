#if canImport(Glibc)
  import Glibc
#endif

/// Sockets of this machine alone, for looking whether somebody listens.
enum LoopbackSocket {
  /// Calls `body` with 127.0.0.1 and a port in the system's form, `struct sockaddr_in`.
  ///
  /// Its bytes are written one by one: which module declares the struct depends on what else is compiled.
  static func withAddress(_ port: Int, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    var bytes = [UInt8](repeating: 0, count: 16)
    bytes.withUnsafeMutableBytes { bytes in
      bytes.storeBytes(of: UInt16(AF_INET), as: UInt16.self)
      bytes.storeBytes(of: UInt16(truncatingIfNeeded: port).bigEndian, toByteOffset: 2, as: UInt16.self)
      bytes.storeBytes(of: UInt32(0x7F00_0001).bigEndian, toByteOffset: 4, as: UInt32.self)
    }
    return bytes.withUnsafeBytes { bytes in
      body(bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
    }
  }
}
