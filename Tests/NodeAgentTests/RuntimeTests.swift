import CLinux
import Foundation
import HTTPServer
import KubeAPI
import Logging
import NIOPosix
import Testing

@testable import NodeAgent

/// Why the machine can't run containers, or nil if it can.
let runtimeObstacle: String? = {
  if geteuid() != 0 { return "needs root" }
  if Program.find("crun") == nil { return "needs crun" }
  if Program.find("busybox") == nil { return "needs busybox-static" }
  return nil
}()

/// A runtime in a directory of its own, with busybox in its store, and what a test needs around it.
///
/// Pods have only their loopback: a bridge would be the machine's. (`NetworkTests` makes one in a
/// network namespace of its own.)
final class RuntimeFixture {
  let root: String
  let images: ImageStore
  let cgroupParent: String
  private(set) var runtime: CrunRuntime

  static let busyboxLayout: String = {
    let directory = NSTemporaryDirectory() + "martlet-busybox-\(getpid())"
    // The sources may be reached through a symbolic link, which a path with `..` in it would not follow.
    let script = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
      .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Scripts/make-busybox-image").path
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/bash")
    process.arguments = [script, directory]
    process.standardOutput = FileHandle.nullDevice
    try? process.run()
    process.waitUntilExit()
    return directory
  }()

  static var shimPath: String {
    // Beside the test bundle.
    let directory = Bundle.allBundles.map(\.bundlePath).first { $0.hasSuffix(".xctest") }
      .map { URL(fileURLWithPath: $0).deletingLastPathComponent().path }
    let candidates = [
      directory, URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().path,
    ]
    .compactMap { $0.map { $0 + "/martlet-shim-fixture" } }
    return candidates.first { access($0, X_OK) == 0 } ?? candidates[0]
  }

  init(podBlock: String? = nil) throws {
    root =
      NSTemporaryDirectory() + "martlet-runtime-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
    images = ImageStore(root: root + "/images")
    _ = try images.importLayout(Self.busyboxLayout)
    cgroupParent = "/martlet-test-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
    runtime = try Self.makeRuntime(root, images, cgroupParent, podBlock)
  }

  private static func makeRuntime(
    _ root: String, _ images: ImageStore, _ cgroupParent: String, _ podBlock: String?
  ) throws -> CrunRuntime {
    var settings = CrunRuntime.Settings(
      root: root + "/runtime", images: images, shimCommand: [shimPath])
    settings.podBlock = podBlock.flatMap(IPv4Block.init)
    settings.bridge = "mttest\(getpid() % 10_000)"
    settings.cgroupParent = cgroupParent
    return try CrunRuntime(
      settings, group: MultiThreadedEventLoopGroup.singleton,
      logger: Logger(label: "test"))
  }

  /// As if the agent had been restarted.
  func restart() async throws {
    await runtime.shutDown()
    runtime = try Self.makeRuntime(root, images, cgroupParent, nil)
    try await runtime.recover()
  }

  func container(_ name: String, _ script: String, attempt: Int = 0) async throws
    -> ContainerConfiguration
  {
    let image = try #require(try await runtime.imageStatus("busybox"))
    var configuration = ContainerConfiguration(name: name, image: image, imageReference: "busybox")
    configuration.command = ["sh", "-c", script]
    configuration.attempt = attempt
    configuration.logPath = "\(root)/logs/\(name)/\(attempt).log"
    return configuration
  }

  func status(_ id: ContainerID) -> ContainerStatus? {
    runtime.pods().flatMap(\.containers).first { $0.id == id }
  }

  func waitForExit(_ id: ContainerID, seconds: Double = 20) async throws -> ContainerStatus.Exit {
    let deadline = Date().addingTimeInterval(seconds)
    while Date() < deadline {
      if case .exited(let exit) = status(id)?.state { return exit }
      try await Task.sleep(for: .milliseconds(10))
    }
    Issue.record("container \(id) did not exit: \(String(describing: status(id)))")
    throw CancellationError()
  }

  func waitForLog(_ name: String, attempt: Int = 0, containing text: String) async throws -> String
  {
    let path = "\(root)/logs/\(name)/\(attempt).log"
    let deadline = Date().addingTimeInterval(20)
    var log = ""
    while Date() < deadline {
      log = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
      if log.contains(text) { return log }
      try await Task.sleep(for: .milliseconds(10))
    }
    Issue.record("no \"\(text)\" in the log of \(name): \(log)")
    throw CancellationError()
  }

