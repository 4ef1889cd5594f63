import Glibc
import KubeAPI

/// Writes an OCI runtime configuration (`config.json`) for a container.
///
/// Pure: everything comes by parameter, the golden transcripts show the outcome. The rules are those that
/// users know from Kubernetes with containerd: the pod's `command` replaces entrypoint *and* command of
/// the image, `args` only the command; the pod's environment wins over the image's; Docker's fourteen
/// capabilities by default; the usual parts of `/proc` and `/sys` masked; a device list that allows
/// only the harmless ones.
struct RuntimeBundle {
  var configuration: ContainerConfiguration
  var identity: UserLookup.Identity
  var hostname: String
  var usesHostPID: Bool
  /// Paths of the namespaces that the sandbox holds, by OCI type.
  var namespaces: [(type: String, path: String)]
  var cgroups: Cgroups
  var cgroupPath: String
  /// Files mounted from the sandbox: hosts, hostname, resolv.conf, and the shared memory.
  var sandboxDirectory: String
  var containerDirectory: String

  static let defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

  static let defaultCapabilities = [
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP",
    "CAP_SETUID", "CAP_SYS_CHROOT",
  ]

  /// All that Linux knows, in the order of their numbers; a kernel that lacks the last ones has them
  /// dropped by crun.
  static let allCapabilities =
    [
      "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
      "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
      "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
      "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
      "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
      "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
    ].map { "CAP_" + $0 }

  /// The arguments of the process: entrypoint and command, merged.
  static func arguments(_ configuration: ContainerConfiguration) -> [String] {
    let image = configuration.image.configuration
    if let command = configuration.command, !command.isEmpty {
      return command + (configuration.arguments ?? [])
    }
    if let arguments = configuration.arguments, !arguments.isEmpty {
      return image.entrypoint + arguments
    }
    return image.entrypoint + image.command
  }

  /// `NAME=value` each, no name twice, the later value winning in the earlier one's place.
  static func environment(
    _ configuration: ContainerConfiguration, hostname: String
  ) -> [String] {
    var names: [String] = []
    var values: [String: String] = [:]
    func put(_ name: String, _ value: String) {
      if values.updateValue(value, forKey: name) == nil { names.append(name) }
    }
    for entry in [defaultPath, "HOSTNAME=\(hostname)"]
      + configuration.image.configuration.environment
    {
      let parts = entry.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      put(String(parts[0]), parts.count == 2 ? String(parts[1]) : "")
    }
    if configuration.hasTerminal { put("TERM", "xterm") }
    for (name, value) in configuration.environment { put(name, value) }
    return names.map { "\($0)=\(values[$0] ?? "")" }
  }

  static func capabilities(_ security: ContainerConfiguration.Security) -> [String] {
    if security.isPrivileged { return allCapabilities }
    func full(_ name: String) -> String {
      let name = name.uppercased()
      return name.hasPrefix("CAP_") ? name : "CAP_" + name
    }
    let added = security.addedCapabilities.map(full)
    let dropped = Set(security.droppedCapabilities.map(full))
    // As in containerd: `ALL` first sets the ground, then names are added and dropped.
    var result = added.contains("CAP_ALL") ? allCapabilities : defaultCapabilities
    if dropped.contains("CAP_ALL") { result = [] }
    result.removeAll { dropped.contains($0) && !added.contains($0) }
    for name in added where name != "CAP_ALL" && !result.contains(name) { result.append(name) }
    return result
  }

