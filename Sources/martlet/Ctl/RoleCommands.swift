import ArgumentParser
import EtcdClient
import EtcdProto
import Foundation
import SwiftProtobuf

/// `martlet ctl role`
struct RoleCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "role", abstract: "Roles and their permissions.",
    subcommands: [
      Add.self, Delete.self, Get.self, List.self, GrantPermission.self, RevokePermission.self,
    ])

  static func name(_ arguments: [String], _ command: String) throws -> String {
    guard arguments.count == 1 else {
      throw CtlFailure.arguments("role \(command) command requires role name as its argument")
    }
    return arguments[0]
  }

  static func get(
    _ client: MessageClient, _ name: String
  ) async throws -> Etcdserverpb_AuthRoleGetResponse {
    try await calling {
      try await client.call(
        "Auth/RoleGet", Etcdserverpb_AuthRoleGetRequest.with { $0.role = name }, isSafe: true)
    }
  }

  static func print(
    _ answer: Etcdserverpb_AuthRoleGetResponse, of name: String, _ printer: CtlPrinter
  ) throws {
    func list(_ kinds: Set<Authpb_Permission.TypeEnum>) {
      for permission in answer.perm where kinds.contains(permission.permType) {
        printer.line("\t" + Self.range(permission))
      }
    }
    try printer.print(
      answer,
      fields: {
        printer.header(answer.header)
        for permission in answer.perm {
          printer.line("\"PermType\" :  \(Self.name(of: permission.permType))")
          printer.field("Key", quoted: permission.key)
          printer.field("RangeEnd", quoted: permission.rangeEnd)
        }
      }
    ) {
      printer.line("Role \(name)")
      printer.line("KV Read:")
      list([.read, .readwrite])
      printer.line("KV Write:")
      list([.write, .readwrite])
    }
  }

  private static func name(of kind: Authpb_Permission.TypeEnum) -> String {
    switch kind {
    case .read: "READ"
    case .write: "WRITE"
    case .readwrite: "READWRITE"
    case .UNRECOGNIZED(let number): "\(number)"
    }
  }

  private static func range(_ permission: Authpb_Permission) -> String {
    let key = String(decoding: permission.key, as: UTF8.self)
    if permission.rangeEnd.isEmpty { return key }
    let end = String(decoding: permission.rangeEnd, as: UTF8.self)
    let isPrefix = StoreRange.endOfPrefix(Array(permission.key)) == Array(permission.rangeEnd)
    return (permission.rangeEnd == Data([0]) ? "[\(key), <open ended>" : "[\(key), \(end))")
      + (isPrefix ? " (prefix \(key))" : "")
  }

  struct Add: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Add a new role.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The role's name.") var arguments: [String] = []

    func run() async throws {
      let name = try RoleCommand.name(arguments, "add")
      let printer = try options.printer()
      let client = try await options.client()
      let answer: Etcdserverpb_AuthRoleAddResponse = try await calling {
        try await client.call(
          "Auth/RoleAdd", Etcdserverpb_AuthRoleAddRequest.with { $0.name = name })
      }
      try printer.print(answer, fields: { printer.header(answer.header) }) {
        printer.line("Role \(name) created")
      }
    }
  }

  struct Delete: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Delete a role.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The role's name.") var arguments: [String] = []

    func run() async throws {
      let name = try RoleCommand.name(arguments, "delete")
      let printer = try options.printer()
      let client = try await options.client()
      let answer: Etcdserverpb_AuthRoleDeleteResponse = try await calling {
        try await client.call(
          "Auth/RoleDelete", Etcdserverpb_AuthRoleDeleteRequest.with { $0.role = name })
      }
      try printer.print(answer, fields: { printer.header(answer.header) }) {
        printer.line("Role \(name) deleted")
      }
    }
  }

  struct Get: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Get a role's permissions.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The role's name.") var arguments: [String] = []

    func run() async throws {
      let name = try RoleCommand.name(arguments, "get")
      let printer = try options.printer()
      let client = try await options.client()
      try RoleCommand.print(try await RoleCommand.get(client, name), of: name, printer)
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List all roles.")
    @OptionGroup var options: CtlOptions
    @Argument(help: .hidden) var arguments: [String] = []

    func run() async throws {
      guard arguments.isEmpty else {
        throw CtlFailure.arguments("role list command requires no arguments")
      }
      let printer = try options.printer()
      let client = try await options.client()
      let answer: Etcdserverpb_AuthRoleListResponse = try await calling {
        try await client.call("Auth/RoleList", Etcdserverpb_AuthRoleListRequest(), isSafe: true)
      }
      try printer.print(
        answer,
        fields: {
          printer.header(answer.header)
          printer.line("\"Roles\" :" + answer.roles.map { " " + GoText.quoted($0) }.joined())
        }
      ) {
        for role in answer.roles { printer.line(role) }
      }
    }
  }

  /// Which keys a permission is for.
  struct Range: ParsableArguments {
    @Flag(help: "The permission is for all keys with the prefix.") var prefix = false
    @Flag(help: "The permission is for all keys from the key on.") var fromKey = false

    func keys(_ arguments: ArraySlice<String>) throws -> (key: Data, end: Data) {
      let key = arguments.first ?? ""
      guard !(prefix && fromKey) else {
        throw CtlFailure.arguments("--from-key and --prefix flags are mutually exclusive")
      }
      if arguments.count > 1 {
        guard !prefix, !fromKey else {
          throw CtlFailure.arguments(
            "unexpected endkey argument with --\(prefix ? "prefix" : "from-key") flag")
        }
        return (Data(key.utf8), Data(arguments[arguments.startIndex + 1].utf8))
      }
      return try keyRange([key], isPrefix: prefix, isFromKey: fromKey)
    }
  }

  struct GrantPermission: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Grant a role access to keys.")
    @OptionGroup var options: CtlOptions
    @OptionGroup var range: Range
    @Argument(help: "The role, read, write or readwrite, the key, and where the range ends.")
    var arguments: [String] = []

    func run() async throws {
      guard arguments.count >= 3 else {
        throw CtlFailure.arguments(
          "role grant command requires role name, permission type, and key [endkey] as its argument"
        )
      }
      var request = Etcdserverpb_AuthRoleGrantPermissionRequest()
      request.name = arguments[0]
      switch arguments[1].uppercased() {
      case "READ": request.perm.permType = .read
      case "WRITE": request.perm.permType = .write
      case "READWRITE": request.perm.permType = .readwrite
      default:
        throw CtlFailure.arguments("invalid permission type: \(arguments[1])")
      }
      (request.perm.key, request.perm.rangeEnd) = try range.keys(arguments[2...])
      let printer = try options.printer()
      let client = try await options.client()
      let message = request
      let answer: Etcdserverpb_AuthRoleGrantPermissionResponse = try await calling {
        try await client.call("Auth/RoleGrantPermission", message)
      }
      try printer.print(answer, fields: { printer.header(answer.header) }) {
        printer.line("Role \(arguments[0]) updated")
      }
    }
  }

  struct RevokePermission: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Take access to keys from a role.")
    @OptionGroup var options: CtlOptions
    @OptionGroup var range: Range
    @Argument(help: "The role, the key, and where the range ends.") var arguments: [String] = []

    func run() async throws {
      guard arguments.count >= 2 else {
        throw CtlFailure.arguments(
          "role revoke-permission command requires role name and key [endkey] as its argument")
      }
      var request = Etcdserverpb_AuthRoleRevokePermissionRequest()
      request.role = arguments[0]
      (request.key, request.rangeEnd) = try range.keys(arguments[1...])
      let printer = try options.printer()
      let client = try await options.client()
      let message = request
      let answer: Etcdserverpb_AuthRoleRevokePermissionResponse = try await calling {
        try await client.call("Auth/RoleRevokePermission", message)
      }
      try printer.print(answer, fields: { printer.header(answer.header) }) {
        let key = arguments[1]
        let end = String(decoding: message.rangeEnd, as: UTF8.self)
        let what =
          message.rangeEnd.isEmpty
          ? "key \(key)"
          : message.rangeEnd == Data([0]) ? "range [\(key), <open ended>" : "range [\(key), \(end))"
        printer.line("Permission of \(what) is revoked from role \(arguments[0])")
      }
    }
  }
}
