import APIServer
import Foundation
import HTTPServer
import Testing

/// `kubectl logs` through the API server to a node, played by a listener of this test.
@Suite("Logs", .serialized, .timeLimit(.minutes(2)))
struct NodeLogTests {
  private let manifests = """
    apiVersion: v1
    kind: Node
    metadata:
      name: node-1
    ---
    apiVersion: v1
    kind: Pod
    metadata:
      name: p
    spec:
      nodeName: node-1
      containers:
      - name: main
        image: busybox
    """

  /// Runs a node on a port that the Node's status tells, with the given certificate.
  private func withNode(
    certificate: String = "node-1", handler: @escaping HTTPListener.Handler,
    body: (ServerFixture) async throws -> Void
  ) async throws {
    let server = try await ServerFixture(store: MemoryStore())
    let pki = try ClusterPKI(directory: server.directory.path)
    let credential = try pki.ensureNode(name: certificate, addresses: ["127.0.0.1"])
    let node = HTTPListener(
      address: "127.0.0.1", port: 0,
      tls: TLSSettings(
        certificateChain: credential.certificatePEM, privateKey: credential.keyPEM,
        clientRoots: pki.authorityPEM, clientCertificates: .required), handler: handler)
    let port = try await node.bind()
    let running = Task { try await node.run() }
    var outcome = try await Shell.runApart(
      "kubectl create -f -", input: manifests, environment: server.environment)
    #expect(outcome.code == 0, "\(outcome.output)")
    let status = """
      {"status":{"addresses":[{"type":"InternalIP","address":"127.0.0.1"}],
      "daemonEndpoints":{"kubeletEndpoint":{"Port":\(port)}}}}
      """
    outcome = try await Shell.runApart(
      "kubectl patch node node-1 --subresource=status --type=merge -p '\(status)'",
      environment: server.environment)
    #expect(outcome.code == 0, "\(outcome.output)")
    try await body(server)
    running.cancel()
    try await running.value
    await server.stop()
  }

  private func kubectl(_ command: String, _ server: ServerFixture) async throws -> Shell.Outcome {
    try await Shell.runApart("kubectl " + command, environment: server.environment)
  }

  @Test(
    "come through as the node sends them, with the client's wishes passed on",
    .enabled(if: KubectlTranscripts.hasKubectl, "there is no kubectl on the PATH"))
  func logs() async throws {
    try await withNode { request in
      HTTPResponse(
        status: 200,
        body: .stream { writer in
          try await writer.write(Array("\(request.target.path)?\(request.target.rawQuery)\n".utf8))
          for line in 1...3 {
            try await Task.sleep(for: .milliseconds(30))
            try await writer.write(Array("line \(line)\n".utf8))
          }
        })
    } body: { server in
      let plain = try await kubectl("logs p", server)
      #expect(
        plain.output
          == "/containerLogs/default/p/main?\nline 1\nline 2\nline 3\n")
      let followed = try await kubectl("logs -f p --tail=5 --timestamps --since=10s", server)
      #expect(
        followed.output.hasPrefix(
          "/containerLogs/default/p/main?follow=true&timestamps=true&sinceSeconds=10&tailLines=5\n"
        ))
      let wrong = try await kubectl("logs p -c other", server)
      #expect(wrong.output.contains("container other is not valid for pod p"))
    }
  }

  @Test(
    "say what the node refused",
    .enabled(if: KubectlTranscripts.hasKubectl, "there is no kubectl on the PATH"))
  func refusals() async throws {
    try await withNode { _ in
      .text(400, "container \"main\" in pod \"p\" is waiting to start: ContainerCreating")
    } body: { server in
      let outcome = try await kubectl("logs p", server)
      #expect(outcome.code == 1)
      #expect(
        outcome.output.contains(
          "(BadRequest): container \"main\" in pod \"p\" is waiting to start: ContainerCreating"))
    }
  }

  @Test(
    "are not taken from another node at the node's address",
    .enabled(if: KubectlTranscripts.hasKubectl, "there is no kubectl on the PATH"))
  func impostor() async throws {
    try await withNode(certificate: "node-2") { _ in
      .text(200, "forged")
    } body: { server in
      let outcome = try await kubectl("logs p", server)
      #expect(outcome.code == 1)
      #expect(outcome.output.contains("is not system:node:node-1"))
      #expect(!outcome.output.contains("forged"))
    }
  }
}
