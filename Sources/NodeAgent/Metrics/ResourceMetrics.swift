import KubeAPI

/// `/metrics/resource`: what the node and its pods use, for Prometheus and for metrics-server.
///
/// Source: Kubernetes, "Node metrics data"; Prometheus, "Exposition formats", text version 0.0.4.
enum ResourceMetrics {
  static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  static func text(_ snapshot: ResourceSampler.Snapshot) -> String {
    var text = ""
    func family(_ name: String, _ type: String, _ help: String, _ rows: [String]) {
      guard !rows.isEmpty else { return }
      text += "# HELP \(name) [STABLE] \(help)\n# TYPE \(name) \(type)\n"
      for row in rows { text += "\(name)\(row)\n" }
    }
    func containers(
      _ row: (ResourceSampler.Container) -> (value: String, time: Timestamp?)
    ) -> [String] {
      snapshot.pods.flatMap { pod in
        pod.containers.map { container in
          let labels = labels([
            ("container", container.name), ("namespace", pod.namespace), ("pod", pod.name),
          ])
          let (value, time) = row(container)
          return "\(labels) \(value)\(stamp(time))"
        }
      }
    }
    func pods(_ value: (ResourceUsage) -> String) -> [String] {
      snapshot.pods.compactMap { pod in
        pod.sample.map {
          "\(labels([("namespace", pod.namespace), ("pod", pod.name)])) \(value($0.usage))\(stamp($0.usage.time))"
        }
      }
    }
    func node(_ value: (ResourceUsage) -> String) -> [String] {
      snapshot.node.map { [" \(value($0.usage))\(stamp($0.usage.time))"] } ?? []
    }
    family(
      "container_cpu_usage_seconds_total", "counter",
      "Cumulative cpu time consumed by the container in core-seconds",
      containers { (seconds($0.sample.usage.cpuNanoseconds), $0.sample.usage.time) })
    family(
      "container_memory_working_set_bytes", "gauge",
      "Current working set of the container in bytes",
      containers { ("\($0.sample.usage.workingSetBytes)", $0.sample.usage.time) })
    family(
      "container_start_time_seconds", "gauge",
      "Start time of the container since unix epoch in seconds",
      containers { (seconds($0.startedAt), nil) })
    family(
      "node_cpu_usage_seconds_total", "counter",
      "Cumulative cpu time consumed by the node in core-seconds",
      node { seconds($0.cpuNanoseconds) })
    family(
      "node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes",
      node { "\($0.workingSetBytes)" })
    family(
      "pod_cpu_usage_seconds_total", "counter",
      "Cumulative cpu time consumed by the pod in core-seconds",
      pods { seconds($0.cpuNanoseconds) })
    family(
      "pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes",
      pods { "\($0.workingSetBytes)" })
    family(
      "resource_scrape_error", "gauge",
      "1 if there was an error while getting container metrics, 0 otherwise",
      [" \(snapshot.node == nil ? 1 : 0)"])
    return text
  }

  private static func labels(_ labels: [(String, String)]) -> String {
    // Names of objects have nothing in them that would need escaping.
    "{" + labels.map { "\($0.0)=\"\($0.1)\"" }.joined(separator: ",") + "}"
  }

  private static func stamp(_ time: Timestamp?) -> String {
    time.map { " \($0.secondsSinceEpoch * 1_000 + Int64($0.nanoseconds) / 1_000_000)" } ?? ""
  }

  private static func seconds(_ nanoseconds: UInt64) -> String {
    decimal(nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000)
  }

  private static func seconds(_ time: Timestamp) -> String {
    decimal(UInt64(clamping: time.secondsSinceEpoch), UInt64(clamping: time.nanoseconds))
  }

  private static func decimal(_ whole: UInt64, _ nanoseconds: UInt64) -> String {
    guard nanoseconds > 0 else { return "\(whole)" }
    let digits = String(nanoseconds)
    var fraction = String(repeating: "0", count: 9 - digits.count) + digits
    while fraction.last == "0" { fraction.removeLast() }
    return "\(whole).\(fraction)"
  }
}
