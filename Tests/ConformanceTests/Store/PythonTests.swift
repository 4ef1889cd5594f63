import Foundation
import TestKit
import Testing

extension StoreConformance {
  /// A client of another language and library, with stubs from our `.proto` files, gets etcd's answers.
  ///
  /// Each block of the transcript is a section of `Clients/api.py` and runs against a fresh store.
  @Suite(.serialized, .enabled(if: Peers.python != nil, Missing.python))
  struct PythonTranscripts {
    @Test(.enabled(if: Peers.etcd != nil, Missing.etcd))
    func theTranscriptIsEtcds() throws {
      try run("api.txt", .etcd, GoldenRunner(folder: "Golden/Python"))
    }

    @Test func oneMemberAnswersTheSame() throws {
      try run(
        "api.txt", .martlet, GoldenRunner(folder: "Golden/Python", mayRewrite: false))
    }

    /// This transcript is ours.
    @Test func itDiffersOnlyWhereItShould() throws {
      try run("differences.txt", .martlet, GoldenRunner(folder: "Golden/Python"))
    }

    private func run(
      _ file: String, _ implementation: StoreCluster.Implementation, _ runner: GoldenRunner
    ) throws {
      try runner.run(file) { command in
        let cluster = try StoreCluster(implementation)
        return try PythonClient.run("api.py", [cluster.members[0].endpoint, command.name])
      }
    }
  }
}

/// Scripts of the folder `Clients`.
enum PythonClient {
  static let folder = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
    .deletingLastPathComponent().appendingPathComponent("Clients").path

  static let environment = ["PYTHONDONTWRITEBYTECODE": "1", "GRPC_VERBOSITY": "NONE"]

  /// Runs a script to its end; errors come after what it printed.
  static func run(_ script: String, _ arguments: [String], seconds: Double = 60) throws -> String {
    guard let python = Peers.python else { throw ProgramError("there is no Python here") }
    let outcome = try python.run(
      ["\(folder)/\(script)"] + arguments,
      environment: environment, seconds: seconds)
    return outcome.output + outcome.errors + (outcome.status == 0 ? "" : "exit \(outcome.status)")
  }
}
