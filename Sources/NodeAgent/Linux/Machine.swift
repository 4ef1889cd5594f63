import Glibc

/// Facts about the machine that don't change while it runs.
public enum Machine {
  /// In Go's spelling, as images and nodes are labelled.
  public static var architecture: String {
    #if arch(x86_64)
      "amd64"
    #elseif arch(arm64)
      "arm64"
    #elseif arch(arm)
      "arm"
    #elseif arch(i386)
      "386"
    #elseif arch(riscv64)
      "riscv64"
    #else
      "unknown"
    #endif
  }

  /// Differs after each boot: process ids of another boot mean nothing.
  static var bootID: String { Disk.readLine("/proc/sys/kernel/random/boot_id") ?? "" }
}

extension Machine {
  /// How many processors the machine has online.
  static var processors: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

  /// The machine's memory.
  static var memoryBytes: Int64 { Int64(memory("MemTotal:") ?? 0) }

  /// What could be used without swapping.
  static var availableMemoryBytes: Int64 { Int64(memory("MemAvailable:") ?? 0) }

  /// A field of /proc/meminfo in bytes.
  private static func memory(_ field: String) -> Int? {
    guard let bytes = try? Disk.read("/proc/meminfo", limit: 64 << 10) else { return nil }
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      let words = line.split(separator: " ")
      if words.count >= 2, words[0] == field { return Int(words[1]).map { $0 * 1024 } }
    }
    return nil
  }
}
