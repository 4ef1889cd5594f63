import CLinux
import Glibc

/// How the machine's cgroups are mounted, and what to do with a pod's.
///
/// Three arrangements exist: version 2 alone; version 1, one hierarchy per controller; and *hybrid*,
/// version 1 with an empty version 2 hierarchy at `unified`, which crun refuses ("cgroups in hybrid mode
/// not supported") although it needs nothing of it. Where that is so, each shim unmounts `unified` in
/// its private mount namespace, and crun sees plain version 1.
enum Cgroups: String, Sendable {
  case version2
  case version1
  case hybrid
  /// No cgroups, or none that can be written: containers run without limits.
  case none

  static let root = "/sys/fs/cgroup"

  /// Looks at the machine.
  static func detect() -> Cgroups {
    let type = clinux_file_system_type(root)
    if type == CLINUX_FILE_SYSTEM_CGROUP2 {
      return access(root, W_OK) == 0 ? .version2 : .none
    }
    guard type == CLINUX_FILE_SYSTEM_TMPFS, access(root + "/memory", W_OK) == 0 else {
      return .none
    }
    return clinux_file_system_type(root + "/unified") == CLINUX_FILE_SYSTEM_CGROUP2
      ? .hybrid : .version1
  }

  /// The directories of one cgroup in all hierarchies that have it.
  func directories(_ path: String) -> [String] {
    switch self {
    case .none: []
    case .version2: [Self.root + path]
    case .version1, .hybrid: Disk.names(in: Self.root).map { "\(Self.root)/\($0)\(path)" }
    }
  }

  /// How many processes of the cgroup the kernel has killed for lack of memory. Must be read before the
  /// cgroup is removed, and is the only proof: exit code 137 alone may be anybody's SIGKILL.
  func outOfMemoryKills(_ path: String) -> Int {
    let file: String
    switch self {
    case .none: return 0
    case .version2: file = Self.root + path + "/memory.events"
    case .version1, .hybrid: file = Self.root + "/memory" + path + "/memory.oom_control"
    }
    guard let bytes = try? Disk.read(file, limit: 4_096) else { return 0 }
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      let words = line.split(separator: " ")
      if words.count == 2, words[0] == "oom_kill" { return Int(words[1]) ?? 0 }
    }
    return 0
  }

  /// Kills every process in the cgroup and those below it. The last resort, where no shim is left to ask.
  func killAll(_ path: String) {
    for directory in directories(path) { Self.killTree(directory) }
  }

  private static func killTree(_ directory: String) {
    for name in Disk.names(in: directory) where Disk.kind("\(directory)/\(name)") == .directory {
      killTree("\(directory)/\(name)")
    }
    guard let bytes = try? Disk.read(directory + "/cgroup.procs") else { return }
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      // Zero stands for a process outside of our own process namespace.
      if let pid = pid_t(line), pid > 1 { kill(pid, SIGKILL) }
    }
  }

  /// Removes the cgroup and empty ones below it, in all hierarchies; ones in use stay.
  func remove(_ path: String) {
    for directory in directories(path) { Self.removeTree(directory) }
  }

  /// Removes the cgroup where nothing is below it.
  func removeIfEmpty(_ path: String) {
    for directory in directories(path) { rmdir(directory) }
  }

  private static func removeTree(_ directory: String) {
    guard Disk.kind(directory) == .directory else { return }
    for name in Disk.names(in: directory) where Disk.kind("\(directory)/\(name)") == .directory {
      removeTree("\(directory)/\(name)")
    }
    rmdir(directory)
  }
}
