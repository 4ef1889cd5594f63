import CLinux
import Glibc

/// The kernel's table of the connections that it tracks: read, and rid of single entries.
///
/// A UDP flow has no end that the kernel could see: as long as a client goes on sending, its packets go where
/// the first one went, though that pod is long gone. Whoever removes a target of UDP packets must remove the
/// flows to it. TCP needs no such thing: its connections end by themselves.
///
/// Spoken is nfnetlink (libnetfilter_conntrack's protocol): headers in the machine's byte order, what is in the
/// attributes in the network's.
public enum ConntrackTable {
  /// One UDP flow over IPv4, addresses in the machine's byte order.
  public struct Flow: Hashable, Sendable {
    public var source: UInt32
    public var sourcePort: UInt16
    /// What the client sent to.
    public var destination: UInt32
    public var destinationPort: UInt16
    /// Who answers.
    public var replySource: UInt32
    public var replySourcePort: UInt16

    public init(
      source: UInt32, sourcePort: UInt16, destination: UInt32, destinationPort: UInt16,
      replySource: UInt32, replySourcePort: UInt16
    ) {
      self.source = source
      self.sourcePort = sourcePort
      self.destination = destination
      self.destinationPort = destinationPort
      self.replySource = replySource
      self.replySourcePort = replySourcePort
    }
  }

  public struct Failure: Error, CustomStringConvertible {
    public var description: String
  }

  enum Limits {
    /// One read from the socket; the kernel sends at most a page or two at once.
    static let readBytes = 64 << 10
    /// Messages of one dump: more than the largest table that is usual has entries.
    static let messages = 4_000_000
  }

  /// Removes the UDP flows for which `isStale` holds. Blocks; takes as long as the table is large.
  ///
  /// - Returns: how many there were.
  /// - Throws: ``Failure`` where the kernel tracks nothing or doesn't let us.
  @discardableResult
  public static func removeFlows(where isStale: (Flow) -> Bool) throws(Failure) -> Int {
    let socket = clinux_netfilter_socket()
    guard socket >= 0 else { throw failure("open", -socket) }
    defer { close(socket) }
    var stale: [Flow] = []
    try dump(socket) { flow in if isStale(flow) { stale.append(flow) } }
    for (index, flow) in stale.enumerated() { try remove(flow, socket, sequence: UInt32(index + 2)) }
    return stale.count
  }

  // MARK: Messages

  private static let udp: UInt8 = 17
  private static let get: UInt16 = 1 << 8 | 1
  private static let delete: UInt16 = 1 << 8 | 2
  private static let request: UInt16 = 0x1
  private static let acknowledge: UInt16 = 0x4
  private static let dumpAll: UInt16 = 0x300
  private static let nested: UInt16 = 0x8000

  private static func failure(_ what: String, _ number: Int32) -> Failure {
    Failure(description: "connection tracking: can't \(what): \(String(cString: strerror(number)))")
  }

  static func message(_ kind: UInt16, _ flags: UInt16, sequence: UInt32, _ body: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    func append<Number: FixedWidthInteger>(_ number: Number) {
      withUnsafeBytes(of: number) { bytes += $0 }
    }
    append(UInt32(20 + body.count))
    append(kind)
    append(flags | request)
    append(sequence)
    append(UInt32(0))
    // struct nfgenmsg: family, version, resource.
    bytes += [UInt8(AF_INET), 0, 0, 0]
    return bytes + body
  }

  static func attribute(_ kind: UInt16, _ content: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    withUnsafeBytes(of: UInt16(4 + content.count)) { bytes += $0 }
    withUnsafeBytes(of: kind) { bytes += $0 }
    bytes += content
    while bytes.count % 4 != 0 { bytes.append(0) }
    return bytes
  }