  /// Everything of this runtime that is still on the machine: processes, mounts, cgroups, files.
  func leftovers() -> [String] {
    var found: [String] = []
    for pid in Disk.names(in: "/proc") where Int(pid) != nil {
      let line = ((try? Disk.read("/proc/\(pid)/cmdline")) ?? []).split(separator: 0)
        .map { String(decoding: $0, as: UTF8.self) }.joined(separator: " ")
      if line.contains(root) { found.append("process \(pid): \(line)") }
    }
    let mounts = String(decoding: (try? Disk.read("/proc/self/mounts")) ?? [], as: UTF8.self)
    found += mounts.split(separator: "\n").filter { $0.contains(root) }.map { "mount \($0)" }
    for directory in Cgroups.detect().directories(cgroupParent) where Disk.exists(directory) {
      found.append("cgroup \(directory)")
    }
    for name in Disk.names(in: root + "/runtime/sandboxes") { found.append("sandbox \(name)") }
    for name in Disk.names(in: root + "/runtime/crun") { found.append("crun state \(name)") }
    return found
  }

  func end() async throws {
    for pod in runtime.pods() { try await runtime.removePodSandbox(pod.id) }
    #expect(leftovers() == [])
    await runtime.shutDown()
    try? Disk.removeTree(root)
  }
}

@Suite(
  "Runtime on crun", .enabled(if: runtimeObstacle == nil, "needs root, crun and busybox"),
  .serialized)
struct RuntimeTests {
  fileprivate func sandbox(_ name: String) -> SandboxConfiguration {
    var configuration = SandboxConfiguration(name: name, namespace: "default", uid: "uid-\(name)")
    configuration.hostname = name
    return configuration
  }

  @Test func `two containers share localhost, and nothing is left`() async throws {
    let fixture = try RuntimeFixture()
    let runtime = fixture.runtime
    let pod = try await runtime.runPodSandbox(sandbox("pair"))
    let server = try await runtime.createContainer(
      in: pod,
      fixture.container("server", "hostname; echo hello | nc -l -p 8080; sleep 1000"))
    try await runtime.startContainer(server)
    let client = try await runtime.createContainer(
      in: pod,
      fixture.container("client", "until nc 127.0.0.1 8080 </dev/null; do sleep 0.1; done; exit 3"))
    try await runtime.startContainer(client)

    let exit = try await fixture.waitForExit(client)
    #expect(exit.code == 3)
    #expect(exit.reason == "Error")
    let log = try await fixture.waitForLog("client", containing: "hello")
    // <time> <stream> F <line>
    let fields = log.split(separator: "\n").last!.split(separator: " ")
    #expect((try? Timestamp(String(fields[0]))) != nil)
    #expect(fields[1...] == ["stdout", "F", "hello"])
    _ = try await fixture.waitForLog("server", containing: "stdout F pair")

    // Asked to stop, a shell as process 1 ignores SIGTERM: the deadline kills it.
    try await runtime.stopContainer(server, timeout: .milliseconds(200))
    #expect(try await fixture.waitForExit(server).code == 137)
    try await fixture.end()
  }

