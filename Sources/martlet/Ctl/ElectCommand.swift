import ArgumentParser
import EtcdClient
import EtcdProto
import Foundation
import SwiftProtobuf

/// `martlet ctl elect`
struct ElectCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "elect", abstract: "Observe and take part in an election.")

  @OptionGroup var options: CtlOptions
  @Argument(help: "The election's name, and what to say when elected.") var arguments: [String] = []
  @Flag(name: [.short, .long], help: "Only observe.") var listen = false

  /// As etcd's client library has it.
  private static let sessionSeconds: Int64 = 60

  func run() async throws {
    guard (1...2).contains(arguments.count) else {
      throw CtlFailure.arguments(
        "elect takes one election name argument and an optional proposal argument")
    }
    guard arguments.count == 2 || listen else {
      throw CtlFailure.arguments("no proposal argument but -l not set")
    }
    guard arguments.count == 1 || !listen else {
      throw CtlFailure.arguments("proposal given but -l is set")
    }
    let client = try await options.client()
    if listen { return try await observe(client) }
    let printer = try options.printer()
    let candidacy = try await Candidacy(client, name: arguments[0], seconds: Self.sessionSeconds)
    let proposal = arguments[1]
    guard try await untilSignal({ try await candidacy.campaign(proposal) }) != nil else {
      try await candidacy.resign()
      throw CtlFailure(.error, "context canceled")
    }
    try printer.print(try await candidacy.ownRecord())
    let hasExpired: Bool? = try await untilSignal {
      await candidacy.waitForExpiry()
      return true
    }
    if hasExpired != nil { throw CtlFailure(.error, "elect: session expired") }
    try await candidacy.resign()
  }

  /// Prints who leads, and what they say, until a signal comes.
  private func observe(_ client: MessageClient) async throws {
    let prefix = Data((arguments[0] + "/").utf8)
    let end = Data(StoreRange.endOfPrefix(Array(prefix)))
    let options = options
    let _: Bool? = try await untilSignal {
      let printer = try options.printer()
      while true {
        let first = Etcdserverpb_RangeRequest.with {
          $0.key = prefix
          $0.rangeEnd = end
          $0.sortTarget = .create
          $0.sortOrder = .ascend
          $0.limit = 1
        }
        var answer: Etcdserverpb_RangeResponse = try await calling {
          try await client.call("KV/Range", first, isSafe: true)
        }
        let revision = answer.header.revision
        guard let leader = answer.kvs.first else {
          // Whoever comes is the first, unless it left again meanwhile.
          try await CandidacyWatch(client, key: prefix, end: end, from: revision + 1)
            .each { $0.type != .put }
          continue
        }
        answer.more = false
        answer.count = 0
        let header = answer
        try printer.print(answer)
        try await CandidacyWatch(client, key: leader.key, end: Data(), from: revision + 1)
          .each { event in
            guard event.type == .put else { return false }
            var next = header
            next.kvs = [event.kv]
            next.header.revision = event.kv.modRevision
            try printer.print(next)
            return true
          }
      }
    }
  }
}