  private static func network<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
    withUnsafeBytes(of: number.bigEndian) { Array($0) }
  }

  /// The original direction of a flow, which names it: CTA_TUPLE_ORIG.
  static func tuple(of flow: Flow) -> [UInt8] {
    attribute(
      1 | nested,
      attribute(
        1 | nested, attribute(1, network(flow.source)) + attribute(2, network(flow.destination)))
        + attribute(
          2 | nested,
          attribute(1, [udp]) + attribute(2, network(flow.sourcePort))
            + attribute(3, network(flow.destinationPort))))
  }

  private static func send(_ bytes: [UInt8], _ socket: Int32, _ what: String) throws(Failure) {
    guard Glibc.send(socket, bytes, bytes.count, 0) == bytes.count else { throw failure(what, errno) }
  }

  private static func receive(
    _ socket: Int32, _ buffer: inout [UInt8], _ what: String
  ) throws(Failure) -> Int {
    while true {
      let count = recv(socket, &buffer, buffer.count, 0)
      if count > 0 { return count }
      if count < 0, errno == EINTR { continue }
      throw failure(what, count < 0 ? errno : EIO)
    }
  }

  private static func dump(_ socket: Int32, _ found: (Flow) -> Void) throws(Failure) {
    try send(message(get, dumpAll, sequence: 1, []), socket, "list flows")
    var buffer = [UInt8](repeating: 0, count: Limits.readBytes)
    for _ in 0..<Limits.messages {
      let count = try receive(socket, &buffer, "list flows")
      guard try Self.read(buffer[..<count], found) else { return }
    }
    throw failure("list flows", E2BIG)
  }

  /// Reads the messages of one answer; false at the end of the dump.
  static func read(_ bytes: ArraySlice<UInt8>, _ found: (Flow) -> Void) throws(Failure) -> Bool {
    var rest = bytes
    while rest.count >= 16 {
      let start = rest.startIndex
      let length = Int(load(rest, 0, as: UInt32.self))
      let kind = load(rest, 4, as: UInt16.self)
      guard length >= 16, length <= rest.count else { throw failure("read the kernel's answer", EBADMSG) }
      switch kind {
      case 3: return false
      case 2:
        guard length >= 20 else { throw failure("read the kernel's answer", EBADMSG) }
        let code = Int32(bitPattern: load(rest, 16, as: UInt32.self))
        if code != 0 { throw failure("list flows", -code) }
        return false
      default:
        if length > 20, let flow = flow(rest[(start + 20)..<(start + length)]) { found(flow) }
      }
      rest = rest.dropFirst(min(rest.count, (length + 3) & ~3))
    }
    return true
  }

  private static func load<Number: FixedWidthInteger>(
    _ bytes: ArraySlice<UInt8>, _ offset: Int, as: Number.Type
  ) -> Number {
    bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Number.self) }
  }

  /// The attributes of one level, by their numbers.
  private static func attributes(_ bytes: ArraySlice<UInt8>) -> [UInt16: ArraySlice<UInt8>] {
    var found: [UInt16: ArraySlice<UInt8>] = [:]
    var rest = bytes
    while rest.count >= 4 {
      let length = Int(load(rest, 0, as: UInt16.self))
      let kind = load(rest, 2, as: UInt16.self) & 0x3FFF
      guard length >= 4, length <= rest.count else { break }
      found[kind] = rest[(rest.startIndex + 4)..<(rest.startIndex + length)]
      rest = rest.dropFirst(min(rest.count, (length + 3) & ~3))
    }
    return found
  }

  private static func number<Number: FixedWidthInteger>(
    _ bytes: ArraySlice<UInt8>?, as: Number.Type
  ) -> Number? {
    guard let bytes, bytes.count == MemoryLayout<Number>.size else { return nil }
    return Number(bigEndian: load(bytes, 0, as: Number.self))
  }

  /// A UDP flow; nil for what else is tracked.
  private static func flow(_ bytes: ArraySlice<UInt8>) -> Flow? {
    let all = attributes(bytes)
    func direction(_ kind: UInt16) -> (UInt32, UInt32, UInt16, UInt16)? {
      guard let tuple = all[kind].map(attributes), let addresses = tuple[1].map(attributes),
        let transport = tuple[2].map(attributes), number(transport[1], as: UInt8.self) == udp,
        let source = number(addresses[1], as: UInt32.self),
        let destination = number(addresses[2], as: UInt32.self),
        let sourcePort = number(transport[2], as: UInt16.self),
        let destinationPort = number(transport[3], as: UInt16.self)
      else { return nil }
      return (source, destination, sourcePort, destinationPort)
    }
    guard let original = direction(1), let reply = direction(2) else { return nil }
    return Flow(
      source: original.0, sourcePort: original.2, destination: original.1,
      destinationPort: original.3, replySource: reply.0, replySourcePort: reply.2)
  }

  private static func remove(_ flow: Flow, _ socket: Int32, sequence: UInt32) throws(Failure) {
    try send(
      message(delete, acknowledge, sequence: sequence, tuple(of: flow)), socket, "remove a flow")
    var buffer = [UInt8](repeating: 0, count: 4_096)
    let count = try receive(socket, &buffer, "remove a flow")
    guard count >= 20, load(buffer[...], 4, as: UInt16.self) == 2 else {
      throw failure("remove a flow", EBADMSG)
    }
    let code = Int32(bitPattern: load(buffer[...], 16, as: UInt32.self))
    // One that ended meanwhile is as good as removed.
    if code != 0, code != -ENOENT { throw failure("remove a flow", -code) }
  }
}
