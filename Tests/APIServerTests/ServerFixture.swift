import EtcdClient
import Foundation
import HTTPServer
import KubeAPI
import Logging
import Primitives
import Synchronization

@testable import APIServer

/// An API server in this process, on a store in memory or a real one, with a clock that stands still and
/// identifiers that count up, so that transcripts come out alike.
final class ServerFixture: Sendable {
  let port: Int
  let directory: TemporaryDirectory
  private let running: Task<Void, any Error>

  /// - Parameter isTimeless: whether the clock stands still and identifiers count up.
  init(
    store: (any ObjectStore)?, endpoints: [StoreClient.Endpoint] = [], isTimeless: Bool = true
  ) async throws {
    directory = TemporaryDirectory()
    var configuration = KubeAPIServer.Configuration(
      dataDirectory: directory.path, storeEndpoints: endpoints)
    configuration.port = 0
    configuration.nodes = [.init(name: "node-1", addresses: ["127.0.0.1"])]
    // Its renewal would come at any moment and change revisions.
    configuration.publishesAddress = false
    configuration.limits.drain = .milliseconds(200)
    var environment = KubeAPIServer.Environment()
    let uids = Counter()
    if isTimeless {
      environment.service = ResourceService.Environment(
        now: { Timestamp(secondsSinceEpoch: 1_767_225_600) },
        uid: { uids.uid() },
        random: { RandomSource(seed: uids.next()) })
    }
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    let server = try KubeAPIServer(
      configuration, store: store, environment: environment, logger: logger)
    port = try await server.bind()
    running = Task { try await server.runBound() }
    for _ in 0..<400 {
      let outcome = try await Shell.runApart(
        "curl -skf -o /dev/null https://127.0.0.1:\(port)/readyz")
      if outcome.code == 0 {
        try await makeDefaultAccount()
        return
      }
      try await Task.sleep(for: .milliseconds(25))
    }
    throw FixtureError("the server never became ready")
  }

  /// What a controller does in a cluster; without it no pod is taken.
  private func makeDefaultAccount() async throws {
    let outcome = try await Shell.runApart(
      "curl -skf -o /dev/null -X POST -H 'Content-Type: application/json' "
        + "-H \"Authorization: Bearer $(cat \(directory.path)/pki/admin.token)\" "
        + "-d '{\"metadata\":{\"name\":\"default\"}}' "
        + "https://127.0.0.1:\(port)/api/v1/namespaces/default/serviceaccounts")
    guard [0, 22].contains(outcome.code) else {
      throw FixtureError("the default service account could not be made: \(outcome)")
    }
  }

  private final class Counter: Sendable {
    private let value = Mutex<UInt64>(0)
    func next() -> UInt64 {
      value.withLock {
        $0 += 1
        return $0
      }
    }
    func uid() -> String {
      let text = String(next(), radix: 16)
      return "00000000-0000-4000-8000-" + String(repeating: "0", count: 12 - text.count) + text
    }
  }

  func stop() async {
    running.cancel()
    _ = await running.result
  }

  var environment: [String: String] {
    [
      "KUBECONFIG": directory.path + "/kubeconfig", "HOME": directory.path, "PORT": String(port),
    ]
  }
}
