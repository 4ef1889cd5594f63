import ArgumentParser
import EtcdClient
import EtcdProto
import SwiftProtobuf

/// `martlet ctl member`
struct MemberCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "member", abstract: "The cluster's members.",
    subcommands: [Add.self, Remove.self, Update.self, List.self, Promote.self])

  static func id(_ arguments: [String]) throws -> UInt64 {
    guard arguments.count == 1 else { throw CtlFailure.arguments("member ID is not provided") }
    guard let id = UInt64(arguments[0], radix: 16) else {
      throw CtlFailure.arguments(
        "bad member ID arg (\(goParseFailure(arguments[0], function: "ParseUint"))), "
          + "expecting ID in Hex")
    }
    return id
  }

  static func list(_ client: MessageClient) async throws -> Etcdserverpb_MemberListResponse {
    try await calling {
      try await client.call(
        "Cluster/MemberList", Etcdserverpb_MemberListRequest.with { $0.linearizable = true },
        isSafe: true)
    }
  }

  struct Add: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Add a member to the cluster.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The member's name.") var arguments: [String] = []
    @Option(help: "Comma separated peer URLs for the new member.") var peerUrls = ""
    @Flag(help: "The new member learns, and has no vote.") var learner = false

    func run() async throws {
      guard let name = arguments.first else {
        throw CtlFailure.arguments("member name not provided")
      }
      guard arguments.count == 1 else {
        let url = arguments.first { $0.lowercased().hasPrefix("http") }
        throw CtlFailure.arguments(
          "too many arguments" + (url.map { ", did you mean --peer-urls=\($0)" } ?? ""))
      }
      guard !peerUrls.isEmpty else { throw CtlFailure.arguments("member peer urls not provided") }
      let printer = try options.printer()
      let client = try await options.client()
      let request = Etcdserverpb_MemberAddRequest.with {
        $0.peerUrls = peerUrls.split(separator: ",").map(String.init)
        $0.isLearner = learner
      }
      let answer: Etcdserverpb_MemberAddResponse = try await calling {
        try await client.call("Cluster/MemberAdd", request)
      }
      try printer.print(answer) {
        printer.line(
          "Member \(GoText.member(answer.member.id)) added to cluster "
            + GoText.member(answer.header.clusterID))
      }
      guard printer.format == .simple else { return }
      let members = try await MemberCommand.list(client).members
      let cluster = members.flatMap { member in
        member.peerUrls.map { "\(member.id == answer.member.id ? name : member.name)=\($0)" }
      }.joined(separator: ",")
      CtlOutput.line(
        """

        ETCD_NAME=\(GoText.quoted(name))
        ETCD_INITIAL_CLUSTER=\(GoText.quoted(cluster))
        ETCD_INITIAL_ADVERTISE_PEER_URLS=\(GoText.quoted(peerUrls))
        ETCD_INITIAL_CLUSTER_STATE="existing"
        """)
    }
  }

  struct Remove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Remove a member from the cluster.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The member's id.") var arguments: [String] = []

    func run() async throws {
      let id = try MemberCommand.id(arguments)
      let printer = try options.printer()
      let client = try await options.client()
      let answer: Etcdserverpb_MemberRemoveResponse = try await calling {
        try await client.call(
          "Cluster/MemberRemove", Etcdserverpb_MemberRemoveRequest.with { $0.id = id })
      }
      try printer.print(answer) {
        printer.line(
          "Member \(GoText.member(id)) removed from cluster \(GoText.member(answer.header.clusterID))"
        )
      }
    }
  }

  struct Update: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Change a member's peer URLs.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The member's id.") var arguments: [String] = []
    @Option(help: "Comma separated peer URLs for the updated member.") var peerUrls = ""

    func run() async throws {
      let id = try MemberCommand.id(arguments)
      guard !peerUrls.isEmpty else { throw CtlFailure.arguments("member peer urls not provided") }
      let printer = try options.printer()
      let client = try await options.client()
      let request = Etcdserverpb_MemberUpdateRequest.with {
        $0.id = id
        $0.peerUrls = peerUrls.split(separator: ",").map(String.init)
      }
      let answer: Etcdserverpb_MemberUpdateResponse = try await calling {
        try await client.call("Cluster/MemberUpdate", request)
      }
      try printer.print(answer) {
        printer.line(
          "Member \(GoText.member(id)) updated in cluster \(GoText.member(answer.header.clusterID))"
        )
      }
    }
  }

  struct Promote: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Make a learner a voter.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The member's id.") var arguments: [String] = []

    func run() async throws {
      let id = try MemberCommand.id(arguments)
      let printer = try options.printer()
      let client = try await options.client()
      let answer: Etcdserverpb_MemberPromoteResponse = try await calling {
        try await client.call(
          "Cluster/MemberPromote", Etcdserverpb_MemberPromoteRequest.with { $0.id = id })
      }
      try printer.print(answer) {
        printer.line(
          "Member \(GoText.member(id)) promoted in cluster \(GoText.member(answer.header.clusterID))"
        )
      }
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List all members of the cluster.")
    @OptionGroup var options: CtlOptions

    func run() async throws {
      let printer = try options.printer()
      let client = try await options.client()
      let answer = try await MemberCommand.list(client)
      let table = TextTable(
        titles: ["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"],
        rows: answer.members.map {
          [
            GoText.hexadecimal($0.id), $0.name.isEmpty ? "unstarted" : "started", $0.name,
            $0.peerUrls.joined(separator: ","), $0.clientUrls.joined(separator: ","),
            "\($0.isLearner)",
          ]
        })
      try printer.print(
        answer,
        fields: {
          printer.header(answer.header)
          for member in answer.members {
            printer.field("ID", member.id)
            printer.field("Name", quoted: member.name)
            for url in member.peerUrls { printer.field("PeerURL", quoted: url) }
            for url in member.clientUrls { printer.field("ClientURL", quoted: url) }
            printer.field("IsLearner", member.isLearner)
            printer.line()
          }
        }, table: { table }
      ) {
        for line in table.lines { printer.line(line) }
      }
    }
  }
}
