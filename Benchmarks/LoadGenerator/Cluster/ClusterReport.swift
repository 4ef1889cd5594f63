import Foundation

/// What a run of `martlet-bench cluster` found, for people and for programs.
struct ClusterReport: Codable, Sendable {
  /// Since the beginning of a phase.
  struct Usage: Codable, Sendable {
    var seconds: Double
    /// User and system time of each watched process.
    var cpuSeconds: [Double]
    var residentBytes: [Int]
    /// Of the simulated nodes and the counting.
    var ownCPUSeconds: Double

    init(from start: ResourceSample, to end: ResourceSample) {
      seconds = end.time - start.time
      cpuSeconds = zip(end.cpuSeconds, start.cpuSeconds).map { $0 - $1 }
      residentBytes = end.residentBytes
      ownCPUSeconds = end.ownCPUSeconds - start.ownCPUSeconds
    }
  }

  struct Phase: Codable, Sendable {
    var name: String
    var count: Int
    var usage: Usage
  }

  var nodes: Int
  var replicas: Int
  var isPassive: Bool
  /// The names of the watched processes.
  var processes: [String]
  /// Pods' milestones count from the creation of the Deployment, `gone` from its deletion.
  var phases: [Phase] = []
  /// Nodes renew their leases, pods run, nothing changes.
  var rest: Usage?

  init(options: Cluster) {
    nodes = options.nodes
    replicas = options.replicas
    isPassive = options.passive
    processes = options.watch.map(\.name)
  }

  mutating func add(_ name: String, _ count: Int, _ usage: Usage) {
    phases.append(Phase(name: name, count: count, usage: usage))
  }

  /// The result as a table.
  var table: String {
    func number(_ value: Double, _ digits: Int = 2) -> String {
      String(format: "%.\(digits)f", value)
    }
    var rows = [
      ["", "s", "per s", "CPU s", "CPU us each"] + processes.map { "\($0) CPU s" } + ["bench CPU s"]
    ]
    func row(_ name: String, _ count: Int?, _ usage: Usage) {
      let total = usage.cpuSeconds.reduce(0, +)
      rows.append(
        [
          name, number(usage.seconds), count.map { number(Double($0) / usage.seconds, 0) } ?? "",
          number(total), count.map { number(total * 1e6 / Double($0), 0) } ?? "",
        ] + usage.cpuSeconds.map { number($0) } + [number(usage.ownCPUSeconds)])
    }
    for phase in phases { row(phase.name, phase.count, phase.usage) }
    if let rest { row("at rest", nil, rest) }
    if let last = phases.last {
      rows.append(
        ["resident MiB", "", "", "", ""]
          + last.usage.residentBytes.map { number(Double($0) / 1_048_576, 0) } + [""])
    }
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    let title =
      "\(replicas) replicas on \(nodes) simulated nodes" + (isPassive ? " that run nothing" : "")
    return
      ([title]
      + rows.map { row in
        zip(row, widths).enumerated().map { column, cell in
          let padding = String(repeating: " ", count: cell.1 - cell.0.count)
          return column == 0 ? cell.0 + padding : padding + cell.0
        }.joined(separator: "  ")
      }).joined(separator: "\n")
  }
}
