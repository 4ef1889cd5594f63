import CLinux
import Glibc
import KubeAPI
import Logging
import NIOCore
import NIOPosix
import Synchronization

extension CrunRuntime {
  // MARK: Recovery

  /// Finds the sandboxes of an earlier run: those whose shim lives go on, the others are recorded as
  /// lost and cleaned up. Call once, before anything else.
  public func recover() async throws {
    let names = try await blocking { [sandboxesDirectory] in Disk.names(in: sandboxesDirectory) }
    for name in names {
      let id = SandboxID(rawValue: name)
      let directory = directory(id)
      guard
        let record = (try? Disk.readJSON(SandboxFiles.record(directory))).flatMap({
          SandboxRecord($0)
        })
      else {
        // The agent died while it prepared the directory: nothing ran yet.
        try? await blocking { try Disk.removeTree(directory) }
        continue
      }
      if let address = record.address { network?.reserve(address) }
      var sandbox = Sandbox(record: record, isReady: false)
      sandbox.shim = shimProcess(directory)
      for name in Disk.names(in: directory + "/containers") {
        let own = SandboxFiles.container(directory, ContainerID(rawValue: name))
        if let container = (try? Disk.readJSON(own + "/container.json")).flatMap({
          ContainerRecord($0)
        }) {
          let last = (try? Disk.readJSON(own + "/status.json")).flatMap { ContainerState($0) }
          sandbox.containers[container.id] = (container, last ?? .created)
        } else {
          try? await blocking { try Disk.removeTree(own) }
        }
      }
      state.withLock { state in
        for container in sandbox.containers.keys { state.owners[container] = id }
        state.sandboxes[id] = sandbox
      }
      do {
        guard sandbox.shim?.isAlive == true else {
          throw RuntimeError(.notFound, "its shim is gone")
        }
        let client = try await connect(record)
        let states = try await client.perform(.list)
        state.withLock { state in
          state.sandboxes[id]?.client = client
          state.sandboxes[id]?.isReady = true
          for member in states.members {
            if let known = ContainerState(member.value) {
              state.sandboxes[id]?.containers[ContainerID(rawValue: member.key)]?.state = known
            }
          }
        }
      } catch {
        logger.warning("pod \(record.namespace)/\(record.name): sandbox \(id) is lost: \(error)")
        await abandon(record)
      }
    }
    guard network != nil else { return }
    let ready = state.withLock { $0.sandboxes.values.filter(\.isReady).map(\.record) }
    try await hostPorts.restore(
      ready.compactMap { record in record.address.map { (record.id, $0, record.hostPorts) } })
  }

  /// The process that `shim.json` names, if it is of this boot.
  private func shimProcess(_ directory: String) -> ShimProcess? {
    guard let value = try? Disk.readJSON(SandboxFiles.shim(directory)),
      value["bootID"].string == Machine.bootID,
      let pid = value["pid"].int.flatMap({ pid_t(exactly: $0) }), pid > 1,
      let startTime = value["startTime"].integer.flatMap({ UInt64(exactly: $0) })
    else { return nil }
    return ShimProcess(pid: pid, startTime: startTime)
  }

  // MARK: Sandboxes

  public func runPodSandbox(_ configuration: SandboxConfiguration) async throws -> SandboxID {
    let id = SandboxID(rawValue: Self.newID())
    let address = configuration.network == .pod ? try network?.allocate() : nil
    let record = SandboxRecord(
      configuration, id: id, createdAt: .wallClock(), address: address,
      gateway: address == nil ? nil : network?.gateway,
      prefixLength: network?.settings.block.prefixLength ?? 32, cgroups: cgroups,
      cgroupPath: "\(settings.cgroupParent)/pod\(configuration.uid)", crunPath: crunPath,
      crunRoot: settings.root + "/crun", layersDirectory: settings.images.layersDirectory)
    var process: ShimProcess?
    do {
      let started = try await blocking { [self] in
        try prepareFiles(configuration, record)
        return try startShim(record)
      }
      process = started
      let client = try await connect(record)
      if let address, let network {
        try await blocking { try network.attach(id, pid: started.pid, address: address) }
        try await client.perform(
          .network(
            address: address, prefixLength: record.prefixLength, gateway: network.gateway))
        try await hostPorts.open(record.hostPorts, to: address, for: id)
      }
      state.withLock { state in
        state.sandboxes[id] = Sandbox(
          record: record, isReady: true, client: client, shim: started)
      }
      return id
    } catch {
      let failed = process
      let directory = directory(id)
      try? await blocking {
        if let failed, failed.isAlive { kill(failed.pid, SIGKILL) }
        try Disk.removeTree(directory)
      }
      await releaseNetwork(record)
      throw error
    }
  }

  /// Writes what the shim and the containers will read.
  private func prepareFiles(
    _ configuration: SandboxConfiguration, _ record: SandboxRecord
  ) throws {
    let directory = directory(record.id)
    try Disk.makeDirectories(directory + "/containers", mode: 0o700)
    let hosts =
      configuration.network == .host && configuration.hostAliases.isEmpty
      ? (try? Disk.read("/etc/hosts")) ?? []
      : Array(Self.hostsFile(configuration, address: record.address).utf8)
    try Disk.write(hosts, to: directory + "/hosts", mode: 0o644)
    try Disk.write(Array((record.hostname + "\n").utf8), to: directory + "/hostname", mode: 0o644)
    try Disk.write(
      Array(configuration.resolverConfiguration.utf8), to: directory + "/resolv.conf", mode: 0o644)
    for volume in configuration.memoryVolumes {
      try Disk.makeDirectories(volume.path, mode: 0o755)
    }
    // Last: a directory with a record is a sandbox.
    try Disk.write(record.json, to: SandboxFiles.record(directory))
  }

