import Foundation
import Testing

@testable import EtcdServer
@testable import Replica

/// The metrics that `Docs/Compatibility.md` lists, which are those of etcd's dashboard and alerts, are served.
@Suite struct MetricsTests {
  /// A front whose members and timings are there to be shown.
  private func page() -> String {
    var page = PrometheusPage()
    var histogram = DurationHistogram()
    histogram.record(seconds: 0.0015)
    histogram.record(seconds: 100)
    page.histogram("h", "Help.", [("To=\"a\"", histogram)])
    return page.text
  }

  @Test("A histogram's buckets add up, and its sum and count are there")
  func histogram() {
    let text = page()
    #expect(text.hasPrefix("# HELP h Help.\n# TYPE h histogram\n"))
    #expect(text.contains("h_bucket{To=\"a\",le=\"0.001\"} 0\n"))
    #expect(text.contains("h_bucket{To=\"a\",le=\"0.002\"} 1\n"))
    #expect(text.contains("h_bucket{To=\"a\",le=\"8.192\"} 1\n"))
    #expect(text.contains("h_bucket{To=\"a\",le=\"+Inf\"} 2\n"))
    #expect(text.contains("h_sum{To=\"a\"} 100.0015\n"))
    #expect(text.contains("h_count{To=\"a\"} 2\n"))
  }

  @Test("The process describes itself")
  func process() {
    var page = PrometheusPage()
    page.addProcess()
    for name in [
      "process_cpu_seconds_total", "process_start_time_seconds", "process_resident_memory_bytes",
      "process_virtual_memory_bytes", "process_open_fds", "process_max_fds",
    ] {
      let line = page.text.split(separator: "\n").first { $0.hasPrefix(name + " ") }
      let value = line.flatMap { Double($0.split(separator: " ")[1]) } ?? 0
      #expect(value > 0, "\(name)")
    }
  }
}
