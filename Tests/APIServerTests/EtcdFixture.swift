import Dispatch
import EtcdClient
import Foundation
import TestKit

#if canImport(Glibc)
  import Glibc
#endif

/// A real etcd for a test: one or several members with fresh data, on ports of their own.
///
/// The program is the one that `Scripts/fetch-peers` fetched.
final class EtcdFixture: @unchecked Sendable {
  // Used by one test at a time; the processes are the only state.
  private var processes: [Process] = []
  private let directory = TemporaryDirectory()
  private(set) var endpoints: [StoreClient.Endpoint] = []

  static let binary = Peers.etcd?.path

  /// Starts `members` members and waits until they answer.
  init(members: Int = 1) throws {
    guard let binary = Self.binary else { throw FixtureError("there is no etcd") }
    let ports = try (0..<(2 * members)).map { _ in try Loopback.freePort() }
    let cluster = (0..<members).map { "m\($0)=http://127.0.0.1:\(ports[2 * $0 + 1])" }
      .joined(separator: ",")
    for member in 0..<members {
      let client = "http://127.0.0.1:\(ports[2 * member])"
      let peer = "http://127.0.0.1:\(ports[2 * member + 1])"
      let process = Process()
      process.executableURL = URL(fileURLWithPath: binary)
      process.arguments = [
        "--name", "m\(member)", "--data-dir", "\(directory.path)/m\(member)",
        "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--initial-cluster", cluster, "--log-level", "error",
      ]
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      try process.run()
      processes.append(process)
      endpoints.append(StoreClient.Endpoint(host: "127.0.0.1", port: ports[2 * member]))
    }
    for endpoint in endpoints {
      try Shell.wait("curl -sf -o /dev/null http://\(endpoint)/health")
    }
  }

  /// Stops a member without letting it go: its port stays open and nothing answers.
  func freeze(_ member: Int) { kill(processes[member].processIdentifier, SIGSTOP) }
  func thaw(_ member: Int) { kill(processes[member].processIdentifier, SIGCONT) }
  func killMember(_ member: Int) { kill(processes[member].processIdentifier, SIGKILL) }

  deinit {
    for process in processes where process.isRunning {
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
    }
  }
}

struct FixtureError: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}

/// Commands of the shell.
enum Shell {
  struct Outcome {
    var output: String
    var code: Int32
  }

  /// The longest that a command may take, in seconds: one that hangs must fail its test, not stop the run.
  private static let patience = 120

  /// Runs a command to its end; standard output and error come together. After two minutes it is ended,
  /// with code 124.
  static func run(
    _ command: String, input: String = "", environment: [String: String] = [:]
  ) throws -> Outcome {
    let process = try start(
      command, input: input, environment: environment,
      launcher: ["/usr/bin/timeout", "\(patience)", "/bin/sh", "-c"])
    let data = process.output.readDataToEndOfFile()
    process.process.waitUntilExit()
    return Outcome(
      output: String(decoding: data, as: UTF8.self), code: process.process.terminationStatus)
  }

  struct Running {
    var process: Process
    var output: FileHandle
  }

  static func start(
    _ command: String, input: String = "", environment: [String: String] = [:],
    launcher: [String] = ["/bin/sh", "-c"]
  ) throws -> Running {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: launcher[0])
    process.arguments = launcher.dropFirst() + [command]
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let output = Pipe()
    let standardInput = Pipe()
    process.standardOutput = output
    process.standardError = output
    process.standardInput = standardInput
    try process.run()
    standardInput.fileHandleForWriting.write(Data(input.utf8))
    try standardInput.fileHandleForWriting.close()
    return Running(process: process, output: output.fileHandleForReading)
  }

  /// As `run`, away from the threads that Swift's tasks run on: a server in this process needs them to
  /// answer, and there may be as few as two.
  static func runApart(
    _ command: String, input: String = "", environment: [String: String] = [:]
  ) async throws -> Outcome {
    let result: Result<Outcome, any Error> = await withCheckedContinuation { continuation in
      DispatchQueue.global().async {
        continuation.resume(
          returning: Result { try run(command, input: input, environment: environment) })
      }
    }
    return try result.get()
  }

  /// Repeats a command until it succeeds, for ten seconds.
  static func wait(_ command: String) throws {
    for _ in 0..<200 {
      if try run(command).code == 0 { return }
      usleep(50_000)
    }
    throw FixtureError("never succeeded: \(command)")
  }
}
