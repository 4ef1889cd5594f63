import Glibc
import Replica

/// Metrics in Prometheus' text form, version 0.0.4.
struct PrometheusPage {
  private(set) var text = ""

  mutating func gauge(_ name: String, _ help: String, _ value: UInt64) {
    plain(name, "gauge", help, "\(value)")
  }

  mutating func counter(_ name: String, _ help: String, _ value: UInt64) {
    plain(name, "counter", help, "\(value)")
  }

  private mutating func plain(_ name: String, _ type: String, _ help: String, _ value: String) {
    head(name, type, help)
    text += "\(name) \(value)\n"
  }

  private mutating func head(_ name: String, _ type: String, _ help: String) {
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
  }

  /// One value for each set of labels; nothing where there are none.
  mutating func labelled(
    _ name: String, _ type: String, _ help: String, _ values: [(labels: String, value: UInt64)]
  ) {
    if values.isEmpty { return }
    head(name, type, help)
    for value in values { text += "\(name){\(value.labels)} \(value.value)\n" }
  }

  /// One histogram for each set of labels, which may be empty.
  mutating func histogram(
    _ name: String, _ help: String, _ values: [(labels: String, value: DurationHistogram)]
  ) {
    if values.isEmpty { return }
    head(name, "histogram", help)
    for (labels, histogram) in values {
      let more = labels.isEmpty ? "" : labels + ","
      let own = labels.isEmpty ? "" : "{\(labels)}"
      var total: UInt64 = 0
      for (bound, count) in zip(DurationHistogram.bounds, histogram.counts) {
        total += count
        text += "\(name)_bucket{\(more)le=\"\(bound)\"} \(total)\n"
      }
      total += histogram.counts.last ?? 0
      text += "\(name)_bucket{\(more)le=\"+Inf\"} \(total)\n"
      text += "\(name)_sum\(own) \(histogram.sum)\n\(name)_count\(own) \(total)\n"
    }
  }

  // MARK: The process, by the names that all Prometheus clients use

  private static let startTime = {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return Double(now.tv_sec) - (seconds(since: "/proc/self/stat") ?? 0)
  }()

  /// How long ago the process began: the system's age less field 22 of its `stat`, in ticks.
  private static func seconds(since path: String) -> Double? {
    guard let stat = contents(path), let uptime = contents("/proc/uptime"),
      let age = uptime.split(separator: " ").first.flatMap({ Double($0) }),
      let end = stat.lastIndex(of: ")")
    else { return nil }
    let fields = stat[end...].split(separator: " ")
    guard fields.count > 20, let ticks = Double(fields[20]) else { return nil }
    return age - ticks / Double(sysconf(Int32(_SC_CLK_TCK)))
  }

  mutating func addProcess() {
    var usage = rusage()
    if getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 {
      func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
      plain(
        "process_cpu_seconds_total", "counter", "CPU time of the process.",
        "\(seconds(usage.ru_utime) + seconds(usage.ru_stime))")
    }
    plain(
      "process_start_time_seconds", "gauge", "When the process began, since 1970.",
      "\(Self.startTime)")
    if let pages = Self.contents("/proc/self/statm")?.split(separator: " "), pages.count > 1,
      let virtual = UInt64(pages[0]), let resident = UInt64(pages[1])
    {
      let size = UInt64(getpagesize())
      gauge("process_virtual_memory_bytes", "Memory mapped.", virtual * size)
      gauge("process_resident_memory_bytes", "Memory resident.", resident * size)
    }
    var limit = rlimit()
    if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
      gauge("process_max_fds", "Descriptors that may be open.", UInt64(limit.rlim_cur))
    }
    if let count = Self.openDescriptors() {
      gauge("process_open_fds", "Descriptors that are open.", count)
    }
  }

  private static func openDescriptors() -> UInt64? {
    guard let folder = opendir("/proc/self/fd") else { return nil }
    defer { closedir(folder) }
    var count: UInt64 = 0
    while readdir(folder) != nil { count += 1 }
    // The folder itself, `.` and `..`.
    return count > 3 ? count - 3 : 0
  }

  private static func contents(_ path: String) -> String? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var buffer = [UInt8](repeating: 0, count: 1_024)
    let count = fread(&buffer, 1, buffer.count, file)
    return String(decoding: buffer.prefix(count), as: UTF8.self)
  }
}
