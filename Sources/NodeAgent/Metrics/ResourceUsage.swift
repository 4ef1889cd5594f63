import Glibc
import KubeAPI

/// What something has used of CPU and memory up to one moment.
public struct ResourceUsage: Sendable, Equatable {
  public var time: Timestamp
  /// CPU time, in nanoseconds, since it began.
  public var cpuNanoseconds: UInt64
  /// All memory that is charged to it, page cache included, in bytes.
  public var memoryBytes: UInt64
  /// Memory that can't be taken away without harm: all but the page cache that wasn't used lately.
  public var workingSetBytes: UInt64
  /// Anonymous memory.
  public var residentBytes: UInt64
  public var pageFaults: UInt64
  public var majorPageFaults: UInt64
}

extension Cgroups {
  /// What the processes of a cgroup and those below it have used; nil where the kernel doesn't tell.
  func usage(_ path: String, now: Timestamp) -> ResourceUsage? {
    switch self {
    case .none: return nil
    case .version2:
      let root = Self.root + path
      guard let cpu = Self.fields(root + "/cpu.stat")["usage_usec"],
        let memory = Self.number(root + "/memory.current")
      else { return nil }
      let fields = Self.fields(root + "/memory.stat")
      return ResourceUsage(
        time: now, cpuNanoseconds: cpu.multipliedReportingOverflow(by: 1_000).partialValue,
        memoryBytes: memory, workingSetBytes: memory - min(memory, fields["inactive_file"] ?? 0),
        residentBytes: fields["anon"] ?? 0, pageFaults: fields["pgfault"] ?? 0,
        majorPageFaults: fields["pgmajfault"] ?? 0)
    case .version1, .hybrid:
      let root = Self.root + "/memory" + path
      guard
        let cpu = ["cpuacct", "cpu,cpuacct"].lazy.compactMap({
          Self.number("\(Self.root)/\($0)\(path)/cpuacct.usage")
        }).first, let memory = Self.number(root + "/memory.usage_in_bytes")
      else { return nil }
      let fields = Self.fields(root + "/memory.stat")
      return ResourceUsage(
        time: now, cpuNanoseconds: cpu, memoryBytes: memory,
        workingSetBytes: memory - min(memory, fields["total_inactive_file"] ?? 0),
        residentBytes: fields["total_rss"] ?? 0, pageFaults: fields["total_pgfault"] ?? 0,
        majorPageFaults: fields["total_pgmajfault"] ?? 0)
    }
  }

  private static func number(_ path: String) -> UInt64? {
    Disk.readLine(path).flatMap { UInt64($0) }
  }

  /// Lines of a name and a number.
  private static func fields(_ path: String) -> [String: UInt64] {
    guard let bytes = try? Disk.read(path, limit: 64 << 10) else { return [:] }
    var fields: [String: UInt64] = [:]
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      let words = line.split(separator: " ")
      if words.count == 2, let number = UInt64(words[1]) { fields[String(words[0])] = number }
    }
    return fields
  }
}

extension Machine {
  /// What the whole machine has used since it booted. Several nodes on one machine all see this.
  static func usage(now: Timestamp) -> ResourceUsage? {
    guard let bytes = try? Disk.read("/proc/stat", limit: 1 << 20),
      let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first,
      line.hasPrefix("cpu ")
    else { return nil }
    // User, nice, system, (idle, waiting,) interrupts, soft interrupts, stolen: proc(5).
    let ticks = line.split(separator: " ").dropFirst().map { UInt64($0) ?? 0 }
    guard ticks.count >= 8 else { return nil }
    let busy = [0, 1, 2, 5, 6, 7].reduce(UInt64(0)) { $0 &+ ticks[$1] }
    let tick = 1_000_000_000 / UInt64(max(1, sysconf(Int32(_SC_CLK_TCK))))
    let used = UInt64(max(0, memoryBytes - freeMemoryBytes))
    return ResourceUsage(
      time: now, cpuNanoseconds: busy.multipliedReportingOverflow(by: tick).partialValue,
      memoryBytes: used, workingSetBytes: used - min(used, UInt64(max(0, inactiveFileBytes))),
      residentBytes: UInt64(max(0, anonymousMemoryBytes)), pageFaults: 0, majorPageFaults: 0)
  }

  /// When the machine booted.
  static func bootTime(now: Timestamp) -> Timestamp {
    let seconds = Disk.readLine("/proc/uptime")?.split(separator: ".").first.flatMap { Int64($0) } ?? 0
    return now.adding(.seconds(-seconds))
  }
}