  @Test func `a killed container is seen, and its log is complete`() async throws {
    let fixture = try RuntimeFixture()
    let runtime = fixture.runtime
    let pod = try await runtime.runPodSandbox(sandbox("killed"))
    let id = try await runtime.createContainer(
      in: pod,
      fixture.container(
        "c",
        "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; printf unended; sleep 1000")
    )
    try await runtime.startContainer(id)
    _ = try await fixture.waitForLog("c", containing: "line 4999")
    let processes =
      Cgroups.detect().directories("\(fixture.cgroupParent)/poduid-killed/\(id)")
      .compactMap { try? Disk.read($0 + "/cgroup.procs") }.first ?? []
    let pid = try #require(
      String(decoding: processes, as: UTF8.self).split(separator: "\n").compactMap { pid_t($0) }
        .first)
    kill(pid, SIGKILL)
    let exit = try await fixture.waitForExit(id)
    #expect(exit.code == 137)
    #expect(exit.reason == "Error")
    let log = try await fixture.waitForLog("c", containing: "unended")
    #expect(log.split(separator: "\n").count == 5001)
    #expect(log.contains(" stdout P unended\n"))
    try await fixture.end()
  }

  @Test func `a container over its memory limit was killed for that`() async throws {
    guard Cgroups.detect() != .none else { return }
    let fixture = try RuntimeFixture()
    let runtime = fixture.runtime
    let pod = try await runtime.runPodSandbox(sandbox("oom"))
    var configuration = try await fixture.container(
      "hungry", "echo fed > /dev/termination-log; exec tail /dev/zero")
    configuration.resources.memoryLimitBytes = 32 << 20
    let id = try await runtime.createContainer(in: pod, configuration)
    try await runtime.startContainer(id)
    let exit = try await fixture.waitForExit(id)
    #expect(exit.code == 137)
    #expect(exit.reason == "OOMKilled")
    #expect(exit.message == "fed\n")
    try await fixture.end()
  }

  @Test func `a container that can't start has ended with code 128`() async throws {
    let fixture = try RuntimeFixture()
    let runtime = fixture.runtime
    let pod = try await runtime.runPodSandbox(sandbox("nothing"))
    var configuration = try await fixture.container("c", "")
    configuration.command = ["/no/such/program"]
    let id = try await runtime.createContainer(in: pod, configuration)
    await #expect(throws: RuntimeError.self) { try await runtime.startContainer(id) }
    let exit = try await fixture.waitForExit(id)
    #expect(exit.code == 128)
    #expect(exit.reason == "StartError")
    #expect(exit.message.contains("/no/such/program"))
    try await runtime.removeContainer(id)
    try await fixture.end()
  }

  @Test func `pods survive a restart of the agent`() async throws {
    let fixture = try RuntimeFixture()
    let pod = try await fixture.runtime.runPodSandbox(sandbox("steady"))
    let id = try await fixture.runtime.createContainer(
      in: pod, fixture.container("c", "while [ ! -e /tmp/go ]; do echo tick; sleep 0.1; done"))
    try await fixture.runtime.startContainer(id)
    let short = try await fixture.runtime.createContainer(
      in: pod, fixture.container("short", "sleep 0.5; exit 9"))
    try await fixture.runtime.startContainer(short)

    await fixture.runtime.shutDown()
    // While no agent runs, one container ends and the other goes on writing.
    try await Task.sleep(for: .seconds(1))
    try await fixture.restart()

    let status = try #require(fixture.runtime.pods().first)
    #expect(status.isReady)
    #expect(try await fixture.waitForExit(short).code == 9)
    guard case .running = fixture.status(id)?.state else {
      Issue.record("the container does not run: \(String(describing: fixture.status(id)))")
      return try await fixture.end()
    }
    try await fixture.runtime.stopContainer(id, timeout: .zero)
    #expect(try await fixture.waitForExit(id).code == 137)
    try await fixture.end()
  }

  @Test func `a dead shim means a lost sandbox, and nothing is left of it`() async throws {
    let fixture = try RuntimeFixture()
    let runtime = fixture.runtime
    let pod = try await runtime.runPodSandbox(sandbox("lost"))
    let id = try await runtime.createContainer(in: pod, fixture.container("c", "sleep 1000"))
    try await runtime.startContainer(id)
    let shim = try Disk.readJSON(SandboxFiles.shim(runtime.directory(pod)))
    kill(pid_t(try #require(shim["pid"].int)), SIGKILL)
    let exit = try await fixture.waitForExit(id)
    #expect(exit.reason == "ContainerStatusUnknown")
    #expect(runtime.pods().first?.isReady == false)
    try await fixture.end()
  }
}

extension RuntimeTests {
  @Test func `a cancelled task still finishes what it began`() async throws {
    let fixture = try RuntimeFixture()
    let runtime = fixture.runtime
    let configuration = SandboxConfiguration(name: "half", namespace: "default", uid: "uid-half")
    let task = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      let pod = try await runtime.runPodSandbox(configuration)
      try await runtime.removePodSandbox(pod)
    }
    try await task.value
    try await fixture.end()
  }
}

/// Collects what a command's streams carry.
private actor Collected {
  private(set) var output = ""
  func add(_ bytes: [UInt8]) { output += String(decoding: bytes, as: UTF8.self) }
}

extension RuntimeTests {
  private func output(
    of command: some RunningCommand, _ act: @escaping @Sendable () async throws -> Void = {}
  ) async throws -> (ExecEnd, String) {
    let collected = Collected()
    async let acted: Void = act()
    let end = await command.pump { bytes, _ in await collected.add(bytes) }
    try await acted
    return (end, await collected.output)
  }

