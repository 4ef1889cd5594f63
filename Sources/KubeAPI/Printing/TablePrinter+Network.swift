extension TablePrinter {
  static let service = TablePrinter(columns: [
    .name,
    Column("Type", description: "How the service is reached."),
    Column("Cluster-IP", description: "The service's address inside the cluster."),
    Column("External-IP", description: "The service's address outside the cluster."),
    Column("Port(s)", description: "The service's ports."),
    .age,
    Column("Selector", isWide: true, description: "The labels by which pods are found."),
  ]) { service, now in
    let spec = service["spec"]
    let ports = spec["ports"].elements.map { port in
      let number = port["port"].integer ?? 0
      let node = port["nodePort"].integer ?? 0
      let name = port["protocol"].string ?? ""
      return node > 0 ? "\(number):\(node)/\(name)" : "\(number)/\(name)"
    }
    return [
      Cell.name(service), Cell.text(spec["type"]),
      Cell.text(
        spec["clusterIPs"][0].isNull ? spec["clusterIP"] : spec["clusterIPs"][0],
        default: "<none>"),
      .string(externalAddresses(service)),
      .string(ports.isEmpty ? "<none>" : ports.joined(separator: ",")),
      Cell.age(service, now), Cell.labels(spec["selector"]),
    ]
  }

  private static func externalAddresses(_ service: Value) -> String {
    let spec = service["spec"]
    let own = spec["externalIPs"].strings
    switch spec["type"].string {
    case "ExternalName": return spec["externalName"].string ?? ""
    case "LoadBalancer":
      let balancer = service["status"]["loadBalancer"]["ingress"].elements.compactMap {
        $0["ip"].string ?? $0["hostname"].string
      }
      let all = balancer + own
      return all.isEmpty ? "<pending>" : all.joined(separator: ",")
    default: return own.isEmpty ? "<none>" : own.joined(separator: ",")
    }
  }

  /// How many items of a list are named before the rest is only counted.
  private static let shownItems = 3

  private static func shortened(_ items: [String], separator: String) -> String {
    let shown = items.prefix(shownItems).joined(separator: separator)
    return items.count > shownItems
      ? "\(shown) + \(items.count - shownItems) more..." : shown
  }

  static let endpoints = TablePrinter(columns: [
    .name, Column("Endpoints", description: "Addresses and ports that are ready."), .age,
  ]) { object, now in
    var items: [String] = []
    for subset in object["subsets"].elements {
      for address in subset["addresses"].elements {
        let ip = address["ip"].string ?? ""
        let ports = subset["ports"].elements
        if ports.isEmpty { items.append(ip) }
        for port in ports {
          let host = ip.contains(":") ? "[\(ip)]" : ip
          items.append("\(host):\(port["port"].integer ?? 0)")
        }
      }
    }
    return [
      Cell.name(object), .string(items.isEmpty ? "<none>" : shortened(items, separator: ",")),
      Cell.age(object, now),
    ]
  }

  static let endpointSlice = TablePrinter(columns: [
    .name,
    Column("AddressType", description: "What kind of addresses these are."),
    Column("Ports", description: "The ports of all endpoints."),
    Column("Endpoints", description: "The addresses."),
    .age,
  ]) { object, now in
    let ports = object["ports"].elements.map { port in
      port["port"].integer.map { String($0) } ?? port["name"].string ?? "*"
    }
    let addresses = object["endpoints"].elements.flatMap { $0["addresses"].strings }
    return [
      Cell.name(object), Cell.text(object["addressType"]),
      .string(ports.isEmpty ? "<unset>" : shortened(ports, separator: ",")),
      .string(addresses.isEmpty ? "<unset>" : shortened(addresses, separator: ",")),
      Cell.age(object, now),
    ]
  }
}
