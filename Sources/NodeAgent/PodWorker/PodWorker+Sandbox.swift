import KubeAPI

/// The pod's environment.
extension PodWorker {
  func createSandbox(_ attempt: Int) async {
    let spec = pod.object["spec"]
    var configuration = SandboxConfiguration(
      name: pod.name, namespace: pod.namespace, uid: pod.uid)
    configuration.attempt = attempt
    configuration.network = pod.usesHostNetwork ? .host : .pod
    configuration.hostname =
      pod.usesHostNetwork
      ? environment.nodeName : String((spec["hostname"].string ?? pod.name).prefix(63))
    configuration.usesHostIPC = spec["hostIPC"].bool ?? false
    configuration.usesHostPID = spec["hostPID"].bool ?? false
    configuration.resolverConfiguration = Self.resolverConfiguration(
      spec, node: environment.resolverConfiguration)
    configuration.hostAliases = spec["hostAliases"].elements.map {
      .init(address: $0["ip"].string ?? "", names: $0["hostnames"].strings)
    }
    configuration.memoryVolumes = volumes.memoryVolumes(pod)
    configuration.hostPorts = HostPort.wanted(pod)
    do {
      _ = try await environment.runtime.runPodSandbox(configuration)
      lifecycle.sandboxCreated()
    } catch {
      announce(
        "FailedCreatePodSandBox", "Failed to create pod sandbox: \(error)", isWarning: true)
      lifecycle.sandboxFailed("\(error)", now: .wallClock())
    }
  }

  /// The pod's resolv.conf: its own with policy None, else the node's, with the pod's additions.
  static func resolverConfiguration(_ spec: Value, node: String) -> String {
    let own = spec["dnsConfig"]
    var text = spec["dnsPolicy"].string == "None" ? "" : node
    if !text.isEmpty, !text.hasSuffix("\n") { text += "\n" }
    for address in own["nameservers"].strings { text += "nameserver \(address)\n" }
    if !own["searches"].strings.isEmpty {
      text += "search \(own["searches"].strings.joined(separator: " "))\n"
    }
    let options = own["options"].elements.compactMap { option in
      option["name"].string.map { name in name + (option["value"].string.map { ":" + $0 } ?? "") }
    }
    if !options.isEmpty { text += "options \(options.joined(separator: " "))\n" }
    return text
  }
}
