import ArgumentParser
import EtcdClient
import EtcdProto
import Foundation
import SwiftProtobuf

/// `martlet ctl check`
struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Check properties of the cluster.", subcommands: [Perf.self])

  struct Perf: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Check the performance of the cluster for 60 seconds.",
      discussion:
        "Writes at a fixed rate, with keys of 256 bytes and values of 1,024, and removes them again."
    )
    @OptionGroup var options: CtlOptions
    @Option(help: "s (150 writes/s), m (1000), l (8000) or xl (15000).") var load = "s"
    @Option(help: "The prefix for writing the check's keys.") var prefix = "/etcdctl-check-perf/"
    @Flag(help: "Compact storage with last revision after the check.") var autoCompact = false
    @Flag(help: "Defragment storage after the check.") var autoDefrag = false
    @Option(help: .init("Seconds that it lasts.", visibility: .hidden)) var duration = 60

    /// Writes a second, and clients that send them: etcdctl's workloads.
    private static let loads: [String: (rate: Int, clients: Int)] = [
      "s": (150, 50), "small": (150, 50), "m": (1_000, 200), "medium": (1_000, 200),
      "l": (8_000, 500), "large": (8_000, 500), "xl": (15_000, 1_000), "xLarge": (15_000, 1_000),
    ]

    func run() async throws {
      guard let load = Self.loads[load] else {
        throw CtlFailure(.badFeature, "unknown load option \(load)")
      }
      guard duration > 0, duration <= 86_400 else {
        throw CtlFailure.arguments("--duration must be 1 to 86400")
      }
      let client = try await options.client()
      let (key, end) = try keyRange([prefix], isPrefix: true, isFromKey: false)
      let found: Etcdserverpb_RangeResponse = try await calling {
        try await client.call(
          "KV/Range",
          Etcdserverpb_RangeRequest.with {
            $0.key = key
            $0.rangeEnd = end
            $0.limit = 1
          }, isSafe: true)
      }
      guard found.kvs.isEmpty else {
        throw CtlFailure(
          .invalidInput,
          "prefix \(GoText.quoted(prefix)) has keys. Delete with etcdctl del --prefix \(prefix) first"
        )
      }
      let report = try await write(rate: load.rate, clients: load.clients)
      let deleted: Etcdserverpb_DeleteRangeResponse = try await calling {
        try await client.call(
          "KV/DeleteRange",
          Etcdserverpb_DeleteRangeRequest.with {
            $0.key = key
            $0.rangeEnd = end
          }, timeout: .seconds(30))
      }
      if autoCompact {
        let revision = deleted.header.revision
        CtlOutput.line("Compacting with revision \(revision)")
        let _: Etcdserverpb_CompactionResponse = try await calling {
          try await client.call(
            "KV/Compact",
            Etcdserverpb_CompactionRequest.with {
              $0.revision = revision
              $0.physical = true
            }, timeout: .seconds(30))
        }
        CtlOutput.line("Compacted with revision \(revision)")
      }
      if autoDefrag {
        for endpoint in options.endpointNames {
          CtlOutput.line("Defragmenting \(GoText.quoted(endpoint))")
          let member = try await options.client(endpoints: [endpoint])
          defer { member.close() }
          let _: Etcdserverpb_DefragmentResponse = try await calling {
            try await member.call("Maintenance/Defragment", Etcdserverpb_DefragmentRequest())
          }
          CtlOutput.line("Defragmented \(GoText.quoted(endpoint))")
        }
      }
      try report.print(wanted: load.rate)
    }

    private func write(rate: Int, clients: Int) async throws -> Report {
      let settings = try options.settings()
      let total = rate * duration
      let clock = ContinuousClock()
      let start = clock.now
      let prefix = Data(prefix.utf8)
      var report = Report()
      await withTaskGroup(of: Report.self) { group in
        for number in 0..<clients {
          group.addTask {
            let client = MessageClient(settings)
            defer { client.close() }
            var own = Report()
            // Each client has its own moments; together they make the rate.
            for index in stride(from: number, to: total, by: clients) {
              let due = start + .seconds(1) * index / rate
              try? await clock.sleep(until: due)
              let begun = clock.now
              if begun - start > .seconds(self.duration) + .seconds(5) { break }
              var key = Data(count: 256)
              key.withUnsafeMutableBytes {
                $0.storeBytes(of: UInt64.random(in: .min ... .max), as: UInt64.self)
              }
              let request = Etcdserverpb_PutRequest.with {
                $0.key = prefix + key
                $0.value = Data(count: 1_024)
              }
              do throws(StoreError) {
                let _: Etcdserverpb_PutResponse = try await client.call(
                  "KV/Put", request, timeout: .seconds(30))
                own.seconds.append(Self.seconds(clock.now - begun))
              } catch {
                own.errors["\(CtlFailure.text(of: error))", default: 0] += 1
              }
            }
            return own
          }
        }
        for await own in group { report.add(own) }
      }
      report.elapsed = Self.seconds(clock.now - start)
      return report
    }

    private static func seconds(_ duration: Duration) -> Double {
      Double(duration.components.seconds) + Double(duration.components.attoseconds) / 1e18
    }
  }

  private struct Report: Sendable {
    var seconds: [Double] = []
    var errors: [String: Int] = [:]
    var elapsed = 0.0

    mutating func add(_ other: Report) {
      seconds += other.seconds
      errors.merge(other.errors, uniquingKeysWith: +)
    }

    /// The bounds are etcdctl's: nine tenths of the rate, half a second, a tenth of a second.
    func print(wanted rate: Int) throws {
      var isGood = true
      func line(_ text: String, passes: Bool) {
        CtlOutput.line(text)
        if !passes { isGood = false }
      }
      if !errors.isEmpty {
        line("FAIL: too many errors", passes: false)
        for (error, count) in errors.sorted(by: { $0.key < $1.key }) {
          CtlOutput.line("FAIL: ERROR(\(error)) -> \(count)")
        }
      }
      let throughput = Double(seconds.count) / max(elapsed, 0.001)
      let isFast = throughput / Double(rate) > 0.9
      line(
        "\(isFast ? "PASS: Throughput is" : "FAIL: Throughput too low:") \(Int(throughput) + 1) writes/s",
        passes: isFast)
      let slowest = seconds.max() ?? 0
      line(
        (slowest > 0.5 ? "Slowest request took too long: " : "PASS: Slowest request took ")
          + String(format: "%fs", slowest), passes: slowest <= 0.5)
      let mean = seconds.reduce(0, +) / Double(max(seconds.count, 1))
      let deviation =
        (seconds.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
        / Double(max(seconds.count, 1))).squareRoot()
      line(
        (deviation > 0.1 ? "Stddev too high: " : "PASS: Stddev is ")
          + String(format: "%fs", deviation), passes: deviation <= 0.1)
      CtlOutput.line(isGood ? "PASS" : "FAIL")
      if !isGood { throw ExitCode(1) }
    }
  }
}
