import Glibc
import Synchronization

/// Gives each pod an address on the node's bridge.
///
/// The first address of the node's block belongs to the bridge, which is the pods' gateway and by which
/// the node itself reaches them; the last is the broadcast address; the others are the pods'. A pod's
/// cable ends here on the bridge and there in the pod's network namespace as `eth0`. When the namespace
/// goes, the kernel removes the cable, so that nothing is left behind even if nobody cleans up.
///
/// Which addresses are taken is not written down here: the sandboxes' records hold them, and the runtime
/// reserves them again when it starts.
final class PodNetwork: Sendable {
  struct Settings: Sendable {
    /// The node's own block of pod addresses.
    var block: IPv4Block
    /// The bridge's name, at most 15 bytes.
    var bridge: String
    /// The addresses of services: whoever on the node sends there is routed to the bridge, where the
    /// service proxy's rules see it. Nil without services.
    var services: IPv4Block?
  }

  let settings: Settings
  private let state = Mutex(State())

  private struct State {
    var taken: Set<IPv4Address> = []
    /// The offset in the block after the address given last: an address rests as long as possible
    /// before somebody else gets it.
    var next = 2
    var isPrepared = false
  }

  init(_ settings: Settings) { self.settings = settings }

  var gateway: IPv4Address { settings.block[1] }

  /// Takes a free address.
  func allocate() throws -> IPv4Address {
    try state.withLock { state in
      let last = settings.block.count - 2
      guard last >= 2 else {
        throw RuntimeError(.network, "the block \(settings.block) has no addresses for pods")
      }
      for _ in 2...last {
        let address = settings.block[state.next]
        state.next = state.next >= last ? 2 : state.next + 1
        if state.taken.insert(address).inserted { return address }
      }
      throw RuntimeError(.network, "all addresses of \(settings.block) are in use")
    }
  }

  /// Marks an address that a sandbox of an earlier run holds.
  func reserve(_ address: IPv4Address) {
    state.withLock { _ = $0.taken.insert(address) }
  }

  func release(_ address: IPv4Address) {
    state.withLock { _ = $0.taken.remove(address) }
  }

  /// The name of a sandbox's end of the cable on the node.
  static func linkName(_ id: SandboxID) -> String { "mt" + id.rawValue.prefix(12) }

  /// Connects the network namespace of `pid`. What is inside, the shim configures.
  func attach(_ id: SandboxID, pid: pid_t, address: IPv4Address) throws {
    do {
      try state.withLock { state in
        if !state.isPrepared || RouteSocket.index(of: settings.bridge) == nil {
          try prepareBridge()
          state.isPrepared = true
        }
      }
      var socket = try RouteSocket()
      let name = Self.linkName(id)
      // Locally administered, and derived from the address: a neighbour's stale entry stays right when
      // the address passes on.
      try socket.createPair(
        name, peer: "eth0", peerHardwareAddress: [0x0A, 0x58] + address.bytes, inNamespaceOf: pid)
      guard let index = RouteSocket.index(of: name),
        let bridge = RouteSocket.index(of: settings.bridge)
      else { throw SystemError("find link", name, number: ENODEV) }
      try socket.setUp(index, master: bridge)
      try socket.allowHairpin(index)
    } catch let error as SystemError {
      throw RuntimeError(.network, "connecting the pod to the network: \(error)")
    }
  }

  func detach(_ id: SandboxID) {
    guard var socket = try? RouteSocket() else { return }
    try? socket.delete(Self.linkName(id))
  }

  /// Removes the bridge if no pod uses it.
  func removeBridgeIfUnused() {
    state.withLock { state in
      guard state.taken.isEmpty, var socket = try? RouteSocket() else { return }
      try? socket.delete(settings.bridge)
      state.isPrepared = false
    }
  }

  /// Makes the bridge and what belongs to it, before any pod needs it.
  func prepare() throws {
    do throws(SystemError) {
      try state.withLock { state throws(SystemError) in
        try prepareBridge()
        state.isPrepared = true
      }
    } catch {
      throw RuntimeError(.network, "preparing the pods' network: \(error)")
    }
  }

  /// Routes another node's pods to that node.
  func addRoute(to block: IPv4Block, via node: IPv4Address) throws {
    guard block != settings.block else { return }
    var socket = try RouteSocket()
    try socket.addRoute(to: block, via: node)
  }

  func deleteRoute(to block: IPv4Block) {
    guard block != settings.block, var socket = try? RouteSocket() else { return }
    try? socket.deleteRoute(to: block)
  }

  private func prepareBridge() throws(SystemError) {
    // The node is its pods' router, also between two of them.
    try Descriptor(opening: "/proc/sys/net/ipv4/ip_forward", O_WRONLY).writeAll(Array("1".utf8))
    var socket = try RouteSocket()
    if RouteSocket.index(of: settings.bridge) == nil {
      do throws(SystemError) {
        try socket.createBridge(settings.bridge)
      } catch {
        if error.number != EEXIST { throw error }
      }
    }
    guard let index = RouteSocket.index(of: settings.bridge) else {
      throw SystemError("find link", settings.bridge, number: ENODEV)
    }
    try socket.addAddress(gateway, prefixLength: settings.block.prefixLength, to: index)
    try socket.setUp(index)
    // A host port is one of the node's loopback, too: from there packets must be allowed onto the bridge.
    try Descriptor(
      opening: "/proc/sys/net/ipv4/conf/\(settings.bridge)/route_localnet", O_WRONLY
    ).writeAll(Array("1".utf8))
    if let services = settings.services { try socket.addRoute(to: services, out: index) }
  }
}
