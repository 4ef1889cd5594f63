import ArgumentParser
import EtcdClient
import EtcdProto
import Foundation
import SwiftProtobuf

/// `martlet ctl lease`
struct LeaseCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lease", abstract: "Leases.",
    subcommands: [Grant.self, Revoke.self, TimeToLive.self, List.self, KeepAlive.self])

  static func id(_ arguments: [String], _ usage: String) throws -> Int64 {
    guard arguments.count == 1 else { throw CtlFailure.arguments(usage) }
    guard let id = Int64(arguments[0], radix: 16) else {
      throw CtlFailure.arguments(
        "bad lease ID arg (\(goParseFailure(arguments[0]))), expecting ID in Hex")
    }
    return id
  }

  struct Grant: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Create a lease.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The time to live in seconds.") var arguments: [String] = []

    func run() async throws {
      guard arguments.count == 1 else {
        throw CtlFailure.arguments("lease grant command needs TTL argument")
      }
      guard let seconds = Int64(arguments[0]) else {
        throw CtlFailure.arguments("bad TTL (\(goParseFailure(arguments[0])))")
      }
      let printer = try options.printer()
      let client = try await options.client()
      let answer: Etcdserverpb_LeaseGrantResponse
      do {
        answer = try await calling {
          try await client.call(
            "Lease/LeaseGrant", Etcdserverpb_LeaseGrantRequest.with { $0.ttl = seconds })
        }
      } catch let failure as CtlFailure {
        throw CtlFailure(.error, "failed to grant lease (\(failure))")
      }
      try printer.print(
        answer, "\"ID\":\(answer.id),\"TTL\":\(answer.ttl),\"Error\":\"\"", answer.header,
        fields: [("ID", answer.id), ("TTL", answer.ttl)]
      ) {
        printer.line("lease \(GoText.lease(answer.id)) granted with TTL(\(answer.ttl)s)")
      }
    }
  }

  struct Revoke: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Revoke a lease.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The lease's id.") var arguments: [String] = []

    func run() async throws {
      let id = try LeaseCommand.id(arguments, "lease revoke command needs 1 argument")
      let printer = try options.printer()
      let client = try await options.client()
      let answer: Etcdserverpb_LeaseRevokeResponse
      do {
        answer = try await calling {
          try await client.call(
            "Lease/LeaseRevoke", Etcdserverpb_LeaseRevokeRequest.with { $0.id = id })
        }
      } catch let failure as CtlFailure {
        throw CtlFailure(.error, "failed to revoke lease (\(failure))")
      }
      try printer.print(answer, fields: { printer.header(answer.header) }) {
        printer.line("lease \(GoText.lease(id)) revoked")
      }
    }
  }

  struct TimeToLive: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "timetolive", abstract: "Get lease information.")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The lease's id.") var arguments: [String] = []
    @Flag(help: "Get keys attached to this lease.") var keys = false

    func run() async throws {
      let id = try LeaseCommand.id(
        arguments, "lease timetolive command needs lease ID as argument")
      let printer = try options.printer()
      let client = try await options.client()
      let request = Etcdserverpb_LeaseTimeToLiveRequest.with {
        $0.id = id
        $0.keys = keys
      }
      let answer: Etcdserverpb_LeaseTimeToLiveResponse = try await calling(status: .badConnection) {
        try await client.call("Lease/LeaseTimeToLive", request, isSafe: true)
      }
      let list = answer.keys.map { "\"\($0.base64EncodedString())\"" }
      try printer.print(
        answer,
        "\"id\":\(answer.id),\"ttl\":\(answer.ttl),\"granted-ttl\":\(answer.grantedTtl),\"keys\":"
          + (list.isEmpty ? "null" : "[\(list.joined(separator: ","))]"), answer.header,
        fields: [("ID", answer.id), ("TTL", answer.ttl), ("GrantedTTL", answer.grantedTtl)],
        further: { for key in answer.keys { printer.field("Key", quoted: key) } }
      ) {
        let id = GoText.lease(answer.id)
        if answer.grantedTtl == 0, answer.ttl == -1 {
          return printer.line("lease \(id) already expired")
        }
        var text = Array(
          "lease \(id) granted with TTL(\(answer.grantedTtl)s), remaining(\(answer.ttl)s)".utf8)
        if keys {
          text += Array(", attached keys([".utf8)
          text += answer.keys.joined(separator: [0x20])
          text += Array("])".utf8)
        }
        printer.line(text)
      }
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List all active leases.")
    @OptionGroup var options: CtlOptions

    func run() async throws {
      let printer = try options.printer()
      let client = try await options.client()
      let answer: Etcdserverpb_LeaseLeasesResponse = try await calling(status: .badConnection) {
        try await client.call("Lease/LeaseLeases", Etcdserverpb_LeaseLeasesRequest(), isSafe: true)
      }
      let list = answer.leases.map { "{\"id\":\($0.id)}" }.joined(separator: ",")
      try printer.print(
        answer, "\"leases\":[\(list)]", answer.header,
        fields: answer.leases.map { ("ID", $0.id) }
      ) {
        printer.line("found \(answer.leases.count) leases")
        for lease in answer.leases { printer.line(GoText.lease(lease.id)) }
      }
    }
  }

  struct KeepAlive: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Keep a lease alive (renew).")
    @OptionGroup var options: CtlOptions
    @Argument(help: "The lease's id.") var arguments: [String] = []
    @Flag(help: "Resets the keep-alive time to its original value and exits.") var once = false

    func run() async throws {
      let id = try LeaseCommand.id(
        arguments, "lease keep-alive command needs lease ID as argument")
      let printer = try options.printer()
      let keeper = LeaseKeeper(try await options.client(), id)
      while let answer = try await keeper.renew() {
        try printer.print(
          answer, "\"ID\":\(answer.id),\"TTL\":\(answer.ttl)", answer.header,
          fields: [("ID", answer.id), ("TTL", answer.ttl)]
        ) {
          printer.line("lease \(GoText.lease(answer.id)) keepalived with TTL(\(answer.ttl))")
        }
        if once { return }
        try await Task.sleep(for: .seconds(answer.ttl) / 3)
      }
      if once { throw CtlFailure(.badConnection, "etcdserver: requested lease not found") }
      if printer.format == .simple {
        CtlOutput.line("lease \(GoText.lease(id)) expired or revoked.")
      }
    }
  }
}

