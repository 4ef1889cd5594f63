import KubeAPI

/// What the nodes say about what they and their pods use, asked of them when somebody wants to know.
struct NodeStatistics: Sendable {
  enum Limits {
    /// Nodes that are asked at the same time.
    static let concurrency = 32
    /// How long a node may take; one that takes longer is left out.
    static let patience: Duration = .seconds(5)
    /// The document of a node with many pods.
    static let documentBytes = 16 << 20
  }

  let nodes: NodeConnector

  /// The documents of those that answer, by the node's name.
  func summaries(of addresses: [NodeConnector.Address]) async -> [String: Value] {
    await withTaskGroup(of: (String, Value?).self) { group in
      var answers: [String: Value] = [:]
      var waiting = addresses[...]
      for _ in 0..<Limits.concurrency {
        guard let address = waiting.popFirst() else { break }
        group.addTask { (address.name, await summary(of: address)) }
      }
      while let (name, document) = await group.next() {
        answers[name] = document
        if let address = waiting.popFirst() {
          group.addTask { (address.name, await summary(of: address)) }
        }
      }
      return answers
    }
  }

  private func summary(of address: NodeConnector.Address) async -> Value? {
    await withTaskGroup(of: Value?.self) { group in
      group.addTask {
        guard let bytes = try? await nodes.document("/stats/summary", from: address) else { return nil }
        return try? Value(json: bytes)
      }
      group.addTask {
        try? await Task.sleep(for: Limits.patience)
        return nil
      }
      let first = await group.next() ?? nil
      group.cancelAll()
      return first
    }
  }
}

extension NodeConnector {
  /// The whole body of a GET that the node answers with 200.
  fileprivate func document(_ uri: String, from address: Address) async throws -> [UInt8]? {
    let answer = try await get(uri, from: address)
    defer { answer.close() }
    guard answer.head.status == 200 else { return nil }
    var bytes: [UInt8] = []
    while let piece = try await answer.next() {
      bytes += piece
      if bytes.count > NodeStatistics.Limits.documentBytes { return nil }
    }
    return bytes
  }
}

/// What the objects of metrics.k8s.io are made of. Pure.
///
/// Source: Kubernetes, "Resource metrics pipeline".
enum ResourceMetricsObjects {
  /// - Returns: nil where the node has not sampled twice yet, so that its rate isn't known.
  static func nodeMetrics(_ node: Value, _ summary: Value, now: Timestamp) -> Value? {
    let statistics = summary["node"]
    guard let usage = usage(statistics) else { return nil }
    return [
      "kind": "NodeMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
      "metadata": metadata(of: node, now: now), "timestamp": statistics["cpu"]["time"],
      "window": window(statistics), "usage": usage,
    ]
  }

  /// - Returns: nil where the pod isn't among those that its node told of, or one of its containers isn't.
  static func podMetrics(_ pod: Value, _ summary: Value, now: Timestamp) -> Value? {
    let uid = pod["metadata"]["uid"].string
    // The node knows a static pod by another uid than the API.
    let own = pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].string ?? uid
    guard
      let statistics = summary["pods"].elements.first(where: {
        $0["podRef"]["uid"].string == own
      })
    else { return nil }
    var containers: [Value] = []
    for container in statistics["containers"].elements {
      guard let usage = usage(container) else { return nil }
      containers.append(["name": container["name"], "usage": usage])
    }
    guard !containers.isEmpty else { return nil }
    let times = statistics["containers"].elements.map { $0["cpu"]["time"].string ?? "" }
    return [
      "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
      "metadata": metadata(of: pod, now: now), "timestamp": Value(times.min()),
      "window": window(statistics["containers"][0]), "containers": .array(containers),
    ]
  }

  private static func metadata(of object: Value, now: Timestamp) -> Value {
    var metadata: Value = ["name": object["metadata"]["name"]]
    let namespace = object["metadata"]["namespace"]
    if !namespace.isEmpty { metadata["namespace"] = namespace }
    metadata["creationTimestamp"] = Value(now)
    if !object["metadata"]["labels"].isEmpty {
      metadata["labels"] = object["metadata"]["labels"]
    }
    return metadata
  }

  private static func window(_ statistics: Value) -> Value {
    let window = statistics["cpu"]["window"]
    return window.isEmpty ? "0s" : window
  }

  private static func usage(_ statistics: Value) -> Value? {
    guard let cpu = statistics["cpu"]["usageNanoCores"].integer, cpu >= 0,
      let memory = statistics["memory"]["workingSetBytes"].integer, memory >= 0
    else { return nil }
    return ["cpu": Value(cpu == 0 ? "0" : "\(cpu)n"), "memory": Value("\(memory / 1_024)Ki")]
  }
}
