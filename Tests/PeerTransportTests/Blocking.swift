import Glibc

/// Stops the calling thread, and with it an event loop.
func blockingSleep(_ duration: Duration) {
  usleep(UInt32(duration / .microseconds(1)))
}

/// A connected pair of stream sockets.
func makeSocketPair(_ descriptors: inout [Int32]) -> Bool {
  socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &descriptors) == 0
}

/// Reads exactly `count` bytes, or fewer where the other end closes.
func readAll(_ descriptor: Int32, count: Int) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: count)
  var filled = 0
  while filled < count {
    let got = bytes.withUnsafeMutableBytes { buffer in
      read(descriptor, buffer.baseAddress! + filled, count - filled)
    }
    if got <= 0 { return Array(bytes[..<filled]) }
    filled += got
  }
  return bytes
}
