import CLinux
import Glibc
import KubeAPI

/// A container whose first process is a child of the shim.
struct RunningContainer {
  let pid: pid_t
  /// A pidfd, readable once the process has ended.
  let process: Int32
  /// Its standard output and error; -1 once closed. With a terminal, the first is the terminal.
  var pipes: [Int32]
  /// Its standard input; -1 without one, and once closed.
  var input: Int32
  /// Its terminal, to set the size; -1 without one.
  var terminal: Int32
  /// Input that it hasn't taken.
  var unreadInput: [UInt8] = []
  /// Its input is to be closed once it has taken all of it.
  var closesInput = false
  let startedAt: Timestamp
  let record: ContainerRecord
  /// When SIGKILL follows a request to stop, on the monotonic clock in milliseconds.
  var killAt: Int64?
  var log: LogBox

  /// Holds the log, which can't be copied, in a struct that can.
  final class LogBox {
    var log: ContainerLog
    init(_ log: consuming ContainerLog) { self.log = log }
  }
}

extension Shim {
  /// Starts a container that the agent has prepared. One that can't be started has then exited with
  /// code 128, so that every attempt leaves the same kind of trace.
  mutating func start(_ id: ContainerID) throws {
    let directory = SandboxFiles.container(self.directory, id)
    guard states[id] == nil,
      let record = ContainerRecord(
        try Disk.readJSON(directory + "/container.json"))
    else { throw RuntimeError(.notFound, "container \(id) is not there, or was started before") }
    do {
      let container = try launch(id, record, directory)
      containers[id] = container
      set(id, ContainerState(state: .running(since: container.startedAt)))
    } catch {
      _ = Crun(self.record).run(["delete", "--force", id.rawValue])
      _ = clinux_unmount_lazily(directory + "/rootfs")
      self.record.cgroups.remove(record.cgroupPath)
      set(
        id,
        ContainerState(
          state: .exited(
            ContainerStatus.Exit(
              code: 128, startedAt: nil, finishedAt: .wallClock(), reason: "StartError",
              message: "\(error)"))))
      throw error
    }
  }

  private func launch(
    _ id: ContainerID, _ record: ContainerRecord, _ directory: String
  ) throws -> RunningContainer {
    try mountRoot(record, directory)
    let log = try ContainerLog(record.logPath)
    var pipes: [Int32] = [-1, -1]
    var input: Int32 = -1
    var terminal: Int32 = -1
    /// The container's ends of the pipes, by descriptor there.
    var ends: [Int32] = [-1, -1, -1]
    var listener: Int32 = -1
    defer { for end in ends + [listener] where end >= 0 { close(end) } }
    var isLaunched = false
    defer {
      if !isLaunched { for pipe in pipes + [input, terminal] where pipe >= 0 { close(pipe) } }
    }
    let crun = Crun(self.record)
    let errors = directory + "/crun.log"
    let pidFile = directory + "/pid"
    var arguments = ["create", "--bundle", directory, "--pid-file", pidFile]
    if record.hasTerminal {
      unlink(directory + "/console.sock")
      listener = try SystemError.check(
        clinux_listen(directory, "console.sock", 1), "listen in", directory)
      arguments += ["--console-socket", directory + "/console.sock"]
    } else {
      for index in 0..<2 {
        var pair: [Int32] = [-1, -1]
        try SystemError.check(clinux_pipe(&pair), "create a pipe")
        pipes[index] = pair[0]
        ends[index + 1] = pair[1]
      }
      if record.hasInput {
        var pair: [Int32] = [-1, -1]
        try SystemError.check(clinux_pipe_for_input(&pair), "create a pipe")
        input = pair[1]
        ends[0] = pair[0]
      }
    }
    let created = crun.run(
      arguments + [id.rawValue], log: errors, input: ends[0], output: ends[1], error: ends[2])
    guard created == 0 else { throw Self.failure("create", created, errors) }
    if record.hasTerminal {
      // crun has sent it before it ended.
      terminal = try SystemError.check(
        clinux_receive_descriptor(listener, 1_000), "receive the terminal of", id.rawValue)
      _ = fcntl(terminal, F_SETFL, O_NONBLOCK)
      pipes[0] = fcntl(terminal, F_DUPFD_CLOEXEC, 3)
      if record.hasInput { input = fcntl(terminal, F_DUPFD_CLOEXEC, 3) }
      unlink(directory + "/console.sock")
    }
    guard let pid = Disk.readLine(pidFile).flatMap({ pid_t($0) }) else {
      throw RuntimeError(.startFailed, "crun left no process id")
    }
    let process = try SystemError.check(clinux_pidfd_open(pid), "open process", "\(pid)")
    let started = crun.run(["start", id.rawValue], log: errors)
    guard started == 0 else {
      close(process)
      throw Self.failure("start", started, errors)
    }
    isLaunched = true
    return RunningContainer(
      pid: pid, process: process, pipes: pipes, input: input, terminal: terminal,
      startedAt: .wallClock(), record: record, killAt: nil, log: .init(log))
  }