  /// The document that crun reads.
  func json() throws -> Value {
    let arguments = Self.arguments(configuration)
    guard !arguments.isEmpty else {
      throw RuntimeError(.invalidConfiguration, "no command specified")
    }
    let security = configuration.security
    let capabilities = Value(Self.capabilities(security))
    let directory =
      configuration.workingDirectory.flatMap { $0.isEmpty ? nil : $0 }
      ?? configuration.image.configuration.workingDirectory
    guard directory.isEmpty || directory.hasPrefix("/") else {
      throw RuntimeError(.invalidConfiguration, "working directory \(directory) is not absolute")
    }
    var process: Value = [
      "terminal": Value(configuration.hasTerminal),
      "user": ["uid": Value(identity.user), "gid": Value(identity.group)],
      "args": Value(arguments),
      "env": Value(Self.environment(configuration, hostname: hostname)),
      "cwd": Value(directory.isEmpty ? "/" : directory),
      "capabilities": [
        "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
      ],
      "noNewPrivileges": Value(!security.allowsPrivilegeEscalation && !security.isPrivileged),
    ]
    let groups = identity.groups.map(Int64.init) + security.supplementalGroups
    if !groups.isEmpty {
      process["user"]["additionalGids"] = .array(groups.map { Value($0) })
    }
    if let adjustment = configuration.resources.oomScoreAdjustment {
      process["oomScoreAdj"] = Value(adjustment)
    }

    var spaces: [Value] = [["type": "mount"]]
    if !usesHostPID { spaces.append(["type": "pid"]) }
    if cgroups == .version2 { spaces.append(["type": "cgroup"]) }
    for (type, path) in namespaces { spaces.append(["type": Value(type), "path": Value(path)]) }
    var linux: Value = ["namespaces": .array(spaces), "resources": resources]
    if cgroups != .none { linux["cgroupsPath"] = Value(cgroupPath) }
    if !security.isPrivileged {
      linux["maskedPaths"] = [
        "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
        "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
        "/sys/devices/virtual/powercap",
      ]
      linux["readonlyPaths"] = [
        "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
      ]
    }
    return [
      "ociVersion": "1.0.2",
      "process": process,
      "root": ["path": "rootfs", "readonly": Value(security.hasReadOnlyRoot)],
      "mounts": .array(mounts),
      "linux": linux,
    ]
  }

  private var resources: Value {
    var devices: [Value]
    if configuration.security.isPrivileged {
      devices = [["allow": true, "access": "rwm"]]
    } else {
      func allow(_ major: Int, _ minor: Int?) -> Value {
        var rule: Value = [
          "allow": true, "type": "c", "major": Value(major), "access": "rwm",
        ]
        if let minor { rule["minor"] = Value(minor) }
        return rule
      }
      // null, zero, full, random, urandom, tty, ptmx and the pseudo-terminals behind it; and every
      // device may be made, which is harmless where it may not be opened.
      devices = [
        ["allow": false, "access": "rwm"],
        ["allow": true, "type": "c", "access": "m"], ["allow": true, "type": "b", "access": "m"],
        allow(1, 3), allow(1, 5), allow(1, 7), allow(1, 8), allow(1, 9), allow(5, 0), allow(5, 2),
        allow(136, nil),
      ]
    }
    var value: Value = ["devices": .array(devices)]
    let limits = configuration.resources
    if let memory = limits.memoryLimitBytes { value["memory"]["limit"] = Value(memory) }
    if let shares = limits.cpuShares { value["cpu"]["shares"] = Value(shares) }
    if let quota = limits.cpuQuota {
      value["cpu"]["quota"] = Value(quota)
      value["cpu"]["period"] = 100_000
    }
    return value
  }

  private var mounts: [Value] {
    func mount(_ target: String, _ type: String, _ source: String, _ options: [String]) -> Value {
      [
        "destination": Value(target), "type": Value(type), "source": Value(source),
        "options": Value(options),
      ]
    }
    let access = configuration.security.isPrivileged ? "rw" : "ro"
    var mounts = [
      mount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
      mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
      mount(
        "/dev/pts", "devpts", "devpts",
        ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
      mount("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
      mount("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", access]),
    ]
    if cgroups != .none {
      mounts.append(
        mount(
          "/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", access]))
    }
    func bind(_ source: String, _ target: String, _ options: [String]) -> Value {
      mount(target, "bind", source, ["rbind", "rprivate"] + options)
    }
    mounts.append(bind(sandboxDirectory + "/shm", "/dev/shm", ["rw"]))
    let targets = Set(configuration.mounts.map(\.target))
    for (name, target) in [
      ("hosts", "/etc/hosts"), ("hostname", "/etc/hostname"), ("resolv.conf", "/etc/resolv.conf"),
    ] where !targets.contains(target) {
      let root = configuration.security.hasReadOnlyRoot ? "ro" : "rw"
      mounts.append(bind("\(sandboxDirectory)/\(name)", target, [root]))
    }
    let message = configuration.terminationMessagePath
    if message.hasPrefix("/"), !targets.contains(message) {
      mounts.append(bind(containerDirectory + "/termination-log", message, ["rw"]))
    }
    // Parents before what lies in them.
    for volume in configuration.mounts.sorted(by: { depth($0.target) < depth($1.target) }) {
      mounts.append(bind(volume.source, volume.target, [volume.isReadOnly ? "ro" : "rw"]))
    }
    return mounts
  }

  private func depth(_ path: String) -> Int { path.split(separator: "/").count }
}
