import KubeAPI
import Netfilter

/// A port of the node that leads to a pod.
public struct HostPort: Sendable, Hashable {
  public enum Transport: String, Sendable {
    case tcp, udp, sctp
  }
  /// The node's address that it is a port of; nil for all.
  public var address: IPv4Address?
  public var port: UInt16
  public var containerPort: UInt16
  public var transport: Transport

  public init(address: IPv4Address?, port: UInt16, containerPort: UInt16, transport: Transport) {
    self.address = address
    self.port = port
    self.containerPort = containerPort
    self.transport = transport
  }

  var json: Value {
    [
      "address": Value(address?.description), "port": Value(port),
      "containerPort": Value(containerPort), "protocol": Value(transport.rawValue),
    ]
  }

  init?(json value: Value) {
    guard let port = value["port"].int.flatMap({ UInt16(exactly: $0) }), port > 0,
      let own = value["containerPort"].int.flatMap({ UInt16(exactly: $0) }), own > 0,
      let transport = value["protocol"].string.flatMap(Transport.init(rawValue:))
    else { return nil }
    self.init(
      address: value["address"].string.flatMap { IPv4Address($0) }, port: port, containerPort: own,
      transport: transport)
  }

  /// The host ports that a pod's manifest asks for; none where it uses the node's network anyway.
  static func wanted(_ pod: PodManifest) -> [HostPort] {
    guard !pod.usesHostNetwork else { return [] }
    let spec = pod.object["spec"]
    let containers = spec["initContainers"].elements + spec["containers"].elements
    return containers.flatMap { $0["ports"].elements }.compactMap { port in
      guard let number = port["hostPort"].int.flatMap({ UInt16(exactly: $0) }), number > 0,
        let own = port["containerPort"].int.flatMap({ UInt16(exactly: $0) }), own > 0,
        let transport = Transport(rawValue: (port["protocol"].string ?? "TCP").lowercased())
      else { return nil }
      let address = port["hostIP"].string.flatMap { IPv4Address($0) }
      return HostPort(
        address: address?.rawValue == 0 ? nil : address, port: number, containerPort: own,
        transport: transport)
    }
  }
}

/// Leads the node's ports to pods: one small nftables table, written anew as a whole at each change.
///
/// ```
/// table ip martlet-hostports
///   prerouting, output ──▶ chain ports: two maps from a port (of one address, or of any of the node's)
///                          to a pod's address and port
///   postrouting        ──▶ masquerade a pod that reaches itself, and what comes from the node's loopback
/// ```
///
/// The source address stays the client's: `0x8000` in the packet's mark tells the service proxy so.
actor HostPortTable {
  static let table = "ip martlet-hostports"

  private var pods: [SandboxID: (address: IPv4Address, ports: [HostPort])] = [:]
  private let bridge: String
  private let apply: @Sendable (String) async throws -> Void
  /// Writes follow each other: a later one never comes first.
  private var last: Task<Void, any Error>?

  init(
    bridge: String, apply: @escaping @Sendable (String) async throws -> Void = NftCommand.run
  ) {
    self.bridge = bridge
    self.apply = apply
  }

  /// Makes the table what the sandboxes of an earlier run need.
  func restore(_ known: [(id: SandboxID, address: IPv4Address, ports: [HostPort])]) async throws {
    for pod in known where !pod.ports.isEmpty { pods[pod.id] = (pod.address, pod.ports) }
    if NftCommand.path != nil { try await write() }
  }

  /// - Throws: ``RuntimeError`` with code `network` if the kernel doesn't take it; then it isn't kept either.
  func open(_ ports: [HostPort], to address: IPv4Address, for id: SandboxID) async throws {
    guard !ports.isEmpty else { return }
    pods[id] = (address, ports)
    do { try await write() } catch {
      pods[id] = nil
      throw RuntimeError(.network, "opening the pod's host ports: \(error)")
    }
  }

  func close(_ id: SandboxID) async {
    guard pods.removeValue(forKey: id) != nil else { return }
    try? await write()
  }

  private func write() async throws {
    let script = Self.script(pods.values.map { $0 }, bridge: bridge)
    let (before, apply) = (last, apply)
    let task = Task {
      _ = await before?.result
      try await apply(script)
    }
    last = task
    try await task.value
  }

  /// The whole table as a program; its removal if there is nothing in it.
  static func script(
    _ pods: [(address: IPv4Address, ports: [HostPort])], bridge: String
  ) -> String {
    var lines = ["add table \(table)", "delete table \(table)"]
    var anywhere: [String: String] = [:]
    var addressed: [String: String] = [:]
    var hairpins: Set<String> = []
    for pod in pods {
      for port in pod.ports {
        let target = "\(pod.address) . \(port.containerPort)"
        let key = "\(port.transport.rawValue) . \(port.port)"
        if let address = port.address {
          addressed["\(address) . \(key)"] = target
        } else {
          anywhere[key] = target
        }
        hairpins.insert("\(pod.address) . \(pod.address)")
      }
    }
    guard !hairpins.isEmpty else { return lines.map { $0 + "\n" }.joined() }
    lines.append("add table \(table)")
    func container(_ kind: String, _ name: String, _ type: String, _ elements: [String]) {
      lines.append("add \(kind) \(table) \(name) { type \(type) ; }")
      if !elements.isEmpty {
        lines.append(
          "add element \(table) \(name) { \(elements.sorted().joined(separator: ", ")) }")
      }
    }
    container(
      "map", "anywhere", "inet_proto . inet_service : ipv4_addr . inet_service",
      anywhere.map { "\($0.key) : \($0.value)" })
    container(
      "map", "addressed", "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
      addressed.map { "\($0.key) : \($0.value)" })
    container("set", "hairpin", "ipv4_addr . ipv4_addr", Array(hairpins))
    lines += [
      "add chain \(table) ports",
      "add rule \(table) ports fib daddr type != local return",
      "add rule \(table) ports meta mark set meta mark or 0x8000",
      "add rule \(table) ports meta l4proto { tcp, udp, sctp } dnat ip addr . port to "
        + "ip daddr . meta l4proto . th dport map @addressed",
      "add rule \(table) ports meta l4proto { tcp, udp, sctp } dnat ip addr . port to "
        + "meta l4proto . th dport map @anywhere",
      // Before the service proxy's chains.
      "add chain \(table) prerouting { type nat hook prerouting priority -101 ; }",
      "add rule \(table) prerouting jump ports",
      "add chain \(table) output { type nat hook output priority -101 ; }",
      "add rule \(table) output jump ports",
      "add chain \(table) postrouting { type nat hook postrouting priority 99 ; }",
      "add rule \(table) postrouting ip saddr . ip daddr @hairpin masquerade",
      "add rule \(table) postrouting oifname \"\(bridge)\" ip saddr 127.0.0.0/8 masquerade",
    ]
    return lines.map { $0 + "\n" }.joined()
  }
}
