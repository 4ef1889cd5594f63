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
    let connected = LoopbackSocket.withAddress(port) { connect(handle, $0, $1) }
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
