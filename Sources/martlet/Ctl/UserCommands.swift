import ArgumentParser
import EtcdClient
import EtcdProto
import SwiftProtobuf

/// `martlet ctl user`
struct UserCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "user", abstract: "Users.",
    subcommands: [
      Add.self, Delete.self, Get.self, List.self, Passwd.self, GrantRole.self, RevokeRole.self,
    ])

  static func name(_ arguments: [String], _ command: String) throws -> String {
    guard arguments.count == 1 else {
      throw CtlFailure.arguments("user \(command) command requires user name as its argument")
    }
    return arguments[0]
  }

  static func readPassword(of name: String, isInteractive: Bool) throws -> String {
    guard isInteractive else {
      // The first word of the line.
      return readLine().map { $0.split(separator: " ").first.map(String.init) ?? "" } ?? ""
    }
    let first = try CtlSecurity.askSecretly("Password of \(name): ")
    guard !first.isEmpty else { throw CtlFailure.arguments("empty password") }
    let second = try CtlSecurity.askSecretly("Type password of \(name) again for confirmation: ")
    guard first == second else { throw CtlFailure.arguments("given passwords are different") }
    return first
  }

  struct Add: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Add a new user.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "NAME or NAME:PASSWORD.") var arguments: [String] = []
    @Flag(inversion: .prefixedNo, help: "Read the password from the terminal, not standard input.")
    var interactive = true
    @Option(help: "Supply password from the command line flag.") var newUserPassword = ""
    @Flag(help: "Create a user without password (CN based auth only).") var noPassword = false

    func run() async throws {
      let argument = try UserCommand.name(arguments, "add")
      var request = Etcdserverpb_AuthUserAddRequest()
      request.name = argument
      request.options.noPassword = noPassword
      if !noPassword {
        let parts = argument.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        if !newUserPassword.isEmpty {
          request.password = newUserPassword
        } else if parts.count == 2 {
          guard !parts[0].isEmpty else {
            throw CtlFailure.arguments("empty user name is not allowed")
          }
          (request.name, request.password) = (String(parts[0]), String(parts[1]))
        } else {
          request.password = try UserCommand.readPassword(
            of: argument, isInteractive: interactive)
        }
      }
      let printer = try options.printer()
      let client = try await options.client()
      let message = request
      let answer: Etcdserverpb_AuthUserAddResponse = try await calling {
        try await client.call("Auth/UserAdd", message)
      }
      try printer.print(answer, fields: { printer.header(answer.header) }) {
        printer.line("User \(message.name) created")
      }
    }
  }

  struct Delete: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Delete a user.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The user's name.") var arguments: [String] = []

    func run() async throws {
      let name = try UserCommand.name(arguments, "delete")
      let printer = try options.printer()
      let client = try await options.client()
      let answer: Etcdserverpb_AuthUserDeleteResponse = try await calling {
        try await client.call(
          "Auth/UserDelete", Etcdserverpb_AuthUserDeleteRequest.with { $0.name = name })
      }
      try printer.print(answer, fields: { printer.header(answer.header) }) {
        printer.line("User \(name) deleted")
      }
    }
  }

  struct Get: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Get a user's roles.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The user's name.") var arguments: [String] = []
    @Flag(help: "Show permissions of roles granted to the user.") var detail = false

    func run() async throws {
      let name = try UserCommand.name(arguments, "get")
      let printer = try options.printer()
      let client = try await options.client()
      let answer: Etcdserverpb_AuthUserGetResponse = try await calling {
        try await client.call(
          "Auth/UserGet", Etcdserverpb_AuthUserGetRequest.with { $0.name = name }, isSafe: true)
      }
      guard detail else {
        return try printer.print(
          answer,
          fields: {
            printer.header(answer.header)
            printer.line(
              "\"Roles\" :" + answer.roles.map { " " + GoText.quoted($0) }.joined())
          }
        ) {
          printer.line("User: \(name)")
          printer.line("Roles:" + answer.roles.map { " \($0)" }.joined())
        }
      }
      CtlOutput.line("User: \(name)")
      for role in answer.roles {
        CtlOutput.line("")
        try RoleCommand.print(try await RoleCommand.get(client, role), of: role, printer)
      }
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List all users.")
    @OptionGroup var options: CtlOptions
    @Argument(help: .hidden) var arguments: [String] = []

    func run() async throws {
      guard arguments.isEmpty else {
        throw CtlFailure.arguments("user list command requires no arguments")
      }
      let printer = try options.printer()
      let client = try await options.client()
      let answer: Etcdserverpb_AuthUserListResponse = try await calling {
        try await client.call("Auth/UserList", Etcdserverpb_AuthUserListRequest(), isSafe: true)
      }
      try printer.print(
        answer,
        fields: {
          printer.header(answer.header)
          printer.line("\"Users\" :" + answer.users.map { " " + GoText.quoted($0) }.joined())
        }
      ) {
        for user in answer.users { printer.line(user) }
      }
    }
  }

  struct Passwd: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Change a user's password.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The user's name.") var arguments: [String] = []
    @Flag(inversion: .prefixedNo, help: "Read the password from the terminal, not standard input.")
    var interactive = true

    func run() async throws {
      let name = try UserCommand.name(arguments, "passwd")
      let password = try UserCommand.readPassword(of: name, isInteractive: interactive)
      let printer = try options.printer()
      let client = try await options.client()
      let request = Etcdserverpb_AuthUserChangePasswordRequest.with {
        $0.name = name
        $0.password = password
      }
      let answer: Etcdserverpb_AuthUserChangePasswordResponse = try await calling {
        try await client.call("Auth/UserChangePassword", request)
      }
      try printer.print(answer, fields: { printer.header(answer.header) }) {
        printer.line("Password updated")
      }
    }
  }

  struct GrantRole: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Grant a role to a user.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The user's name and the role's.") var arguments: [String] = []

    func run() async throws {
      guard arguments.count == 2 else {
        throw CtlFailure.arguments(
          "user grant command requires user name and role name as its argument")
      }
      let printer = try options.printer()
      let client = try await options.client()
      let request = Etcdserverpb_AuthUserGrantRoleRequest.with {
        $0.user = arguments[0]
        $0.role = arguments[1]
      }
      let answer: Etcdserverpb_AuthUserGrantRoleResponse = try await calling {
        try await client.call("Auth/UserGrantRole", request)
      }
      try printer.print(answer, fields: { printer.header(answer.header) }) {
        printer.line("Role \(arguments[1]) is granted to user \(arguments[0])")
      }
    }
  }

  struct RevokeRole: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Revoke a role from a user.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The user's name and the role's.") var arguments: [String] = []

    func run() async throws {
      guard arguments.count == 2 else {
        throw CtlFailure.arguments(
          "user revoke-role requires user name and role name as its argument")
      }
      let printer = try options.printer()
      let client = try await options.client()
      let request = Etcdserverpb_AuthUserRevokeRoleRequest.with {
        $0.name = arguments[0]
        $0.role = arguments[1]
      }
      let answer: Etcdserverpb_AuthUserRevokeRoleResponse = try await calling {
        try await client.call("Auth/UserRevokeRole", request)
      }
      try printer.print(answer, fields: { printer.header(answer.header) }) {
        printer.line("Role \(arguments[1]) is revoked from user \(arguments[0])")
      }
    }
  }
}