  /// crun's own words, which end in its log as `TIME: MESSAGE`.
  private static func failure(_ step: String, _ code: Int32?, _ log: String) -> RuntimeError {
    guard let code else {
      return RuntimeError(.startFailed, "crun \(step) could not run or took too long")
    }
    let text = (try? Disk.read(log, limit: 64 << 10)).map { String(decoding: $0, as: UTF8.self) }
    let line = text?.split(separator: "\n").last.map(String.init) ?? "exit code \(code)"
    let message = line.split(separator: "Z: ", maxSplits: 1).last ?? ""
    return RuntimeError(.startFailed, "crun \(step): \(message)")
  }

  /// Mounts the container's root: the image's layers, and a directory for what it writes.
  private func mountRoot(_ record: ContainerRecord, _ directory: String) throws(SystemError) {
    let root = directory + "/rootfs"
    for name in ["rootfs", "upper", "work"] {
      try Disk.makeDirectories("\(directory)/\(name)", mode: 0o755)
    }
    if record.layers.isEmpty {
      // An image without layers is an empty root.
      try SystemError.check(
        clinux_mount(directory + "/upper", root, nil, CLINUX_MOUNT_BIND, nil), "mount", root)
      return
    }
    // All names must fit one page, so the layers' are relative to their directory.
    guard chdir(self.record.layersDirectory) == 0 else {
      throw SystemError("chdir", self.record.layersDirectory)
    }
    defer { chdir("/") }
    let lower = record.layers.reversed().joined(separator: ":")
    let options = "lowerdir=\(lower),upperdir=\(directory)/upper,workdir=\(directory)/work"
    try SystemError.check(
      clinux_mount("overlay", root, "overlay", 0, options), "mount overlay", root)
  }

  // MARK: Running

  /// Reads what the container printed, and sees whether it has ended.
  mutating func serve(_ id: ContainerID, _ ready: Set<Int32>) {
    guard let container = containers[id] else { return }
    for stream in [ContainerLog.Stream.output, .error] {
      let pipe = container.pipes[stream.rawValue]
      if pipe >= 0, ready.contains(pipe) { drain(id, stream, isLast: false) }
    }
    if container.input >= 0, ready.contains(container.input) { writeInput(id) }
    if ready.contains(container.process) { finish(id) }
  }

