/// Which addresses and node ports a Service holds and still needs: what an allocator asks of it.
public struct ServiceView: ObjectView {
  public let object: Value
  public init(_ object: Value) { self.object = object }

  public var type: String { object["spec"]["type"].string ?? "ClusterIP" }
  public var selector: Value { object["spec"]["selector"] }
  public var isHeadless: Bool { object["spec"]["clusterIP"] == "None" }
  public var ports: [Value] { object["spec"]["ports"].elements }
  public var needsAddress: Bool { ServiceStrategy.needsAddress(object["spec"]) }
  public var needsNodePorts: Bool { ServiceStrategy.needsNodePorts(object["spec"]) }
  public var needsHealthPort: Bool { ServiceStrategy.needsHealthPort(object["spec"]) }

  /// The cluster addresses that it has.
  public var addresses: [String] {
    let all = object["spec"]["clusterIPs"].strings
    let first = object["spec"]["clusterIP"].string ?? ""
    return (all.isEmpty ? [first] : all).filter { !$0.isEmpty && $0 != "None" }
  }

  /// The node ports that it has, its health check's among them; each once.
  public var nodePorts: [Int64] {
    var ports: [Int64] = []
    for port in self.ports.map({ $0["nodePort"] }) + [object["spec"]["healthCheckNodePort"]] {
      if let number = port.integer, number > 0, !ports.contains(number) { ports.append(number) }
    }
    return ports
  }
}
