import KubeAPI

/// The pods behind a Service, and the ports by which each of them serves it.
///
/// Source: Kubernetes, "Service", "EndpointSlices", "Pod Lifecycle" (terminating endpoints).
enum ServiceEndpoints {
  /// Pods that may be endpoints: those with an address in which something still runs.
  static func candidates(_ service: ServiceView, _ pods: [PodView]) -> [PodView] {
    guard !service.selector.isEmpty else { return [] }
    let selector = LabelSelector(labels: service.selector)
    return pods.filter { pod in
      selector.matches(pod.labels) && !pod.isFinished && !addresses(of: pod).isEmpty
    }
  }

  static func addresses(of pod: PodView) -> [String] {
    let all = pod.object["status"]["podIPs"].elements.compactMap { $0["ip"].string }
    let first = pod.object["status"]["podIP"].string ?? ""
    return (all.isEmpty ? [first] : all).filter { IPAddress.isValid($0) }
  }

  /// The family of addresses that a Service's endpoints have.
  static func isV6(_ service: ServiceView) -> Bool {
    if let family = service.object["spec"]["ipFamilies"][0].string { return family == "IPv6" }
    return service.addresses.first.map(IPAddress.isV6) ?? false
  }

  /// The ports of a Service as this pod serves them. A port's name that the pod doesn't know is left out.
  static func ports(_ service: ServiceView, _ pod: PodView) -> [Value] {
    service.ports.compactMap { port in
      let protocolName = port["protocol"].string ?? "TCP"
      let number: Int64?
      switch port["targetPort"] {
      case .integer(let target) where target > 0: number = target
      case .string(let name):
        let sidecars = pod.initContainers.filter { $0["restartPolicy"] == "Always" }
        number =
          (pod.containers + sidecars).lazy.flatMap { $0["ports"].elements }.first {
            $0["name"].string == name && ($0["protocol"].string ?? "TCP") == protocolName
          }?["containerPort"].integer
      default: number = port["port"].integer
      }
      guard let number else { return nil }
      var result: Value = [
        "name": Value(port["name"].string ?? ""), "port": Value(number),
        "protocol": Value(protocolName),
      ]
      if !port["appProtocol"].isEmpty { result["appProtocol"] = port["appProtocol"] }
      return result
    }
  }

  static func target(_ pod: PodView) -> Value {
    [
      "kind": "Pod", "namespace": Value(pod.namespace), "name": Value(pod.name),
      "uid": Value(pod.uid),
    ]
  }

  /// The host name that a pod has below a headless Service.
  static func hostname(_ service: ServiceView, _ pod: PodView) -> String? {
    guard let name = pod.object["spec"]["hostname"].string, !name.isEmpty,
      pod.object["spec"]["subdomain"].string == service.name
    else { return nil }
    return name
  }
}
