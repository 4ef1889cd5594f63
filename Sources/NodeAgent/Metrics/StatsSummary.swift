import KubeAPI

/// `/stats/summary`: what the node and its pods use, as one document.
///
/// One field is ours: `window`, the time over which `usageNanoCores` is an average.
/// Source: Kubernetes, "Node metrics data", and the Summary API's v1alpha1 types.
enum StatsSummary {
  /// - Parameter files: the file system that holds pods and images, in bytes.
  static func document(
    _ snapshot: ResourceSampler.Snapshot, nodeName: String, memoryBytes: Int64,
    files: (total: Int64, available: Int64)?, bootedAt: Timestamp
  ) -> Value {
    var node: Value = ["nodeName": Value(nodeName), "startTime": Value(bootedAt)]
    if let sample = snapshot.node {
      node["cpu"] = cpu(sample)
      node["memory"] = memory(sample.usage)
      node["memory"]["availableBytes"] = Value(
        max(0, memoryBytes - Int64(clamping: sample.usage.workingSetBytes)))
      if let files {
        node["fs"] = [
          "time": Value(sample.usage.time), "availableBytes": Value(files.available),
          "capacityBytes": Value(files.total), "usedBytes": Value(files.total - files.available),
        ]
      }
    }
    return ["node": node, "pods": .array(snapshot.pods.map(pod))]
  }

  private static func pod(_ pod: ResourceSampler.Pod) -> Value {
    var value: Value = [
      "podRef": [
        "name": Value(pod.name), "namespace": Value(pod.namespace), "uid": Value(pod.uid),
      ],
      "startTime": Value(pod.startedAt),
      "containers": .array(
        pod.containers.map { container in
          [
            "name": Value(container.name), "startTime": Value(container.startedAt),
            "cpu": cpu(container.sample), "memory": memory(container.sample.usage),
          ]
        }),
    ]
    if let sample = pod.sample {
      value["cpu"] = cpu(sample)
      value["memory"] = memory(sample.usage)
    }
    return value
  }

  private static func cpu(_ sample: ResourceSampler.Sample) -> Value {
    var value: Value = ["time": Value(sample.usage.time)]
    if let rate = sample.cpuNanoCores, let window = sample.window {
      value["usageNanoCores"] = Value(rate)
      let (seconds, attoseconds) = window.components
      let milliseconds = String(attoseconds / 1_000_000_000_000_000)
      value["window"] = Value(
        "\(seconds).\(String(repeating: "0", count: 3 - milliseconds.count))\(milliseconds)s")
    }
    value["usageCoreNanoSeconds"] = Value(sample.usage.cpuNanoseconds)
    return value
  }

  private static func memory(_ usage: ResourceUsage) -> Value {
    [
      "time": Value(usage.time), "usageBytes": Value(usage.memoryBytes),
      "workingSetBytes": Value(usage.workingSetBytes), "rssBytes": Value(usage.residentBytes),
      "pageFaults": Value(usage.pageFaults), "majorPageFaults": Value(usage.majorPageFaults),
    ]
  }
}
