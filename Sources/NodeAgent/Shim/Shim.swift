import CLinux
import Glibc
import KubeAPI

/// The small process that is a pod's sandbox.
///
/// ## The problem
/// Pods must outlive the agent: it is restarted for an update, it may crash, and its pods must neither
/// stop nor lose output nor lose the code with which a container exits. Only a parent learns that code,
/// and a pipe needs a reader. And a sandbox is a set of namespaces, which live only as long as a
/// process or a mount holds them.
///
/// ## The design
/// One process per pod, `martlet shim`, is all of that at once:
///
/// - It starts in new mount, network, IPC and host-name namespaces. Containers join its network, IPC and
///   host name by path (`/proc/PID/ns/…`), so they reach each other on localhost. Nothing is bind-mounted
///   to keep namespaces alive: they end with their processes, the kernel then removes the network cable,
///   and no crash can leave one behind.
/// - Every mount a pod needs (overlay roots, memory volumes, `/dev/shm`) is made in its mount
///   namespace and ends with it too. The node's mount table never sees them.
/// - It is a subreaper: when `crun create` returns, the container's first process becomes the shim's
///   child. Its end is seen through a pidfd, its exit code read by wait, its cgroup's OOM counter before
///   the cgroup goes.
/// - It owns the pipes and writes the log.
/// - It holds the deadline of a graceful stop, so that the SIGKILL comes without an agent.
///
/// The agent talks to it over a Unix socket, in lines of JSON (``ShimRequest``); any number of
/// connections may come and go. What a container's state is, the shim also keeps in `status.json`,
/// for the agent to read when the shim is gone.
///
/// The process has one thread and one loop around `poll`. crun, which takes some 10 ms, is waited for
/// with a time limit rather than in parallel: a pod has few containers, and one step at a time is what
/// makes the order of things obvious.
///
/// ## What is left out
/// Programs that join a container later (exec): the agent runs them. Log rotation.
public struct Shim: ~Copyable {
  enum Limits {
    /// Agents and tools connected at once.
    static let connections = 16
    /// One request, in bytes.
    static let requestBytes = 64 << 10
    /// Answers and events that a connection has not read; beyond it, it is closed.
    static let unreadBytes = 1 << 20
    /// Read from one pipe before the others get their turn.
    static let readBytes = 64 << 10
    /// How long crun may take, in milliseconds.
    static let crunMilliseconds: Int32 = 60_000
    /// The part of a termination message that is kept, as in Kubernetes.
    static let terminationMessageBytes = 4_096
  }

  let directory: String
  let record: SandboxRecord
  var containers: [ContainerID: RunningContainer] = [:]
  var states: [ContainerID: ContainerState] = [:]
  var connections: [Int32: Connection] = [:]
  private let listener: Descriptor
  var hasEnded = false
  var listenerNumber: Int32 { listener.number }

  /// Runs the shim of a sandbox directory until the sandbox is stopped. Standard output tells the parent
  /// how the start went: `ready`, or an error.
  ///
  /// - Returns: the process's exit code.
  public static func run(directory: String) -> Int32 {
    do {
      var shim = try Shim(directory)
      report("ready\n")
      shim.loop()
      return 0
    } catch {
      report("\(error)\n")
      return 1
    }
  }

  /// Undoes what is left of a sandbox whose shim has died: containers, cgroups, crun's state. Meant to
  /// run in a mount namespace of its own, for the same reason as the shim itself.
  public static func cleanUp(directory: String) -> Int32 {
    guard let value = try? Disk.readJSON(SandboxFiles.record(directory)),
      let record = SandboxRecord(value)
    else { return 1 }
    hideUnifiedHierarchy(record.cgroups)
    record.cgroups.killAll(record.cgroupPath)
    for name in Disk.names(in: directory + "/containers") {
      _ = Crun(record).run(["delete", "--force", name])
    }
    record.cgroups.remove(record.cgroupPath)
    return 0
  }

  private static func report(_ text: String) {
    _ = try? Descriptor(opening: "/proc/self/fd/1", O_WRONLY).writeAll(Array(text.utf8))
    // The parent reads to the end.
    let null = open("/dev/null", O_RDWR)
    if null >= 0 {
      dup2(null, 1)
      close(null)
    }
  }

  private static func hideUnifiedHierarchy(_ cgroups: Cgroups) {
    if cgroups == .hybrid { _ = clinux_unmount_lazily(Cgroups.root + "/unified") }
  }

