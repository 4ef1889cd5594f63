import ArgumentParser
import EtcdClient
import EtcdProto
import SwiftProtobuf

/// `martlet ctl auth`
struct AuthCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "auth", abstract: "Authentication as a whole.",
    subcommands: [Enable.self, Disable.self, Status.self])

  static func check(_ arguments: [String], _ name: String) throws {
    guard arguments.isEmpty else {
      throw CtlFailure.arguments("auth \(name) command does not accept any arguments")
    }
  }

  struct Enable: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Enable authentication.")
    @OptionGroup var options: CtlOptions
    @Argument(help: .hidden) var arguments: [String] = []

    func run() async throws {
      try AuthCommand.check(arguments, "enable")
      let client = try await options.client()
      do {
        try await enable(client)
      } catch let failure as CtlFailure
        where failure.description == "etcdserver: root user does not have root role"
      {
        // As etcdctl does: somebody must be able to administer from now on.
        let _: Etcdserverpb_AuthRoleAddResponse = try await calling {
          try await client.call(
            "Auth/RoleAdd", Etcdserverpb_AuthRoleAddRequest.with { $0.name = "root" })
        }
        let _: Etcdserverpb_AuthUserGrantRoleResponse = try await calling {
          try await client.call(
            "Auth/UserGrantRole",
            Etcdserverpb_AuthUserGrantRoleRequest.with {
              $0.user = "root"
              $0.role = "root"
            })
        }
        try await enable(client)
      }
      CtlOutput.line("Authentication Enabled")
    }

    private func enable(_ client: MessageClient) async throws {
      let _: Etcdserverpb_AuthEnableResponse = try await calling {
        try await client.call("Auth/AuthEnable", Etcdserverpb_AuthEnableRequest())
      }
    }
  }

  struct Disable: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Disable authentication.")
    @OptionGroup var options: CtlOptions
    @Argument(help: .hidden) var arguments: [String] = []

    func run() async throws {
      try AuthCommand.check(arguments, "disable")
      let client = try await options.client()
      let _: Etcdserverpb_AuthDisableResponse = try await calling {
        try await client.call("Auth/AuthDisable", Etcdserverpb_AuthDisableRequest())
      }
      CtlOutput.line("Authentication Disabled")
    }
  }

  struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Say whether authentication is on.")
    @OptionGroup var options: CtlOptions
    @Argument(help: .hidden) var arguments: [String] = []

    func run() async throws {
      try AuthCommand.check(arguments, "status")
      let printer = try options.printer()
      let client = try await options.client()
      let answer: Etcdserverpb_AuthStatusResponse = try await calling {
        try await client.call("Auth/AuthStatus", Etcdserverpb_AuthStatusRequest(), isSafe: true)
      }
      try printer.print(
        answer,
        fields: {
          printer.header(answer.header)
          printer.field("Enabled", answer.enabled)
          printer.field("AuthRevision", answer.authRevision)
        }
      ) {
        printer.line("Authentication Status: \(answer.enabled)")
        printer.line("AuthRevision: \(answer.authRevision)")
      }
    }
  }
}
