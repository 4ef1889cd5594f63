import CLinux
import Glibc

/// The network of several nodes on one machine: a bridge, and a cable to each node's network namespace.
///
/// Each node has a network namespace of its own, as a machine would; the bridge is the wire between them, and
/// the machine itself is on it with the block's first address.
public struct ClusterBridge: Sendable {
  public let name: String
  public let block: IPv4Block

  public init(name: String, block: IPv4Block) {
    self.name = name
    self.block = block
  }

  /// The machine's own address on the bridge.
  public var address: IPv4Address { block[1] }
  /// The address of a node, counted from zero.
  public func address(ofNode index: Int) -> IPv4Address { block[11 + index] }

  /// The first of the blocks `172.30.N.0/24` in which no address of this machine lies.
  public static func freeBlock() -> IPv4Block? {
    let taken = Machine.addresses()
    return (0..<256).lazy.compactMap { IPv4Block("172.30.\($0).0/24") }
      .first { block in !taken.contains(where: block.contains) }
  }

  /// Makes the bridge, anew if an earlier one was left.
  public func create() throws {
    var socket = try RouteSocket()
    try socket.delete(name)
    try socket.createBridge(name)
    guard let index = RouteSocket.index(of: name) else {
      throw SystemError("find link", name, number: ENODEV)
    }
    try socket.addAddress(address, prefixLength: block.prefixLength, to: index)
    try socket.setUp(index)
    try Descriptor(opening: "/proc/sys/net/ipv4/ip_forward", O_WRONLY).writeAll(Array("1".utf8))
  }

  /// Connects the network namespace of a process as a node.
  public func plug(_ index: Int, pid: pid_t) throws {
    var socket = try RouteSocket()
    let cable = "\(name)n\(index)"
    try socket.delete(cable)
    let address = address(ofNode: index)
    try socket.createPair(
      cable, peer: NodeSpace.link, peerHardwareAddress: [0x0A, 0x5A] + address.bytes,
      inNamespaceOf: pid)
    guard let link = RouteSocket.index(of: cable), let bridge = RouteSocket.index(of: name) else {
      throw SystemError("find link", cable, number: ENODEV)
    }
    try socket.setUp(link, master: bridge)
  }

  /// Lets the machine itself reach a block of addresses through a node.
  ///
  /// - Returns: false if it is routed elsewhere already.
  public func route(_ block: IPv4Block, toNode index: Int) -> Bool {
    guard var socket = try? RouteSocket() else { return false }
    do throws(SystemError) {
      try socket.addRoute(to: block, via: address(ofNode: index), isExclusive: true)
      return true
    } catch {
      return false
    }
  }

  /// Removes the bridge and with it all routes over it.
  public func remove() {
    guard var socket = try? RouteSocket() else { return }
    try? socket.delete(name)
  }
}

/// A node's network namespace, seen from inside.
public enum NodeSpace {
  static let link = "eth0"

  /// Waits for the cable of a `ClusterBridge` and sets the namespace up.
  ///
  /// - Throws: `SystemError` if the cable doesn't come within 30 s.
  public static func configure(
    address: IPv4Address, prefixLength: Int, gateway: IPv4Address
  ) throws {
    var socket = try RouteSocket()
    if let loopback = RouteSocket.index(of: "lo") { try socket.setUp(loopback) }
    var index: UInt32?
    for _ in 0..<3_000 {
      index = RouteSocket.index(of: link)
      if index != nil { break }
      usleep(10_000)
    }
    guard let index else { throw SystemError("wait for link", link, number: ETIMEDOUT) }
    try socket.addAddress(address, prefixLength: prefixLength, to: index)
    try socket.setUp(index)
    try socket.addDefaultRoute(via: gateway)
  }

  /// Whether the namespace of a process is set up: it has a default route.
  public static func isConfigured(pid: pid_t) -> Bool {
    guard let bytes = try? Disk.read("/proc/\(pid)/net/route", limit: 64 << 10) else { return false }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").contains { line in
      let words = line.split(separator: "\t")
      return words.count > 2 && words[0] == "eth0" && words[1] == "00000000"
    }
  }
}