/// Renews one lease, on a stream that is opened anew where it breaks.
actor LeaseKeeper {
  private typealias Stream = MessageStream<
    Etcdserverpb_LeaseKeepAliveRequest, Etcdserverpb_LeaseKeepAliveResponse
  >
  private let client: MessageClient
  let id: Int64
  private var stream: Stream?

  init(_ client: MessageClient, _ id: Int64) {
    self.client = client
    self.id = id
  }

  /// - Returns: nil where there is no such lease any more.
  func renew() async throws -> Etcdserverpb_LeaseKeepAliveResponse? {
    for attempt in 1... {
      do throws(StoreError) {
        let stream: Stream
        if let open = self.stream {
          stream = open
        } else {
          stream = try await client.open("Lease/LeaseKeepAlive")
        }
        self.stream = stream
        try await stream.send(.with { $0.id = id })
        if let answer = try await stream.next() { return answer.ttl > 0 ? answer : nil }
        self.stream = nil
      } catch {
        stream = nil
        if error.status != nil || attempt == 3 { throw CtlFailure(error, status: .badConnection) }
      }
    }
    return nil
  }
}

extension CtlPrinter {
  /// Prints an answer about leases. Its JSON is that of etcd's client: the header's fields, then its own.
  func print(
    _ message: any Sendable, _ json: String, _ header: Etcdserverpb_ResponseHeader,
    fields: [(String, Int64)], further: () -> Void = {}, simple: () -> Void
  ) throws {
    switch format {
    case .simple: simple()
    case .json: line("{\(try GoJSON.headerFields(header)),\(json)}")
    case .fields:
      self.header(header)
      for (name, value) in fields { field(name, value) }
      further()
    case .protobuf, .table: throw unsupported
    }
    flush()
  }
}
