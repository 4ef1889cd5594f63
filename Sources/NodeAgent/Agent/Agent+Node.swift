import KubeAPI
import KubeClient
import Logging

/// The node's own objects in the API: its Node and its Lease; and its routes to others.
extension Agent {
  /// Registers the node, then keeps its status true.
  ///
  /// - Throws: where this machine can't be a node of this cluster.
  func keepNode(port: Int) async throws {
    var isRegistered = false
    var hasWarned = false
    var lastReport: ContinuousClock.Instant?
    var lastStatus: Value = .null
    while !Task.isCancelled {
      let facts = MachineFacts.read(directory: settings.directory, addresses: [settings.address])
      let images = (try? await runtime.listImages()) ?? []
      let node = NodeObject(
        name: settings.nodeName, port: port, runtimeVersion: runtime.version,
        version: settings.version, images: images, podBlock: runtime.network?.settings.block)
      var delay = settings.statusInterval
      do {
        if !isRegistered {
          try await register(node, facts)
          isRegistered = true
        }
        let known = try await client.get(.nodes, name: settings.nodeName)
        let status = node.status(facts, previous: known["status"], now: .wallClock())
        let comparable = Self.withoutHeartbeats(status)
        let isDue = lastReport.map { ContinuousClock.now - $0 >= Limits.statusReport } ?? true
        if isDue || comparable != lastStatus || !Self.isReady(known) {
          try await client.patch(
            .nodes, name: settings.nodeName, .merge, ["status": status], subresource: "status")
          lastReport = .now
          lastStatus = comparable
        }
        hasWarned = false
      } catch let error as StatusError where error.code == 404 {
        // Somebody deleted the node while it lives.
        isRegistered = false
        delay = Limits.retry
      } catch let error as RuntimeError {
        throw error
      } catch {
        // Once: an API server that is away is away for every try.
        if !hasWarned { logger.warning("the node's status could not be written: \(error)") }
        hasWarned = true
        delay = Limits.retry
      }
      try? await Task.sleep(for: delay)
    }
  }

  private func register(_ node: NodeObject, _ facts: MachineFacts) async throws {
    try await checkPodBlock()
    do {
      try await client.create(.nodes, node.object(facts, now: .wallClock()))
      logger.info("registered node \(settings.nodeName)")
    } catch let error as StatusError where error.code == 409 {
      try await client.patch(
        .nodes, name: settings.nodeName, .merge, ["metadata": ["labels": node.labels(facts)]])
      if let block = runtime.network?.settings.block {
        // It is written once: where another block was given before, the API server refuses.
        try await client.patch(
          .nodes, name: settings.nodeName, .merge,
          ["spec": ["podCIDR": Value(block.description), "podCIDRs": [Value(block.description)]]])
      }
    }
  }

  /// Two nodes with the same addresses for their pods would take each other's traffic.
  private func checkPodBlock() async throws {
    guard let block = runtime.network?.settings.block else { return }
    for node in try await client.list(.nodes)["items"].elements {
      guard let name = node["metadata"]["name"].string, name != settings.nodeName,
        let other = node["spec"]["podCIDR"].string.flatMap({ IPv4Block($0) }),
        other.contains(block.base) || block.contains(other.base)
      else { continue }
      throw RuntimeError(
        .network,
        "the pods of node \(name) have the addresses \(other): give this node others with --pod-cidr")
    }
  }

  /// Routes the other nodes' pods to their nodes, which must be neighbours of this one.
  func keepRoutes() async {
    let nodes = Informer(.nodes, client: client, log: logger)
    nodes.addHandler { [settings, runtime, logger] change in
      let node = change.object
      guard let network = runtime.network,
        node["metadata"]["name"].string != settings.nodeName,
        let block = node["spec"]["podCIDR"].string.flatMap({ IPv4Block($0) })
      else { return }
      if case .deleted = change { return network.deleteRoute(to: block) }
      let addresses = node["status"]["addresses"].elements
      guard
        let address = addresses.first(where: { $0["type"].string == "InternalIP" })?["address"]
          .string.flatMap({ IPv4Address($0) })
      else { return }
      if case .updated(let old, _) = change, old["status"]["addresses"] == node["status"]["addresses"],
        old["spec"]["podCIDR"] == node["spec"]["podCIDR"]
      {
        return
      }
      do {
        try network.addRoute(to: block, via: address)
      } catch {
        logger.warning("no route to the pods of node \(node["metadata"]["name"]): \(error)")
      }
    }
    await nodes.run()
  }

  private static func withoutHeartbeats(_ status: Value) -> Value {
    var status = status
    status["conditions"] = .array(
      status["conditions"].elements.map { condition in
        var condition = condition
        condition["lastHeartbeatTime"] = .null
        return condition
      })
    return status
  }

  private static func isReady(_ node: Value) -> Bool {
    node["status"]["conditions"].elements.contains {
      $0["type"].string == "Ready" && $0["status"].string == "True"
    }
  }

  /// Renews the lease by which the control plane sees that the node lives.
  func keepLease() async {
    let namespace = "kube-node-lease"
    while !Task.isCancelled {
      var delay = Duration.seconds(settings.leaseSeconds) / 4
      let spec: Value = [
        "holderIdentity": Value(settings.nodeName),
        "leaseDurationSeconds": Value(settings.leaseSeconds),
        "renewTime": Value(Timestamp.wallClock().microDescription),
      ]
      do {
        do {
          try await client.patch(
            .leases, namespace: namespace, name: settings.nodeName, .merge, ["spec": spec])
        } catch let error as StatusError where error.code == 404 {
          try await client.create(
            .leases, namespace: namespace,
            [
              "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
              "metadata": ["name": Value(settings.nodeName), "namespace": Value(namespace)],
              "spec": spec,
            ])
        }
      } catch {
        logger.debug("the lease could not be renewed: \(error)")
        delay = Limits.retry
      }
      try? await Task.sleep(for: delay)
    }
  }
}