  @Test func `a program joins a container, with a terminal and without`() async throws {
    let fixture = try RuntimeFixture()
    let runtime = fixture.runtime
    let pod = try await runtime.runPodSandbox(sandbox("joined"))
    var configuration = try await fixture.container("c", "sleep 1000")
    configuration.environment = [("MARK", "inherited")]
    let id = try await runtime.createContainer(in: pod, configuration)
    try await runtime.startContainer(id)

    let plain = try await runtime.execute(id, ExecRequest(["sh", "-c", "echo $MARK; exit 3"]))
    #expect(try await output(of: plain) == (.exited(3), "inherited\n"))

    // What is printed last counts however long it was silent before.
    let late = try await runtime.execute(id, ExecRequest(["sh", "-c", "sleep 0.7; echo late"]))
    #expect(try await output(of: late) == (.exited(0), "late\n"))

    var request = ExecRequest(["cat"])
    request.hasInput = true
    let copy = try await runtime.execute(id, request)
    #expect(
      try await output(of: copy) {
        try await copy.write(Array("in and out".utf8))
        copy.endInput()
      } == (.exited(0), "in and out"))

    request = ExecRequest(["sh", "-c", "read line; stty size; echo $line"])
    request.hasInput = true
    request.hasTerminal = true
    let terminal = try await runtime.execute(id, request)
    let (end, text) = try await output(of: terminal) {
      terminal.resize(columns: 77, rows: 33)
      try await terminal.write(Array("typed\n".utf8))
    }
    #expect(end == .exited(0))
    // The terminal echoes what is typed, and ends its lines as terminals do.
    #expect(text == "typed\r\n33 77\r\ntyped\r\n")

    let missing = try await runtime.execute(id, ExecRequest(["/no/such/program"]))
    guard case (.failed(let words), _) = try await output(of: missing) else {
      Issue.record("a missing program ran")
      return try await fixture.end()
    }
    #expect(words.contains("/no/such/program"))
    await #expect(throws: ExecTimeout.self) {
      try await runtime.run(
        ["sleep", "1000"], in: id, timeout: .milliseconds(300), outputLimit: 10)
    }
    let left = try await runtime.run(
      ["sh", "-c", "ps | grep -c '[s]leep'"], in: id, timeout: .seconds(10), outputLimit: 100)
    #expect(String(decoding: left.output, as: UTF8.self) == "1\n")
    try await fixture.end()
  }

  @Test func `clients attach to a container and reach its ports`() async throws {
    let fixture = try RuntimeFixture()
    let runtime = fixture.runtime
    let pod = try await runtime.runPodSandbox(sandbox("attached"))
    var configuration = try await fixture.container("c", "while read x; do echo got $x; done; exit 6")
    configuration.hasInput = true
    configuration.closesInputOnce = true
    let id = try await runtime.createContainer(in: pod, configuration)
    let server = try await runtime.createContainer(
      in: pod, fixture.container("server", "while :; do echo hello | nc -l -p 8080; done"))
    for container in [id, server] { try await runtime.startContainer(container) }

    let client = try await runtime.attach(id, input: true)
    let watcher = try await runtime.attach(id, input: false)
    async let seen = output(of: watcher)
    let own = try await output(of: client) {
      try await client.write(Array("one\ntwo\n".utf8))
      client.endInput()
    }
    #expect(own == (.exited(0), "got one\ngot two\n"))
    #expect(try await seen.1 == "got one\ngot two\n")
    #expect(try await fixture.waitForExit(id).code == 6)
    _ = try await fixture.waitForLog("c", containing: "got two")
    await #expect(throws: RuntimeError.self) { try await runtime.attach(id, input: true) }

    var greeting: [UInt8] = []
    for _ in 0..<100 where greeting.isEmpty {
      guard let connection = try? await runtime.connect(to: pod, port: 8080) else {
        try await Task.sleep(for: .milliseconds(20))
        continue
      }
      while let piece = try? await connection.read() { greeting += piece }
      connection.close()
    }
    #expect(greeting == Array("hello\n".utf8))
    await #expect(throws: SystemError.self) { try await runtime.connect(to: pod, port: 1) }
    try await fixture.end()
  }
}