  private init(_ directory: String) throws {
    guard let record = SandboxRecord(try Disk.readJSON(SandboxFiles.record(directory))) else {
      throw RuntimeError(.invalidConfiguration, "\(directory)/sandbox.json is not a sandbox record")
    }
    // Only a request ends a sandbox; a terminal's or a service manager's signals are not meant for it.
    for number in [SIGHUP, SIGINT, SIGTERM, SIGPIPE] { signal(number, SIG_IGN) }
    try SystemError.check(clinux_become_subreaper(), "become a subreaper")
    Self.hideUnifiedHierarchy(record.cgroups)

    if !record.usesHostNetwork {
      let name = record.hostname
      try SystemError.check(clinux_sethostname(name, name.utf8.count), "set the host name", name)
      var socket = try RouteSocket()
      if let loopback = RouteSocket.index(of: "lo") { try socket.setUp(loopback) }
    }
    let memory = directory + "/shm"
    try Disk.makeDirectories(memory, mode: 0o1777)
    try SystemError.check(
      clinux_mount(
        "shm", memory, "tmpfs", CLINUX_MOUNT_NOSUID | CLINUX_MOUNT_NODEV | CLINUX_MOUNT_NOEXEC,
        "mode=1777,size=67108864"), "mount", memory)
    for volume in record.memoryVolumes {
      let options = "mode=1777" + (volume.sizeBytes.map { ",size=\($0)" } ?? "")
      try SystemError.check(
        clinux_mount(
          "tmpfs", volume.path, "tmpfs", CLINUX_MOUNT_NOSUID | CLINUX_MOUNT_NODEV, options),
        "mount", volume.path)
    }

    let own = getpid()
    try Disk.write(
      [
        "pid": Value(own), "startTime": Value(clinux_process_start_time(own)),
        "bootID": Value(Machine.bootID),
      ], to: SandboxFiles.shim(directory))
    unlink("\(directory)/\(SandboxFiles.socketName)")
    listener = Descriptor(
      owning: try SystemError.check(
        clinux_listen(directory, SandboxFiles.socketName, 16), "listen on", directory))
    self.directory = directory
    self.record = record
  }

  // MARK: The loop

  private mutating func loop() {
    while !hasEnded || connections.values.contains(where: { !$0.output.isEmpty }) {
      var polls = [pollfd(fd: listener.number, events: Int16(POLLIN), revents: 0)]
      for (descriptor, connection) in connections {
        let events = (mayRead(connection) ? POLLIN : 0) | (connection.output.isEmpty ? 0 : POLLOUT)
        polls.append(pollfd(fd: descriptor, events: Int16(events), revents: 0))
      }
      for container in containers.values {
        for descriptor in [container.process, container.pipes[0], container.pipes[1]]
        where descriptor >= 0 {
          polls.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0))
        }
        if container.input >= 0, !container.unreadInput.isEmpty {
          polls.append(pollfd(fd: container.input, events: Int16(POLLOUT), revents: 0))
        }
      }
      let count = poll(&polls, nfds_t(polls.count), timeout())
      if count < 0, errno != EINTR { return }
      let ready = Set(polls.filter { $0.revents != 0 }.map(\.fd))

      for id in Array(containers.keys) { serve(id, ready) }
      for descriptor in Array(connections.keys) where ready.contains(descriptor) {
        serveConnection(descriptor)
      }
      if ready.contains(listener.number) { accept() }
      enforceDeadlines()
      reapOrphans()
    }
  }

  /// Milliseconds to the next deadline; -1 for none.
  private func timeout() -> Int32 {
    guard let next = containers.values.compactMap(\.killAt).min() else { return -1 }
    let now = Self.monotonicMilliseconds
    return next <= now ? 0 : Int32(clamping: next - now)
  }

  static var monotonicMilliseconds: Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
  }

  private mutating func enforceDeadlines() {
    let now = Self.monotonicMilliseconds
    for (id, container) in containers {
      guard let killAt = container.killAt, killAt <= now else { continue }
      containers[id]?.killAt = nil
      kill(container.pid, SIGKILL)
    }
  }

  /// Descendants that lost their parents, which happens only without a process namespace.
  private func reapOrphans() {
    let known = Set(containers.values.map(\.pid))
    for pid in Self.children() where !known.contains(pid) {
      var code: Int32 = 0
      var signal: Int32 = 0
      _ = clinux_reap(pid, &code, &signal)
    }
  }

  private static func children() -> [pid_t] {
    guard let text = Disk.readLine("/proc/self/task/\(getpid())/children") else { return [] }
    return text.split(separator: " ").compactMap { pid_t($0) }
  }
}

/// crun, for one sandbox.
struct Crun {
  let path: String
  let root: String
  let cgroups: Cgroups

  init(_ record: SandboxRecord) {
    path = record.crunPath
    root = record.crunRoot
    cgroups = record.cgroups
  }

  /// Runs a command and waits for it.
  ///
  /// - Parameters:
  ///   - log: where crun writes its errors; the container inherits its standard error.
  /// - Returns: the exit code, or nil if it could not be started or took too long.
  func run(
    _ arguments: [String], log: String? = nil, input: Int32 = -1, output: Int32 = -1,
    error: Int32 = -1
  ) -> Int32? {
    var all = [
      "--root", root, "--cgroup-manager", cgroups == .none ? "disabled" : "cgroupfs",
    ]
    if let log { all += ["--log", log] }
    var program = Program(path, all + arguments)
    program.environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    program.input = input
    program.output = output
    program.error = error
    guard let pid = try? program.start() else { return nil }
    let process = clinux_pidfd_open(pid)
    defer { if process >= 0 { close(process) } }
    var wait = pollfd(fd: process, events: Int16(POLLIN), revents: 0)
    let deadline = Shim.monotonicMilliseconds + Int64(Shim.Limits.crunMilliseconds)
    var isLate = false
    while true {
      var code: Int32 = 0
      var signal: Int32 = 0
      let ended = clinux_reap(pid, &code, &signal)
      if ended == pid { return isLate ? nil : code }
      if ended < 0 { return nil }
      let left = deadline - Shim.monotonicMilliseconds
      if left <= 0, !isLate {
        isLate = true
        kill(pid, SIGKILL)
      }
      // Once killed it ends soon.
      _ = poll(&wait, 1, isLate ? 1_000 : Int32(clamping: left))
    }
  }
}
