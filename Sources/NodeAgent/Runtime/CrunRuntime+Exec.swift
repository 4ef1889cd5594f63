import CLinux
import Glibc
import HTTPServer
import KubeAPI
import NIOCore
import NIOPosix
import Synchronization

/// Programs in running containers, and connections into pods.
///
/// The agent runs `crun exec` itself, in the mount namespace of the pod's shim (where crun is content with
/// the cgroups): streams then need no detour through the shim, and end with the agent, as they do in
/// Kubernetes.
extension CrunRuntime {
  private enum ExecLimits {
    /// How long crun may take until the terminal is there, in milliseconds.
    static let terminalMilliseconds: Int32 = 10_000
    static let connectMilliseconds: Int32 = 10_000
  }

  public func execute(_ id: ContainerID, _ request: ExecRequest) async throws -> ExecSession {
    let found = state.withLock { state -> (SandboxRecord, ShimProcess)? in
      guard let sandbox = state.owners[id].flatMap({ state.sandboxes[$0] }), let shim = sandbox.shim,
        case .running? = sandbox.containers[id]?.state.state
      else { return nil }
      return (sandbox.record, shim)
    }
    guard let (sandbox, shim) = found else {
      throw RuntimeError(.notFound, "container \(id) is not running")
    }
    let files = ExecFiles(SandboxFiles.container(directory(sandbox.id), id))
    let started = try await blocking { [self] in
      do {
        return try startExec(id, request, sandbox, shim, files)
      } catch {
        files.remove()
        throw error
      }
    }
    let reaper = reaper
    let end = Task<ExecEnd, Never> {
      let code = await reaper.wait(for: started.pid)
      let complaint = files.complaint()
      files.remove()
      guard let code else { return .failed("its end was not seen") }
      // crun writes its log only when it could not do what it was asked to.
      return code != 0 && !complaint.isEmpty ? .failed(complaint) : .exited(code)
    }
    func stream(input descriptor: Int32) async throws -> ByteStream? {
      descriptor < 0 ? nil : try await pipe(reading: descriptor)
    }
    let input = started.input < 0 ? nil : try await pipe(writing: started.input)
    return ExecSession(
      input: input, output: try await stream(input: started.output),
      error: try await stream(input: started.error), terminal: started.terminal, end: end,
      onKill: {
        if let pid = files.pid(), pid > 1 { kill(pid, SIGKILL) }
      })
  }

  private struct StartedExec: Sendable {
    var pid: pid_t
    var input: Int32 = -1
    var output: Int32 = -1
    var error: Int32 = -1
    var terminal: Int32 = -1
  }

  private func startExec(
    _ id: ContainerID, _ request: ExecRequest, _ sandbox: SandboxRecord, _ shim: ShimProcess,
    _ files: ExecFiles
  ) throws -> StartedExec {
    // Everything but the command is the container's own: user, groups, environment, capabilities.
    var process = try Disk.readJSON(files.container + "/config.json")["process"]
    process["args"] = Value(request.command)
    process["terminal"] = Value(request.hasTerminal)
    if request.hasTerminal,
      !process["env"].strings.contains(where: { $0.hasPrefix("TERM=") })
    {
      process["env"].append("TERM=xterm")
    }
    try Disk.write(process, to: files.process)
    let namespace = try Descriptor(opening: "/proc/\(shim.pid)/ns/mnt", O_RDONLY)
    var arguments = [
      "--root", sandbox.crunRoot, "--cgroup-manager", cgroups == .none ? "disabled" : "cgroupfs",
      "--log", files.log, "exec", "--process", files.process, "--pid-file", files.pidFile,
    ]
    var listener: Int32 = -1
    defer { if listener >= 0 { close(listener) } }
    if request.hasTerminal {
      listener = try SystemError.check(
        clinux_listen(files.container, files.socketName, 1), "listen in", files.container)
      arguments += ["--console-socket", "\(files.container)/\(files.socketName)"]
    }
    var program = Program(sandbox.crunPath, arguments + [id.rawValue])
    program.environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    program.mountNamespace = namespace.number
    var started = StartedExec(pid: 0)
    var theirs: [Int32] = []
    defer { for descriptor in theirs { close(descriptor) } }
    func pipe(forInput: Bool) throws -> (ours: Int32, theirs: Int32) {
      var ends: [Int32] = [-1, -1]
      try SystemError.check(
        forInput ? clinux_pipe_for_input(&ends) : clinux_pipe(&ends), "create a pipe")
      theirs.append(ends[forInput ? 0 : 1])
      return forInput ? (ends[1], ends[0]) : (ends[0], ends[1])
    }
    do {
      if !request.hasTerminal {
        if request.hasInput { (started.input, program.input) = try pipe(forInput: true) }
        if request.hasOutput { (started.output, program.output) = try pipe(forInput: false) }
        if request.hasError { (started.error, program.error) = try pipe(forInput: false) }
      }
      started.pid = try program.start()
    } catch {
      for descriptor in [started.input, started.output, started.error] where descriptor >= 0 {
        close(descriptor)
      }
      throw error
    }
    if request.hasTerminal { try takeTerminal(request, listener, &started) }
    return started
  }

