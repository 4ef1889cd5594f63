import Foundation
import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// A raw TCP connection to a port of this machine, for bytes that no client library would send.
public final class LoopbackConnection {
  private let handle: Int32

  public init(port: Int) throws {
    handle = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = Loopback.address(port)
    let status = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(handle, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard status == 0 else {
      close(handle)
      throw ProgramError("cannot connect to port \(port): \(String(cString: strerror(errno)))")
    }
  }

  deinit { close(handle) }

  /// Sends what the other side takes; false once it has closed the connection.
  @discardableResult
  public func send(_ bytes: [UInt8]) -> Bool {
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes {
        Glibc.send(handle, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      guard count > 0 else { return false }
      sent += count
    }
    return true
  }

  @discardableResult
  public func send(_ text: String) -> Bool { send(Array(text.utf8)) }

  /// Everything that arrives until the other side closes or the time runs out.
  public func receiveAll(seconds: Double) -> (bytes: [UInt8], isClosed: Bool) {
    var result: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16_384)
    let end = DispatchTime.now().uptimeNanoseconds + UInt64(seconds * 1e9)
    while true {
      let now = DispatchTime.now().uptimeNanoseconds
      guard now < end else { return (result, false) }
      var poll = pollfd(fd: handle, events: Int16(POLLIN), revents: 0)
      guard Glibc.poll(&poll, 1, Int32((end - now) / 1_000_000) + 1) > 0 else {
        return (result, false)
      }
      let count = recv(handle, &buffer, buffer.count, 0)
      guard count > 0 else { return (result, true) }
      result.append(contentsOf: buffer.prefix(count))
    }
  }
}

/// Ports and HTTP on this machine.
public enum Loopback {
  /// The ports that were given out: none is given twice, since its taker may not have bound it yet.
  private static let given = Mutex<Set<Int>>([])

  /// A port that nothing listens on. It lies below the range from which the kernel gives ports to outgoing
  /// connections, so that a member that was killed finds its port free when it comes back.
  public static func freePort() throws -> Int {
    for _ in 0..<500 {
      let port = Int.random(in: 20_000..<32_000)
      guard given.withLock({ $0.insert(port).inserted }) else { continue }
      let handle = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      defer { close(handle) }
      var address = address(port)
      let status = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(handle, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
      if status == 0 { return port }
    }
    throw ProgramError("no free port between 20000 and 32000")
  }

  /// The answer to a GET, head and body, or nil if there was none.
  public static func get(port: Int, path: String, seconds: Double = 2) -> String? {
    guard let connection = try? LoopbackConnection(port: port) else { return nil }
    connection.send("GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    let answer = connection.receiveAll(seconds: seconds)
    return answer.bytes.isEmpty ? nil : String(decoding: answer.bytes, as: UTF8.self)
  }

  static func address(_ port: Int) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(UInt16(port).bigEndian)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return address
  }
}