  static func hostsFile(_ configuration: SandboxConfiguration, address: IPv4Address?) -> String {
    var text = """
      # Written by the node agent for this pod.
      127.0.0.1\tlocalhost
      ::1\tlocalhost ip6-localhost ip6-loopback

      """
    if let address { text += "\(address)\t\(configuration.hostname)\n" }
    for alias in configuration.hostAliases {
      text += "\(alias.address)\t\(alias.names.joined(separator: "\t"))\n"
    }
    return text
  }

  /// Starts a shim in namespaces of its own and waits until it listens.
  private func startShim(_ record: SandboxRecord) throws -> ShimProcess {
    let directory = directory(record.id)
    var ends: [Int32] = [-1, -1]
    try SystemError.check(clinux_pipe(&ends), "create a pipe")
    defer { close(ends[0]) }
    var program = Program(
      settings.shimCommand[0], settings.shimCommand.dropFirst() + [directory])
    program.environment = Self.shimEnvironment
    program.namespaces = CLINUX_NEW_MOUNT
    if !record.usesHostIPC { program.namespaces |= CLINUX_NEW_IPC }
    if !record.usesHostNetwork { program.namespaces |= CLINUX_NEW_NETWORK | CLINUX_NEW_UTS }
    program.isDetached = true
    program.output = ends[1]
    let pid: pid_t
    do {
      defer { close(ends[1]) }
      let log = try Descriptor(
        opening: SandboxFiles.log(directory), O_WRONLY | O_CREAT | O_APPEND, mode: 0o600)
      program.error = log.number
      program.directory = "/"
      pid = try program.start()
      _ = log.number
    } catch {
      throw RuntimeError(.system, "starting the pod's shim: \(error)")
    }
    let answer = Self.readAll(ends[0], milliseconds: Limits.shimStartMilliseconds)
    guard answer == "ready\n" else {
      kill(pid, SIGKILL)
      throw RuntimeError(
        .system, "the pod's shim did not start: \(answer?.trimmingSpace ?? "no answer in time")")
    }
    return ShimProcess(pid: pid, startTime: clinux_process_start_time(pid))
  }

  /// Where dynamic libraries are found is the only thing that a shim needs of our environment.
  private static var shimEnvironment: [String] {
    ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
      + (getenv("LD_LIBRARY_PATH").map { ["LD_LIBRARY_PATH=" + String(cString: $0)] } ?? [])
  }

  /// Runs the shim's command in its cleaning mode, and waits.
  func runShim(cleaningUp id: SandboxID) {
    var program = Program(
      settings.shimCommand[0], settings.shimCommand.dropFirst() + ["--clean-up", directory(id)])
    program.environment = Self.shimEnvironment
    program.namespaces = CLINUX_NEW_MOUNT
    guard let pid = try? program.start() else { return }
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0, errno == EINTR {}
  }

  /// What comes through a non-blocking pipe until it closes; nil if that takes too long.
  private static func readAll(_ descriptor: Int32, milliseconds: Int32) -> String? {
    let deadline = Shim.monotonicMilliseconds + Int64(milliseconds)
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4_096)
    while bytes.count < 64 << 10 {
      let left = deadline - Shim.monotonicMilliseconds
      if left <= 0 { return nil }
      var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      _ = poll(&wait, 1, Int32(clamping: left))
      let count = read(descriptor, &buffer, buffer.count)
      if count == 0 { break }
      if count > 0 { bytes += buffer[..<count] }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  public func stopPodSandbox(_ id: SandboxID) async throws {
    // Without its client, the end of the connection is not taken for a loss.
    let known: Sandbox? = state.withLock { state in
      defer { state.sandboxes[id]?.client = nil }
      return state.sandboxes[id]
    }
    guard let sandbox = known, sandbox.isReady else { return }
    do {
      guard let client = sandbox.client else { throw RuntimeError(.notFound, "no shim") }
      // The events of its containers come before the answer.
      try await client.perform(.end)
      let shim = sandbox.shim
      try await blocking {
        if let shim { Self.waitForEnd(shim, milliseconds: Limits.shimEndMilliseconds) }
      }
      state.withLock { $0.sandboxes[id]?.isReady = false }
      client.close()
      await releaseNetwork(sandbox.record)
    } catch {
      await abandon(sandbox.record)
    }
    notify(sandbox.record.uid)
  }

  private static func waitForEnd(_ shim: ShimProcess, milliseconds: Int32) {
    let process = clinux_pidfd_open(shim.pid)
    guard process >= 0 else { return }
    defer { close(process) }
    guard shim.isAlive else { return }
    var wait = pollfd(fd: process, events: Int16(POLLIN), revents: 0)
    if poll(&wait, 1, milliseconds) <= 0 { kill(shim.pid, SIGKILL) }
  }

  public func removePodSandbox(_ id: SandboxID) async throws {
    try await stopPodSandbox(id)
    guard let record = state.withLock({ $0.sandboxes[id]?.record }) else { return }
    let directory = directory(id)
    let cgroups = cgroups
    let parent = settings.cgroupParent
    try await blocking {
      cgroups.remove(record.cgroupPath)
      cgroups.removeIfEmpty(parent)
      // The record first: a half removed directory must not pass for a sandbox after a crash.
      unlink(SandboxFiles.record(directory))
      try Disk.removeTree(directory)
    }
    state.withLock { state in
      for container in state.sandboxes[id]?.containers.keys ?? [:].keys {
        state.owners[container] = nil
      }
      state.sandboxes[id] = nil
    }
    notify(record.uid)
  }
}
