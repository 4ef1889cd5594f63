import ArgumentParser
import Certification
import EtcdServer
import Foundation
import KubeAPI
import KubeClient

/// `martlet token`: what machines join a cluster with.
struct TokenCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "token", abstract: "Make, list and delete the tokens by which machines join.",
    discussion: """
      A token lets its bearer ask for a node's certificate, and nothing else; it ends after --ttl. Each is a
      Secret of the type bootstrap.kubernetes.io/token in the namespace kube-system, as kubeadm's are.

        martlet token create --kubeconfig martlet-data/kubeconfig --print-join-command
      """,
    subcommands: [Create.self, List.self, Delete.self])

  private static let namespace = "kube-system"
  private static let prefix = "bootstrap-token-"
  private static let letters = Array("abcdefghijklmnopqrstuvwxyz0123456789")

  struct Create: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Make a token and print it.")

    @Option(help: "Kubeconfig of an administrator.")
    var kubeconfig: String

    @Option(help: "How long the token is good; 0 for ever.")
    var ttl = "24h0m0s"

    @Option(help: "What it is for.")
    var description = ""

    @Flag(help: "Print the whole command that a machine joins with.")
    var printJoinCommand = false

    func run() async throws {
      guard let life = GoDuration.parse(ttl), life >= .zero else {
        throw UsageFailure("--ttl must be a duration such as 24h0m0s, or 0, not '\(ttl)'")
      }
      let (client, configuration) = try TokenCommand.connect(kubeconfig)
      var random = SystemRandomNumberGenerator()
      func text(_ count: Int) -> String {
        String((0..<count).map { _ in TokenCommand.letters.randomElement(using: &random) ?? "a" })
      }
      let (id, secret) = (text(6), text(16))
      var data: Value = [
        "token-id": Value(id), "token-secret": Value(secret),
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:martlet:default-node-token",
      ]
      if !description.isEmpty { data["description"] = Value(description) }
      if life > .zero {
        let end = Date().timeIntervalSince1970 + life / .seconds(1)
        data["expiration"] = Value(Timestamp(secondsSinceEpoch: Int64(end)))
      }
      try await TokenCommand.reporting {
        try await client.create(
          .secrets, namespace: TokenCommand.namespace,
          [
            "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": ["name": Value(TokenCommand.prefix + id), "namespace": Value(TokenCommand.namespace)],
            "stringData": data,
          ])
      }
      guard printJoinCommand else { return print("\(id).\(secret)") }
      guard let authority = configuration.authorityPEM else {
        throw StartFailure("\(kubeconfig) names no authority, so its hash can't be told")
      }
      let hash: String
      do {
        hash = try CertificateText.publicKeyHash(String(decoding: authority, as: UTF8.self))
      } catch { throw StartFailure("\(error)") }
      let host = configuration.host.contains(":") ? "[\(configuration.host)]" : configuration.host
      print(
        "martlet node --join https://\(host):\(configuration.port) --token \(id).\(secret) "
          + "--ca-cert-hash \(hash)")
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List the tokens.")

    @Option(help: "Kubeconfig of an administrator.")
    var kubeconfig: String

    func run() async throws {
      let (client, _) = try TokenCommand.connect(kubeconfig)
      let list = try await TokenCommand.reporting {
        try await client.list(
          .secrets, namespace: TokenCommand.namespace, fieldSelector: "type=bootstrap.kubernetes.io/token")
      }
      let rows = list["items"].elements.map { secret -> [String] in
        func text(_ key: String) -> String {
          secret["data"][key].string.flatMap { Base64.decode($0) }
            .map { String(decoding: $0, as: UTF8.self) } ?? ""
        }
        let expires = text("expiration")
        return [
          "\(text("token-id")).\(text("token-secret"))", expires.isEmpty ? "<never>" : expires,
          text("description").isEmpty ? "<none>" : text("description"),
        ]
      }
      let all = [["TOKEN", "EXPIRES", "DESCRIPTION"]] + rows
      let widths = (0..<2).map { column in all.map { $0[column].count }.max() ?? 0 }
      for row in all {
        let cells = (0..<2).map {
          row[$0] + String(repeating: " ", count: widths[$0] - row[$0].count)
        }
        print((cells + [row[2]]).joined(separator: "   "))
      }
    }
  }

  struct Delete: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Delete a token.")

    @Option(help: "Kubeconfig of an administrator.")
    var kubeconfig: String

    @Argument(help: "The token, or the six letters before its dot.")
    var token: String

    func run() async throws {
      let id = token.split(separator: ".", omittingEmptySubsequences: false).first.map(String.init) ?? ""
      guard id.count == 6, id.allSatisfy({ TokenCommand.letters.contains($0) }) else {
        throw UsageFailure("'\(token)' is no token: it has six letters before its dot")
      }
      let (client, _) = try TokenCommand.connect(kubeconfig)
      try await TokenCommand.reporting {
        try await client.delete(.secrets, namespace: TokenCommand.namespace, name: TokenCommand.prefix + id)
      }
      print("bootstrap token \"\(id)\" deleted")
    }
  }

  private static func connect(_ path: String) throws -> (APIClient, Kubeconfig) {
    do {
      let configuration = try Kubeconfig(path: path)
      return (try APIClient(configuration, userAgent: "martlet-token"), configuration)
    } catch {
      throw StartFailure("\(error)")
    }
  }

  @discardableResult
  private static func reporting<Answer>(
    _ body: () async throws -> Answer
  ) async throws -> Answer {
    do { return try await body() } catch { throw StartFailure("\(error)") }
  }
}
