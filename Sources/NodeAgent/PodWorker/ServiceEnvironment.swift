import KubeAPI

/// The variables by which a container finds services without DNS, named after them: the API's own among
/// them, which is how programs in pods find it.
///
/// Source: Kubernetes, "Discovering services", and Docker's links, whose names they repeat.
enum ServiceEnvironment {
  /// - Parameters:
  ///   - services: all that the node knows.
  ///   - hasLinks: whether the pod wants more than the API's (`enableServiceLinks`).
  static func variables(
    _ services: [Value], namespace: String, hasLinks: Bool
  ) -> [(name: String, value: String)] {
    // A service of the pod's own namespace goes before the API's, which every pod gets.
    let chosen = services.filter { service in
      let metadata = service["metadata"]
      let isMaster =
        metadata["name"].string == "kubernetes" && metadata["namespace"].string == "default"
      return isMaster || hasLinks && metadata["namespace"].string == namespace
    }.sorted { a, b in
      (a["metadata"]["name"].string ?? "", a["metadata"]["namespace"].string ?? "")
        < (b["metadata"]["name"].string ?? "", b["metadata"]["namespace"].string ?? "")
    }
    var variables: [(name: String, value: String)] = []
    for service in chosen {
      let spec = service["spec"]
      let ports = spec["ports"].elements
      guard let address = spec["clusterIP"].string, !address.isEmpty, address != "None",
        let first = ports.first
      else { continue }
      let prefix = name(service["metadata"]["name"].string ?? "")
      let host = address.contains(":") ? "[\(address)]" : address
      func number(_ port: Value) -> String { "\(port["port"].integer ?? 0)" }
      func transport(_ port: Value) -> String { (port["protocol"].string ?? "TCP").lowercased() }
      variables.append(("\(prefix)_SERVICE_HOST", address))
      variables.append(("\(prefix)_SERVICE_PORT", number(first)))
      for port in ports {
        if let own = port["name"].string, !own.isEmpty {
          variables.append(("\(prefix)_SERVICE_PORT_\(name(own))", number(port)))
        }
      }
      variables.append(("\(prefix)_PORT", "\(transport(first))://\(host):\(number(first))"))
      for port in ports {
        let link = "\(prefix)_PORT_\(number(port))_\(transport(port).uppercased())"
        variables.append((link, "\(transport(port))://\(host):\(number(port))"))
        variables.append((link + "_PROTO", transport(port)))
        variables.append((link + "_PORT", number(port)))
        variables.append((link + "_ADDR", address))
      }
    }
    return variables
  }

  private static func name(_ text: String) -> String {
    text.uppercased().replacing("-", with: "_")
  }
}
