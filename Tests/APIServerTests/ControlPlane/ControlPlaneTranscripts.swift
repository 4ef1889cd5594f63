import Controllers
import Dispatch
import Foundation
import KubeClient
import Logging
import Scheduler
import TestKit
import Testing

/// What real kubectl sees of the whole control plane: API server, controllers and scheduler, with nodes
/// that only say that they run their pods (`HollowNode`).
///
/// A command is a line for the shell; the lines below it are its standard input. `until COMMAND` repeats a
/// command, for up to twenty seconds, until it prints the lines below; what it printed last stands in the
/// output if it never does. Ages and generated names differ from run to run: commands leave them out.
@Suite("The control plane", .serialized, .timeLimit(.minutes(5)))
struct ControlPlaneTranscripts {
  private static let runner = GoldenRunner()

  @Test(
    "does what Kubernetes' does",
    .enabled(if: KubectlTranscripts.hasKubectl, "there is no kubectl on the PATH"),
    arguments: Self.runner.files)
  func transcript(_ file: String) async throws {
    let cluster = try await HollowCluster(nodes: 3)
    let result: Result<Void, any Error> = await withCheckedContinuation { continuation in
      DispatchQueue.global().async {
        continuation.resume(
          returning: Result { try Self.runner.run(file) { try cluster.perform($0) } })
      }
    }
    await cluster.stop()
    try result.get()
  }
}

/// A control plane in this process, with nodes that run nothing.
final class HollowCluster: Sendable {
  private let server: ServerFixture
  private let work: Task<Void, Never>

  init(nodes: Int) async throws {
    let server = try await ServerFixture(store: MemoryStore(), isTimeless: false)
    self.server = server
    var log = Logger(label: "test")
    log.logLevel = .critical
    func client(_ file: String, _ name: String) throws -> APIClient {
      try APIClient(
        Kubeconfig(path: server.directory.path + "/" + file), userAgent: "martlet-\(name)")
    }
    let manager = ControllerManager(
      client: try client("controller-manager.kubeconfig", "controllers"), identity: "test",
      rootCertificates: "the authority", log: log)
    let scheduler = PodScheduler(
      client: try client("scheduler.kubeconfig", "scheduler"), identity: "test", log: log)
    let hollow = try (1...nodes).map {
      HollowNode(number: $0, client: try client("kubeconfig", "node"), log: log)
    }
    work = Task {
      await withTaskGroup(of: Void.self) { group in
        group.addTask { await manager.run() }
        group.addTask { await scheduler.run() }
        for node in hollow { group.addTask { await node.run() } }
      }
    }
  }

  func stop() async {
    work.cancel()
    await work.value
    await server.stop()
  }

  func perform(_ command: GoldenCommand) throws -> String {
    let line = String(command.text.split(separator: "\n")[0])
    guard command.name == "until" else { return try run(line, command.input) }
    let wanted = command.input.trimmingCharacters(in: .whitespacesAndNewlines)
    let deadline = Date().addingTimeInterval(20)
    var text = ""
    repeat {
      text = try run(String(line.dropFirst("until ".count)), "")
      if text.trimmingCharacters(in: .whitespacesAndNewlines) == wanted { return "" }
      usleep(100_000)
    } while Date() < deadline
    return text
  }

  private func run(_ line: String, _ input: String) throws -> String {
    let outcome = try Shell.run(line, input: input, environment: server.environment)
    var lines: [String] = []
    for line in outcome.output.split(separator: "\n", omittingEmptySubsequences: false) {
      var kept = String(line).replacingOccurrences(of: ":\(server.port)", with: ":PORT")
      while kept.last == " " { kept.removeLast() }
      lines.append(kept)
    }
    let text = lines.joined(separator: "\n")
    return outcome.code == 0 ? text : text + "exit \(outcome.code)"
  }
}
