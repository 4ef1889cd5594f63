import CLinux
import Glibc

/// An IPv4 address.
public struct IPv4Address: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// In the machine's byte order.
  public var rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Reads four decimal numbers; nil for anything else, numbers with leading zeros included.
  public init?(_ text: some StringProtocol) {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var value: UInt32 = 0
    for part in parts {
      guard let number = UInt8(part), String(number) == part else { return nil }
      value = value << 8 | UInt32(number)
    }
    rawValue = value
  }

  var bytes: [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: rawValue >> (24 - 8 * $0)) } }
  public var description: String { bytes.map(String.init).joined(separator: ".") }
  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// A block of IPv4 addresses: `10.244.0.0/24`.
public struct IPv4Block: Hashable, Sendable, CustomStringConvertible {
  public let base: IPv4Address
  /// 0 through 32.
  public let prefixLength: Int

  /// Reads an address and a prefix length; bits behind the prefix must be zero.
  public init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let base = IPv4Address(parts[0]), let length = Int(parts[1]),
      (0...32).contains(length)
    else { return nil }
    self.base = base
    prefixLength = length
    guard length == 0 ? base.rawValue == 0 : base.rawValue << UInt32(length) == 0 else {
      return nil
    }
  }

  /// How many addresses the block has.
  public var count: Int { 1 << (32 - prefixLength) }
  public func contains(_ address: IPv4Address) -> Bool {
    UInt64(address.rawValue) >= UInt64(base.rawValue)
      && UInt64(address.rawValue) < UInt64(base.rawValue) + UInt64(count)
  }
  public subscript(offset: Int) -> IPv4Address {
    IPv4Address(rawValue: base.rawValue &+ UInt32(truncatingIfNeeded: offset))
  }
  public var description: String { "\(base)/\(prefixLength)" }
}

/// Asks the kernel for links, addresses and routes, in the network namespace of the calling process.
///
/// Route netlink (rtnetlink(7)) spoken directly: a handful of requests, each acknowledged, cheaper than
/// starting `ip` and without a dependency on it. All fields are in the machine's byte order, addresses
/// apart.
struct RouteSocket: ~Copyable {
  private let socket: Descriptor
  private var sequence: UInt32 = 0

  init() throws(SystemError) {
    socket = Descriptor(
      owning: try SystemError.check(clinux_route_socket(), "open a netlink socket"))
  }

  // MARK: Links

  /// The index of a link, or nil if there is none of that name.
  static func index(of name: String) -> UInt32? {
    let index = if_nametoindex(name)
    return index == 0 ? nil : index
  }

  mutating func createBridge(_ name: String) throws(SystemError) {
    var message = Message(.newLink, flags: Flag.create | Flag.exclusive)
    message.appendLink()
    message.append(Attribute.linkName, name)
    message.append(Attribute.linkInfo) { $0.append(Attribute.infoKind, "bridge") }
    try send(message, "create bridge \(name)")
  }

  /// Creates a cable: one end here, the other in the network namespace of process `pid`.
  mutating func createPair(
    _ name: String, peer: String, peerHardwareAddress: [UInt8], inNamespaceOf pid: pid_t
  ) throws(SystemError) {
    var message = Message(.newLink, flags: Flag.create | Flag.exclusive)
    message.appendLink()
    message.append(Attribute.linkName, name)
    message.append(Attribute.linkInfo) { info in
      info.append(Attribute.infoKind, "veth")
      info.append(Attribute.infoData) { data in
        data.append(Attribute.vethPeer) { peerLink in
          peerLink.appendLink()
          peerLink.append(Attribute.linkName, peer)
          peerLink.append(Attribute.linkHardwareAddress, bytes: peerHardwareAddress)
          peerLink.append(Attribute.linkNamespaceOfProcess, UInt32(pid))
        }
      }
    }
    try send(message, "create veth \(name)")
  }

