/// A URL as flags name addresses: scheme, host and port, or the path of a unix socket.
struct Endpoint: Sendable, Equatable {
  /// As it was given.
  var url: String
  var isTLS: Bool
  /// `localhost` for a unix socket.
  var host: String
  /// Zero for a unix socket.
  var port: Int
  /// The file of a unix socket. As in etcd it is what stands between `unix://` and the end.
  var socketPath: String?

  private static let schemes: [(name: String, isTLS: Bool, isSocket: Bool)] = [
    ("http://", false, false), ("https://", true, false), ("unix://", false, true),
    ("unixs://", true, true),
  ]
  /// What the system takes as a socket's path (`sun_path`), the zero byte apart.
  private static let longestPath = 107

  init(_ text: String, flag: String) throws {
    func fail(_ reason: String) -> UsageFailure { UsageFailure("\(flag): '\(text)' \(reason)") }
    url = text
    guard let scheme = Self.schemes.first(where: { text.hasPrefix($0.name) }) else {
      throw fail("must start with http://, https://, unix:// or unixs://")
    }
    isTLS = scheme.isTLS
    let rest = text.dropFirst(scheme.name.count)
    if scheme.isSocket {
      guard !rest.isEmpty, rest.utf8.count <= Self.longestPath else {
        throw fail("needs a path of 1 to \(Self.longestPath) bytes, as in unix:///run/martlet.sock")
      }
      socketPath = String(rest)
      host = "localhost"
      port = 0
      return
    }
    guard let colon = rest.lastIndex(of: ":"), let port = Int(rest[rest.index(after: colon)...]),
      (1...65_535).contains(port)
    else { throw fail("needs a port from 1 to 65535, as in http://127.0.0.1:2379") }
    var host = String(rest[..<colon])
    if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
    guard !host.isEmpty, !host.contains("/") else { throw fail("needs a host") }
    self.host = host
    self.port = port
  }
}
