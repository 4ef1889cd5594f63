import Dispatch
import Foundation
import TestKit
import Testing

/// What the real kubectl prints against the API server, on a real etcd where there is one.
///
/// A command is a line for the shell; the lines below it are its standard input. Two words are the
/// runner's own: `begin NAME COMMAND` starts a command in the background, `end NAME` stops it and shows
/// what it printed.
@Suite("kubectl", .serialized, .timeLimit(.minutes(5)))
struct KubectlTranscripts {
  static let hasKubectl = (try? Shell.run("kubectl version --client").code) == 0

  @Test(
    "prints what it does against Kubernetes",
    .enabled(if: hasKubectl, "there is no kubectl on the PATH"),
    arguments: GoldenRunner().files)
  func transcript(_ file: String) async throws {
    let etcd = EtcdFixture.binary == nil ? nil : try EtcdFixture()
    let server = try await ServerFixture(
      store: etcd == nil ? MemoryStore() : nil, endpoints: etcd?.endpoints ?? [])
    // Waiting for processes must not take the threads that the server runs on.
    let result: Result<Void, any Error> = await withCheckedContinuation { continuation in
      DispatchQueue.global().async {
        let session = Session(server: server)
        continuation.resume(
          returning: Result { try GoldenRunner().run(file) { try session.perform($0) } })
      }
    }
    await server.stop()
    withExtendedLifetime(etcd) {}
    try result.get()
  }

  private final class Session {
    private let server: ServerFixture
    private var background: [String: Shell.Running] = [:]

    init(server: ServerFixture) { self.server = server }

    func perform(_ command: GoldenCommand) throws -> String {
      let line = String(command.text.split(separator: "\n")[0])
      switch command.name {
      case "begin":
        let words = line.split(separator: " ", maxSplits: 2)
        background[String(words[1])] = try Shell.start(
          "exec " + words[2], environment: server.environment)
        // Until its requests have arrived.
        usleep(700_000)
        return ""
      case "end":
        guard let running = background.removeValue(forKey: command.arguments[0]) else {
          return "no such command"
        }
        usleep(300_000)
        running.process.terminate()
        return normalise(
          String(decoding: running.output.readDataToEndOfFile(), as: UTF8.self))
      default:
        let outcome = try Shell.run(line, input: command.input, environment: server.environment)
        let text = normalise(outcome.output)
        return outcome.code == 0 ? text : text + "exit \(outcome.code)"
      }
    }

    /// Takes out what differs from run to run: ports, and ages that the client counts itself.
    private func normalise(_ text: String) -> String {
      var lines: [String] = []
      for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
        var kept = String(line).replacingOccurrences(of: ":\(server.port)", with: ":PORT")
        while kept.last == " " { kept.removeLast() }
        lines.append(kept)
      }
      return lines.joined(separator: "\n")
    }
  }
}