  mutating func setUp(_ index: UInt32, master: UInt32? = nil) throws(SystemError) {
    var message = Message(.newLink)
    message.appendLink(index: index, flags: UInt32(IFF_UP))
    if let master { message.append(Attribute.linkMaster, master) }
    try send(message, "set link \(index) up")
  }

  /// Lets a bridge send frames back out of the port they came in by.
  ///
  /// Where the kernel's bridge netfilter is on, a packet that a pod sends to a service and that is led to
  /// the pod itself never leaves the bridge: without this it is dropped there.
  mutating func allowHairpin(_ index: UInt32) throws(SystemError) {
    var message = Message(.setLink)
    message.appendLink(index: index)
    message.body[0] = UInt8(PF_BRIDGE)
    message.append(Attribute.protocolInfo | Attribute.isNested) { port in
      port.append(Attribute.portHairpin, bytes: [1])
    }
    try send(message, "allow hairpins at link \(index)")
  }

  /// Removes a link, and with a cable its other end; succeeds if it is gone already.
  mutating func delete(_ name: String) throws(SystemError) {
    guard let index = Self.index(of: name) else { return }
    var message = Message(.deleteLink)
    message.appendLink(index: index)
    do throws(SystemError) {
      try send(message, "delete link \(name)")
    } catch {
      if error.number != ENODEV { throw error }
    }
  }

  // MARK: Addresses and routes

  mutating func addAddress(
    _ address: IPv4Address, prefixLength: Int, to index: UInt32
  ) throws(SystemError) {
    var message = Message(.newAddress, flags: Flag.create | Flag.replace)
    message.body += [UInt8(AF_INET), UInt8(prefixLength), 0, 0]
    message.append(raw: index)
    message.append(Attribute.localAddress, bytes: address.bytes)
    message.append(Attribute.address, bytes: address.bytes)
    try send(message, "add address \(address)/\(prefixLength)")
  }

  mutating func addDefaultRoute(via gateway: IPv4Address) throws(SystemError) {
    var message = Message(.newRoute, flags: Flag.create | Flag.replace)
    // Family, lengths of destination and source, TOS, main table, boot protocol, universe, unicast.
    message.body += [UInt8(AF_INET), 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]
    message.append(Attribute.gateway, bytes: gateway.bytes)
    try send(message, "add the default route via \(gateway)")
  }

  /// Adds or replaces the route to a block of addresses: through a neighbour, or straight out of a link.
  ///
  /// - Parameter isExclusive: fail with EEXIST where there is a route already.
  mutating func addRoute(
    to block: IPv4Block, via gateway: IPv4Address? = nil, out link: UInt32? = nil,
    isExclusive: Bool = false
  ) throws(SystemError) {
    var message = Message(
      .newRoute, flags: Flag.create | (isExclusive ? Flag.exclusive : Flag.replace))
    let scope: UInt8 = gateway == nil ? 253 : 0
    message.body += [UInt8(AF_INET), UInt8(block.prefixLength), 0, 0, 254, 3, scope, 1, 0, 0, 0, 0]
    message.append(Attribute.destination, bytes: block.base.bytes)
    if let gateway { message.append(Attribute.gateway, bytes: gateway.bytes) }
    if let link { message.append(Attribute.outLink, link) }
    try send(message, "add the route to \(block)")
  }

  /// Removes the route to a block; succeeds if there is none.
  mutating func deleteRoute(to block: IPv4Block) throws(SystemError) {
    var message = Message(.deleteRoute)
    message.body += [UInt8(AF_INET), UInt8(block.prefixLength), 0, 0, 254, 0, 255, 0, 0, 0, 0, 0]
    message.append(Attribute.destination, bytes: block.base.bytes)
    do throws(SystemError) {
      try send(message, "delete the route to \(block)")
    } catch {
      if error.number != ESRCH { throw error }
    }
  }

  // MARK: Messages

  private enum Flag {
    static let request: UInt16 = 0x1
    static let acknowledge: UInt16 = 0x4
    static let replace: UInt16 = 0x100
    static let exclusive: UInt16 = 0x200
    static let create: UInt16 = 0x400
  }

