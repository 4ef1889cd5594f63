import Foundation
import Glibc

/// What processes and the disk have used so far. Two samples give what a run cost.
///
/// Taken by the generator itself, at the first and the last instant of the measured part of a run, so
/// that neither the warm-up nor the start of processes is counted.
struct ResourceSample: Sendable {
  /// CPU seconds, user and system, of each watched process.
  var cpuSeconds: [Double]
  /// Resident bytes of each watched process.
  var residentBytes: [Int]
  /// Flushes completed by the watched disk.
  var flushes: UInt64?
  /// CPU seconds of the generator.
  var ownCPUSeconds: Double
  /// Seconds on the monotonic clock.
  var time: Double

  init(processes: [Int32], disk: String?) {
    cpuSeconds = processes.map(Self.cpuSeconds)
    residentBytes = processes.map(Self.residentBytes)
    flushes = disk.flatMap(Self.flushes)
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    ownCPUSeconds = [usage.ru_utime, usage.ru_stime]
      .reduce(0) { $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6 }
    time = Double(monotonicNanoseconds()) / 1e9
  }

  /// Fields 14 and 15 of `/proc/PID/stat`, in clock ticks. Source: proc(5).
  private static func cpuSeconds(of process: Int32) -> Double {
    guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
      // The second field, the name, may hold spaces; it ends with the last parenthesis.
      let end = text.lastIndex(of: ")")
    else { return 0 }
    let fields = text[end...].split(separator: " ")
    guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13]) else {
      return 0
    }
    return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
  }

  private static func residentBytes(of process: Int32) -> Int {
    guard let text = try? String(contentsOfFile: "/proc/\(process)/statm", encoding: .utf8),
      let pages = text.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
    else { return 0 }
    return pages * Int(getpagesize())
  }

  /// Field 19 of the disk's line in `/proc/diskstats`. Source: the kernel's `iostats` document.
  private static func flushes(of disk: String) -> UInt64? {
    guard let text = try? String(contentsOfFile: "/proc/diskstats", encoding: .utf8) else {
      return nil
    }
    for line in text.split(separator: "\n") {
      let fields = line.split(separator: " ")
      if fields.count > 18, fields[2] == disk { return UInt64(fields[18]) }
    }
    return nil
  }
}

/// The monotonic clock, in nanoseconds.
func monotonicNanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
