#if canImport(Glibc)
  import Glibc
#endif

/// One plain HTTP GET to this machine, to see whether a part answers yet.
enum HTTPProbe {
  static func get(port: Int, path: String) -> (status: Int, body: String)? {
    let handle = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard handle >= 0 else { return nil }
    defer { close(handle) }
    var timeout = timeval(tv_sec: 2, tv_usec: 0)
    for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
      setsockopt(handle, SOL_SOCKET, option, &timeout, socklen_t(MemoryLayout<timeval>.size))
    }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(UInt16(port).bigEndian)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let connected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(handle, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard connected == 0 else { return nil }
    let request = Array("GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".utf8)
    guard write(handle, request, request.count) == request.count else { return nil }
    var answer: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while answer.count < 1 << 16 {
      let count = read(handle, &buffer, buffer.count)
      guard count > 0 else { break }
      answer += buffer[..<count]
    }
    let text = String(decoding: answer, as: UTF8.self)
    guard text.hasPrefix("HTTP/1."), let status = Int(text.dropFirst(9).prefix(3)) else {
      return nil
    }
    return (status, text.components(after: "\r\n\r\n"))
  }
}

extension String {
  fileprivate func components(after separator: String) -> String {
    var rest = self[...]
    while !rest.isEmpty {
      if rest.hasPrefix(separator) { return String(rest.dropFirst(separator.count)) }
      rest = rest.dropFirst()
    }
    return ""
  }
}