  /// Waits for the terminal that crun makes. If crun ends without one, its log tells why.
  private func takeTerminal(
    _ request: ExecRequest, _ listener: Int32, _ started: inout StartedExec
  ) throws {
    let process = clinux_pidfd_open(started.pid)
    defer { if process >= 0 { close(process) } }
    let deadline = Shim.monotonicMilliseconds + Int64(ExecLimits.terminalMilliseconds)
    var polls = [
      pollfd(fd: listener, events: Int16(POLLIN), revents: 0),
      pollfd(fd: process, events: Int16(POLLIN), revents: 0),
    ]
    while polls[0].revents == 0, polls[1].revents == 0 {
      let left = deadline - Shim.monotonicMilliseconds
      guard left > 0 else {
        kill(started.pid, SIGKILL)
        return
      }
      _ = poll(&polls, 2, Int32(clamping: left))
    }
    guard polls[0].revents != 0 else { return }
    let terminal = clinux_receive_descriptor(listener, ExecLimits.terminalMilliseconds)
    guard terminal >= 0 else { return }
    started.terminal = terminal
    if request.hasInput { started.input = dup(terminal) }
    started.output = dup(terminal)
    for descriptor in [started.input, started.output] where descriptor >= 0 {
      _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    }
    _ = fcntl(terminal, F_SETFL, O_NONBLOCK)
  }

  // MARK: Streams over descriptors

  private func pipe(reading descriptor: Int32) async throws -> ByteStream {
    let opening = ByteStream.Opening()
    _ = try await NIOPipeBootstrap(group: group)
      .channelOption(.autoRead, value: false)
      .channelOption(.allowRemoteHalfClosure, value: true)
      .channelInitializer { opening.initialize($0) }
      .takingOwnershipOfDescriptor(input: descriptor).get()
    return try opening.stream
  }

  private func pipe(writing descriptor: Int32) async throws -> ByteStream {
    let opening = ByteStream.Opening()
    _ = try await NIOPipeBootstrap(group: group)
      .channelOption(.autoRead, value: false)
      .channelInitializer { opening.initialize($0) }
      .takingOwnershipOfDescriptor(output: descriptor).get()
    return try opening.stream
  }

  public func connect(to sandbox: SandboxID, port: UInt16) async throws -> ByteStream {
    let found = state.withLock { state in
      state.sandboxes[sandbox].flatMap { $0.isReady ? ($0.record, $0.shim) : nil }
    }
    guard let (record, shim) = found, let shim else {
      throw RuntimeError(.notFound, "sandbox \(sandbox) is not running")
    }
    let descriptor = try await blocking {
      let path = record.usesHostNetwork ? "/proc/self/ns/net" : "/proc/\(shim.pid)/ns/net"
      let namespace = try Descriptor(opening: path, O_RDONLY)
      let outcome = clinux_connect_in_network(
        namespace.number, port, ExecLimits.connectMilliseconds)
      return try SystemError.check(outcome, "connect to", "127.0.0.1:\(port)")
    }
    let opening = ByteStream.Opening()
    _ = try await ClientBootstrap(group: group)
      .channelOption(.autoRead, value: false)
      .channelOption(.allowRemoteHalfClosure, value: true)
      .channelInitializer { opening.initialize($0) }
      .withConnectedSocket(descriptor).get()
    return try opening.stream
  }
}

/// The short-lived files of one program in a container, in the container's directory.
private struct ExecFiles: Sendable {
  let container: String
  private let name = "exec-" + CrunRuntime.newID().prefix(16)

  init(_ container: String) { self.container = container }

  var process: String { "\(container)/\(name).json" }
  var pidFile: String { "\(container)/\(name).pid" }
  var log: String { "\(container)/\(name).log" }
  var socketName: String { "\(name).sock" }

  func pid() -> pid_t? { Disk.readLine(pidFile).flatMap { pid_t($0) } }

  /// crun's last words, without their time.
  func complaint() -> String {
    let text = (try? Disk.read(log, limit: 64 << 10)).map { String(decoding: $0, as: UTF8.self) }
    let line = text?.split(separator: "\n").last.map(String.init) ?? ""
    return line.split(separator: "Z: ", maxSplits: 1).last.map(String.init) ?? ""
  }

  func remove() {
    for path in [process, pidFile, log, "\(container)/\(socketName)"] { unlink(path) }
  }
}
