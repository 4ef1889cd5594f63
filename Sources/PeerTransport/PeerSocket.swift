import Glibc
import NIOCore

/// Connecting a socket that both an event loop and `PeerOutlet` can use.
enum PeerSocket {
  /// Connects to `host`, trying each of its addresses in turn. Blocks.
  ///
  /// - Throws: the last address's failure.
  static func connect(
    host: String, port: Int, timeout: TimeAmount
  ) throws(PeerNetworkError) -> Int32 {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_NUMERICSERV
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, String(port), &hints, &list)
    guard code == 0 else {
      throw PeerNetworkError("\(host) has no address: \(String(cString: gai_strerror(code)))")
    }
    defer { freeaddrinfo(list) }
    var failure = PeerNetworkError("\(host) has no address")
    var next = list
    while let address = next?.pointee {
      next = address.ai_next
      do throws(PeerNetworkError) {
        return try connect(address, timeout: timeout)
      } catch {
        failure = error
      }
    }
    throw failure
  }

  private static func connect(
    _ address: addrinfo, timeout: TimeAmount
  ) throws(PeerNetworkError) -> Int32 {
    let descriptor = socket(
      address.ai_family,
      Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw failed("socket", errno) }
    do throws(PeerNetworkError) {
      if Glibc.connect(descriptor, address.ai_addr, address.ai_addrlen) != 0 {
        guard errno == EINPROGRESS else { throw failed("connect", errno) }
        try awaitConnection(descriptor, timeout)
      }
      return descriptor
    } catch {
      close(descriptor)
      throw error
    }
  }

  private static func awaitConnection(
    _ descriptor: Int32, _ timeout: TimeAmount
  ) throws(PeerNetworkError) {
    var poller = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
    var ready: Int32
    repeat {
      ready = poll(&poller, 1, Int32(clamping: timeout.nanoseconds / 1_000_000))
    } while ready < 0 && errno == EINTR
    guard ready > 0 else { throw failed("connect", ready == 0 ? ETIMEDOUT : errno) }
    var error: Int32 = 0
    var size = socklen_t(MemoryLayout<Int32>.size)
    getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size)
    if error != 0 { throw failed("connect", error) }
  }

  private static func failed(_ call: String, _ number: Int32) -> PeerNetworkError {
    PeerNetworkError("\(call): \(String(cString: strerror(number)))")
  }
}