  private mutating func drain(_ id: ContainerID, _ stream: ContainerLog.Stream, isLast: Bool) {
    guard let container = containers[id] else { return }
    let pipe = container.pipes[stream.rawValue]
    guard pipe >= 0 else { return }
    withUnsafeTemporaryAllocation(byteCount: Limits.readBytes, alignment: 16) { buffer in
      while true {
        let count = read(pipe, buffer.baseAddress, buffer.count)
        if count > 0 {
          let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<count])
          container.log.log.append(bytes, stream, at: .wallClock())
          share(id, stream == .output ? AttachFrame.output : AttachFrame.error, bytes)
          if !isLast { return }
        } else if count < 0, errno == EINTR {
          continue
        } else if count < 0, errno == EAGAIN {
          return
        } else {
          close(pipe)
          containers[id]?.pipes[stream.rawValue] = -1
          return
        }
      }
    }
  }

  /// The container's first process has ended, and with it all of its process namespace.
  private mutating func finish(_ id: ContainerID) {
    guard let container = containers[id] else { return }
    var code: Int32 = 0
    var signal: Int32 = 0
    let ended = clinux_reap(container.pid, &code, &signal)
    if ended == 0 { return }
    let time = Timestamp.wallClock()
    let directory = SandboxFiles.container(self.directory, id)
    // Without a process namespace its descendants may live on and hold the pipes.
    let kills = record.cgroups.outOfMemoryKills(container.record.cgroupPath)
    _ = Crun(record).run(["delete", "--force", id.rawValue])
    record.cgroups.remove(container.record.cgroupPath)
    for stream in [ContainerLog.Stream.output, .error] { drain(id, stream, isLast: true) }
    container.log.log.finish(at: time)
    for pipe in (containers[id]?.pipes ?? []) + [containers[id]?.input ?? -1, container.terminal]
    where pipe >= 0 {
      close(pipe)
    }
    close(container.process)
    containers[id] = nil
    _ = clinux_unmount_lazily(directory + "/rootfs")

    let reason: String
    switch (ended, code) {
    case (..<0, _):
      // Somebody else has waited for it.
      code = 255
      reason = "Unknown"
    case (_, 0): reason = "Completed"
    case (_, 137) where kills > 0: reason = "OOMKilled"
    default: reason = "Error"
    }
    endAttachments(id)
    set(
      id,
      ContainerState(
        state: .exited(
          ContainerStatus.Exit(
            code: Int(code), startedAt: container.startedAt, finishedAt: time, reason: reason,
            message: Self.terminationMessage(directory))),
        isStopping: states[id]?.isStopping ?? false))
  }

  /// The end of what the container left in its termination log; read without following links.
  private static func terminationMessage(_ directory: String) -> String {
    guard
      let file = try? Descriptor(opening: directory + "/termination-log", O_RDONLY | O_NOFOLLOW)
    else { return "" }
    let bytes = (try? file.read(upTo: Limits.terminationMessageBytes)) ?? []
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Asks a container to stop and arms its deadline; one that has ended, or never ran, needs nothing.
  mutating func stop(_ id: ContainerID, milliseconds: Int64) {
    guard let container = containers[id] else { return }
    let deadline = Self.monotonicMilliseconds.addingReportingOverflow(max(0, milliseconds))
    let killAt = deadline.overflow ? .max : deadline.partialValue
    // A second request may shorten the time, not lengthen it.
    containers[id]?.killAt = min(container.killAt ?? .max, killAt)
    if milliseconds <= 0 {
      kill(container.pid, SIGKILL)
    } else if states[id]?.isStopping != true {
      kill(container.pid, container.record.stopSignal)
    }
    if var state = states[id], !state.isStopping {
      state.isStopping = true
      set(id, state)
    }
  }

  /// Forgets an ended container. Its files are the agent's to remove.
  mutating func forget(_ id: ContainerID) throws {
    guard containers[id] == nil else {
      throw RuntimeError(.startFailed, "container \(id) is still running")
    }
    states[id] = nil
  }

  /// Ends everything: all containers are killed and waited for, then the shim itself goes.
  mutating func end() {
    for container in containers.values { kill(container.pid, SIGKILL) }
    let deadline = Self.monotonicMilliseconds + 10_000
    while !containers.isEmpty, Self.monotonicMilliseconds < deadline {
      var polls = containers.values.map {
        pollfd(fd: $0.process, events: Int16(POLLIN), revents: 0)
      }
      _ = poll(&polls, nfds_t(polls.count), 1_000)
      let ready = Set(polls.filter { $0.revents != 0 }.map(\.fd))
      for id in Array(containers.keys) { serve(id, ready) }
    }
    record.cgroups.remove(record.cgroupPath)
    hasEnded = true
  }

  private mutating func set(_ id: ContainerID, _ state: ContainerState) {
    states[id] = state
    let path = SandboxFiles.container(directory, id) + "/status.json"
    do {
      try Disk.write(state.json, to: path)
    } catch {
      // Only an agent that starts after this shim's end would miss it.
      Self.complain("\(error)")
    }
    broadcast(["event": "container", "container": Value(id.rawValue), "state": state.json])
  }

  static func complain(_ text: String) {
    let line = Array("\(Timestamp.wallClock().nanosecondText) \(text)\n".utf8)
    _ = write(2, line, line.count)
  }
}
