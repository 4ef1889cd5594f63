import CLinux
import Foundation
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
/// The network is one of its own too: the test's process moves to a new network namespace first, so a
/// bridge of the same name or address on the machine is neither seen nor touched.
final class RuntimeFixture {
  let root: String
  let images: ImageStore
  let cgroupParent: String
  private(set) var runtime: CrunRuntime

  static let busyboxLayout: String = {
    let directory = NSTemporaryDirectory() + "martlet-busybox-\(getpid())"
    let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../Scripts/make-busybox-image").path
    // Resolves symbolic links on the way here.
    let candidates = [script, "/work/main/Scripts/make-busybox-image"]
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/bash")
    process.arguments = [
      candidates.first { FileManager.default.fileExists(atPath: $0) } ?? script, directory,
    ]
    process.standardOutput = FileHandle.nullDevice
    try? process.run()
    process.waitUntilExit()
    return directory
  }()

  private static let separateNetwork: Void = {
    // Threads that exist already stay behind; those that the runtime's pools start from here inherit.
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
  private func sandbox(_ name: String) -> SandboxConfiguration {
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
}