  private enum Attribute {
    static let linkHardwareAddress: UInt16 = 1
    static let linkName: UInt16 = 3
    static let linkMaster: UInt16 = 10
    static let protocolInfo: UInt16 = 12
    static let isNested: UInt16 = 0x8000
    static let portHairpin: UInt16 = 4
    static let linkInfo: UInt16 = 18
    static let linkNamespaceOfProcess: UInt16 = 19
    static let infoKind: UInt16 = 1
    static let infoData: UInt16 = 2
    static let vethPeer: UInt16 = 1
    static let address: UInt16 = 1
    static let localAddress: UInt16 = 2
    static let destination: UInt16 = 1
    static let outLink: UInt16 = 4
    static let gateway: UInt16 = 5
  }

  /// A request behind its 16-byte header.
  private struct Message {
    enum Kind: UInt16 {
      case newLink = 16
      case deleteLink = 17
      case setLink = 19
      case newAddress = 20
      case newRoute = 24
      case deleteRoute = 25
    }
    var kind: Kind
    var flags: UInt16
    var body: [UInt8] = []

    init(_ kind: Kind, flags: UInt16 = 0) {
      self.kind = kind
      self.flags = flags | Flag.request | Flag.acknowledge
    }

    mutating func append<Number: FixedWidthInteger>(raw number: Number) {
      withUnsafeBytes(of: number) { body += $0 }
    }

    /// `struct ifinfomsg`: family, padding, type, index, flags, which flags to change.
    mutating func appendLink(index: UInt32 = 0, flags: UInt32 = 0) {
      append(raw: UInt32(0))
      append(raw: index)
      append(raw: flags)
      append(raw: flags)
    }

    mutating func append(_ attribute: UInt16, bytes: [UInt8]) {
      append(raw: UInt16(4 + bytes.count))
      append(raw: attribute)
      body += bytes
      while body.count % 4 != 0 { body.append(0) }
    }

    mutating func append(_ attribute: UInt16, _ text: String) {
      append(attribute, bytes: Array(text.utf8) + [0])
    }

    mutating func append(_ attribute: UInt16, _ number: UInt32) {
      append(attribute, bytes: withUnsafeBytes(of: number) { Array($0) })
    }

    mutating func append(_ attribute: UInt16, nested: (inout Message) -> Void) {
      var inner = Message(kind)
      nested(&inner)
      append(attribute, bytes: inner.body)
    }
  }

  private mutating func send(_ message: Message, _ operation: String) throws(SystemError) {
    sequence &+= 1
    var bytes: [UInt8] = []
    withUnsafeBytes(of: UInt32(16 + message.body.count)) { bytes += $0 }
    withUnsafeBytes(of: message.kind.rawValue) { bytes += $0 }
    withUnsafeBytes(of: message.flags) { bytes += $0 }
    withUnsafeBytes(of: sequence) { bytes += $0 }
    bytes += [0, 0, 0, 0]
    bytes += message.body
    let sent = Glibc.send(socket.number, bytes, bytes.count, 0)
    guard sent == bytes.count else { throw SystemError(operation) }

    // The acknowledgement: a header of type NLMSG_ERROR (2), then the negated errno, zero for none.
    var answer = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = recv(socket.number, &answer, answer.count, 0)
      if count < 0 {
        if errno == EINTR { continue }
        throw SystemError(operation)
      }
      guard count >= 20 else { throw SystemError(operation, number: EIO) }
      let (kind, answered, code) = answer.withUnsafeBytes {
        (
          $0.loadUnaligned(fromByteOffset: 4, as: UInt16.self),
          $0.loadUnaligned(fromByteOffset: 8, as: UInt32.self),
          $0.loadUnaligned(fromByteOffset: 16, as: Int32.self)
        )
      }
      guard answered == sequence, kind == 2 else { continue }
      if code != 0 { throw SystemError(operation, number: -code) }
      return
    }
  }
}
