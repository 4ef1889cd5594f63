import KubeAPI

/// What a node does with packets to services: every service port, and where its packets go.
///
/// Pure data, compiled from Services and EndpointSlices (``compile(services:slices:node:)``), printed as
/// nftables commands by ``NftScript``, and compared, so that a change of one service touches nothing of
/// another.
public struct RuleSet: Equatable, Sendable {
  /// By ``ServicePort/id``.
  public var ports: [String: ServicePort] = [:]

  public init() {}

  public init(_ ports: some Sequence<ServicePort>) {
    for port in ports { self.ports[port.id] = port }
  }
}

/// One port of one service.
public struct ServicePort: Equatable, Sendable {
  public enum Transport: String, Sendable {
    case tcp, udp, sctp
  }

  /// An address and port that packets are sent to.
  public struct Target: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var address: String
    public var port: Int
    public var description: String { "\(address):\(port)" }
    public static func < (a: Self, b: Self) -> Bool { (a.address, a.port) < (b.address, b.port) }
  }

  /// `namespace/name:port`, for people.
  public var name: String
  public var transport: Transport
  public var port: Int
  /// The addresses inside of the cluster.
  public var clusterAddresses: [String]
  /// Addresses by which it is known outside: external ones and those of a load balancer.
  public var externalAddresses: [String]
  /// A port of every node; nil without one.
  public var nodePort: Int?
  /// Where packets from inside go, in order.
  public var targets: [Target]
  /// Where packets from outside go; differs where only this node's pods are to have them.
  public var externalTargets: [Target]
  /// Whether packets from outside keep their source address, since they only go to this node's pods.
  public var keepsSource: Bool
  /// How long a client stays with its target, in seconds; nil for no time at all.
  public var affinitySeconds: Int64?

  /// Names the port's chain; stable as long as the service has that port.
  public var id: String {
    // FNV-1a: the names must be the same in every process.
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in "\(name)/\(transport.rawValue)/\(port)".utf8 {
      hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3
    }
    let text = String(hash, radix: 16)
    return String(repeating: "0", count: 16 - text.count) + text
  }
}

extension RuleSet {
  /// - Parameters:
  ///   - services: Service objects.
  ///   - slices: EndpointSlices by the service they belong to, as `namespace/name`.
  ///   - node: the name of this node, for policies that keep traffic on it.
  public static func compile(
    services: [Value], slices: [String: [Value]], node: String
  ) -> RuleSet {
    RuleSet(
      services.flatMap { service in
        let metadata = service["metadata"]
        let key = "\(metadata["namespace"].string ?? "")/\(metadata["name"].string ?? "")"
        return compile(service, slices[key] ?? [], node: node)
      })
  }

  /// The ports of one service.
  static func compile(_ service: Value, _ slices: [Value], node: String) -> [ServicePort] {
    let spec = service["spec"]
    let type = spec["type"].string ?? "ClusterIP"
    guard type != "ExternalName" else { return [] }
    let metadata = service["metadata"]
    let name = "\(metadata["namespace"].string ?? "")/\(metadata["name"].string ?? "")"
    var addresses = spec["clusterIPs"].strings
    if addresses.isEmpty, let address = spec["clusterIP"].string { addresses = [address] }
    addresses = addresses.filter(isIPv4)
    // Headless services are found by name: nobody sends them packets.
    guard !addresses.isEmpty else { return [] }
    var external = spec["externalIPs"].strings
    if type == "LoadBalancer" {
      external += service["status"]["loadBalancer"]["ingress"].elements.compactMap {
        // With the mode Proxy the load balancer hands connections to the node itself.
        $0["ipMode"].string == "Proxy" ? nil : $0["ip"].string
      }
    }
    let internalIsLocal = spec["internalTrafficPolicy"].string == "Local"
    let externalIsLocal = spec["externalTrafficPolicy"].string == "Local"
    let affinity: Int64? =
      spec["sessionAffinity"].string == "ClientIP"
      ? spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].integer ?? 10_800 : nil
    return spec["ports"].elements.compactMap { port in
      guard let number = port["port"].int, (1...65_535).contains(number),
        let transport = ServicePort.Transport(
          rawValue: (port["protocol"].string ?? "TCP").lowercased())
      else { return nil }
      let portName = port["name"].string ?? ""
      let endpoints = Endpoints(slices, port: portName, transport: transport)
      return ServicePort(
        name: portName.isEmpty ? name : "\(name):\(portName)", transport: transport, port: number,
        clusterAddresses: addresses, externalAddresses: external.filter(isIPv4),
        nodePort: port["nodePort"].int.flatMap { (1...65_535).contains($0) ? $0 : nil },
        targets: endpoints.targets(only: internalIsLocal ? node : nil),
        externalTargets: endpoints.targets(only: externalIsLocal ? node : nil),
        keepsSource: externalIsLocal, affinitySeconds: affinity)
    }
  }

  /// What comes from the API goes into a program for the kernel: only addresses may.
  static func isIPv4(_ text: String) -> Bool {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts.allSatisfy { part in UInt8(part).map { "\($0)" == part } ?? false }
  }

  /// The endpoints of one service port, gathered from its slices.
  private struct Endpoints {
    private struct Endpoint: Hashable {
      var target: ServicePort.Target
      var node: String
    }
    /// Endpoints that are ready; where there is none, those that still serve while they end.
    private var usable: Set<Endpoint> = []

    init(_ slices: [Value], port name: String, transport: ServicePort.Transport) {
      var ready: Set<Endpoint> = []
      var ending: Set<Endpoint> = []
      for slice in slices where slice["addressType"].string == "IPv4" {
        guard
          let port = slice["ports"].elements.first(where: {
            ($0["name"].string ?? "") == name
              && ($0["protocol"].string ?? "TCP").lowercased() == transport.rawValue
          })?["port"].int, (1...65_535).contains(port)
        else { continue }
        for endpoint in slice["endpoints"].elements {
          guard let address = endpoint["addresses"].strings.first, RuleSet.isIPv4(address) else {
            continue
          }
          let conditions = endpoint["conditions"]
          let entry = Endpoint(
            target: .init(address: address, port: port), node: endpoint["nodeName"].string ?? "")
          if conditions["ready"].bool ?? true {
            ready.insert(entry)
          } else if conditions["serving"].bool ?? false, conditions["terminating"].bool ?? false {
            ending.insert(entry)
          }
        }
      }
      usable = ready.isEmpty ? ending : ready
    }

    func targets(only node: String?) -> [ServicePort.Target] {
      Set(usable.filter { node == nil || $0.node == node }.map(\.target)).sorted()
    }
  }
}
