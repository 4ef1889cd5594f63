import Foundation
import Histogram

/// The result of a run, for people and for programs.
struct Report: Codable {
  struct Latency: Codable {
    /// Milliseconds.
    var mean, p50, p90, p99, p999, max: Double
  }

  struct Process: Codable {
    var pid: Int32
    var cpuSeconds: Double
    var residentBytes: Int
  }

  var command: String
  var label: String
  var connections: Int
  var outstanding: Int
  var keySize: Int
  var valueSize: Int
  /// Requests per second asked for; nil for a closed loop.
  var rate: Double?
  var seconds: Double
  /// Requests that succeeded.
  var requests: UInt64
  var requestsPerSecond: Double
  var latency: Latency
  var errors: [String: UInt64]
  /// Transactions that took the other branch.
  var conflicts: UInt64
  /// Gets that found nothing.
  var misses: UInt64
  /// Requests that were due but never sent.
  var unsent: UInt64
  var generatorCPUSeconds: Double
  var generatorCPUMicrosecondsPerRequest: Double
  var processes: [Process]
  /// Of all watched processes together.
  var cpuMicrosecondsPerRequest: Double?
  var flushes: UInt64?
  var flushesPerRequest: Double?

  init(command: String, options: RunOptions, measured: LoadRun.Measurement) {
    let recorder = measured.recorder
    self.command = command
    label = options.label
    connections = options.connections
    outstanding = options.outstanding
    keySize = options.keySize
    valueSize = options.valueSize
    rate = options.rate
    seconds = measured.seconds
    requests = recorder.completed
    requestsPerSecond = seconds > 0 ? Double(requests) / seconds : 0
    func milliseconds(_ percentile: Double) -> Double {
      Double(recorder.latencies.valueAtPercentile(percentile)) / 1e6
    }
    latency = Latency(
      mean: requests > 0 ? recorder.latencies.mean / 1e6 : 0, p50: milliseconds(50),
      p90: milliseconds(90), p99: milliseconds(99), p999: milliseconds(99.9),
      max: requests > 0 ? Double(recorder.latencies.max) / 1e6 : 0)
    errors = recorder.errors
    conflicts = recorder.conflicts
    misses = recorder.misses
    unsent = measured.unsent
    let (before, after) = (measured.before, measured.after)
    let count = Double(max(requests, 1))
    generatorCPUSeconds = after.ownCPUSeconds - before.ownCPUSeconds
    generatorCPUMicrosecondsPerRequest = generatorCPUSeconds * 1e6 / count
    processes = options.watchPid.enumerated().map { index, pid in
      Process(
        pid: pid, cpuSeconds: after.cpuSeconds[index] - before.cpuSeconds[index],
        residentBytes: after.residentBytes[index])
    }
    if !processes.isEmpty {
      cpuMicrosecondsPerRequest = processes.map(\.cpuSeconds).reduce(0, +) * 1e6 / count
    }
    if let first = before.flushes, let last = after.flushes {
      flushes = last - first
      flushesPerRequest = Double(last - first) / count
    }
  }

  var failed: UInt64 { errors.values.reduce(0, +) }

  /// The result as a table.
  var table: String {
    var lines: [(String, String)] = []
    func add(_ name: String, _ value: String) { lines.append((name, value)) }
    func number(_ value: Double, _ digits: Int = 3) -> String {
      String(format: "%.\(digits)f", value)
    }
    add("load", "\(connections) connections x \(outstanding), values of \(valueSize) bytes")
    add("requests", "\(requests) in \(number(seconds)) s")
    add("requests/s", number(requestsPerSecond, 0) + (rate.map { " of \(number($0, 0))" } ?? ""))
    add("latency mean", number(latency.mean) + " ms")
    add("p50, p90", number(latency.p50) + " ms, " + number(latency.p90) + " ms")
    add("p99, p99.9", number(latency.p99) + " ms, " + number(latency.p999) + " ms")
    add("max", number(latency.max) + " ms")
    if conflicts > 0 { add("conflicts", "\(conflicts)") }
    if misses > 0 { add("not found", "\(misses)") }
    if unsent > 0 { add("due, never sent", "\(unsent)") }
    add(
      "generator CPU",
      number(generatorCPUSeconds) + " s, "
        + number(generatorCPUMicrosecondsPerRequest, 2) + " us/request")
    for process in processes {
      add(
        "process \(process.pid)",
        number(process.cpuSeconds, 2) + " s CPU, \(process.residentBytes >> 20) MiB resident")
    }
    if let cpu = cpuMicrosecondsPerRequest { add("servers' CPU", number(cpu, 2) + " us/request") }
    if let flushes, let perRequest = flushesPerRequest {
      add("disk flushes", "\(flushes), " + number(perRequest, 4) + "/request")
    }
    add("errors", "\(failed)")
    for (error, count) in errors.sorted(by: { $0.value > $1.value }) {
      add("", "\(count) x \(error)")
    }
    let width = lines.map(\.0.count).max() ?? 0
    let title = label.isEmpty ? command : "\(command) (\(label))"
    return
      ([title]
      + lines.map { name, value in
        "  " + name.padding(toLength: width + 2, withPad: " ", startingAt: 0) + value
      }).joined(separator: "\n")
  }

  /// Prints the table and writes the file that was asked for.
  func publish(to path: String?) throws {
    print(table)
    guard let path else { return }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    try encoder.encode(self).write(to: URL(fileURLWithPath: path))
  }
}
