import ArgumentParser
import EtcdClient
import EtcdProto
import Foundation
import HTTP2
import SwiftProtobuf

/// `martlet ctl endpoint`
struct EndpointCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "endpoint", abstract: "The endpoints, each by itself.",
    subcommands: [Health.self, Status.self, HashKV.self])

  /// Which endpoints are asked: those of the flags, or all that the members name.
  struct Selection: ParsableArguments {
    @OptionGroup var options: CtlOptions
    @Flag(help: "Use all endpoints from the cluster member list.") var cluster = false

    func endpoints() async throws -> [String] {
      guard cluster else { return options.endpointNames }
      let client = try await options.client()
      defer { client.close() }
      do {
        return try await MemberCommand.list(client).members.flatMap(\.clientUrls)
      } catch let failure as CtlFailure {
        throw CtlFailure(
          .error, "failed to fetch endpoints from etcd cluster member list: \(failure)")
      }
    }
  }

  struct Health: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Check the healthiness of endpoints: each must take part in a linearizable read.")
    @OptionGroup var selection: Selection

    private struct Report: Sendable {
      var endpoint: String
      var took: Duration
      var error: String
      var isHealthy: Bool { error.isEmpty }
    }

    func run() async throws {
      let printer = try selection.options.printer()
      let endpoints = try await selection.endpoints()
      let options = selection.options
      let clients = try endpoints.map { MessageClient(try options.settings(endpoints: [$0])) }
      var reports: [Report] = []
      await withTaskGroup(of: Report.self) { group in
        for (endpoint, client) in zip(endpoints, clients) {
          group.addTask { await Self.check(endpoint, client) }
        }
        for await report in group { reports.append(report) }
      }
      try Self.print(reports, printer)
      guard reports.allSatisfy(\.isHealthy) else { throw CtlFailure(.error, "unhealthy cluster") }
    }

    private static func check(_ endpoint: String, _ client: MessageClient) async -> Report {
      let clock = ContinuousClock()
      let start = clock.now
      var report = Report(endpoint: endpoint, took: .zero, error: "")
      do {
        try await calling {
          do throws(StoreError) {
            let _: Etcdserverpb_RangeResponse = try await client.call(
              "KV/Range", Etcdserverpb_RangeRequest.with { $0.key = Data("health".utf8) },
              isSafe: true)
          } catch {
            // Who is refused a key has been heard.
            guard error.status?.code == .permissionDenied else { throw error }
          }
        }
        report.took = clock.now - start
        let alarms: Etcdserverpb_AlarmResponse = try await calling {
          try await client.call("Maintenance/Alarm", Etcdserverpb_AlarmRequest(), isSafe: true)
        }
        if !alarms.alarms.isEmpty {
          report.error = "Active Alarm(s): " + alarms.alarms.map { "\($0.alarm.goName) " }.joined()
        }
      } catch {
        report.took = clock.now - start
        report.error = "\(error)"
      }
      return report
    }

    private static func print(_ reports: [Report], _ printer: CtlPrinter) throws {
      switch printer.format {
      case .simple:
        for report in reports {
          printer.line(
            report.isHealthy
              ? "\(report.endpoint) is healthy: successfully committed proposal: took = "
                + GoText.duration(report.took)
              : "\(report.endpoint) is unhealthy: failed to commit proposal: \(report.error)")
        }
      case .fields:
        for report in reports {
          printer.field("Endpoint", quoted: report.endpoint)
          printer.field("Health", report.isHealthy)
          printer.field("Took", GoText.duration(report.took))
          printer.field("Error", report.error)
          printer.line()
        }
      case .json:
        let items = reports.map { report in
          #"{"endpoint":\#(GoJSON.string(report.endpoint)),"health":\#(report.isHealthy),"#
            + #""took":\#(GoJSON.string(GoText.duration(report.took)))"#
            + (report.isHealthy ? "}" : #","error":\#(GoJSON.string(report.error))}"#)
        }
        printer.line("[\(items.joined(separator: ","))]")
      case .table:
        let table = TextTable(
          titles: ["endpoint", "health", "took", "error"],
          rows: reports.map {
            [$0.endpoint, "\($0.isHealthy)", GoText.duration($0.took), $0.error]
          })
        printer.line(table.text)
      case .protobuf: throw printer.unsupported
      }
      printer.flush()
    }
  }

  struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Print the status of endpoints.")
    @OptionGroup var selection: Selection

    func run() async throws {
      let printer = try selection.options.printer()
      let (answers, hasFailed) = try await EndpointCommand.each(selection, "status") { client in
        try await client.call(
          "Maintenance/Status", Etcdserverpb_StatusRequest(), isSafe: true)
          as Etcdserverpb_StatusResponse
      }
      let table = TextTable(
        titles: [
          "endpoint", "ID", "version", "db size", "is leader", "is learner", "raft term",
          "raft index", "raft applied index", "errors",
        ],
        rows: answers.map { endpoint, status in
          [
            endpoint, GoText.hexadecimal(status.header.memberID), status.version,
            GoText.size(UInt64(max(status.dbSize, 0))),
            "\(status.leader == status.header.memberID)", "\(status.isLearner)",
            "\(status.raftTerm)", "\(status.raftIndex)", "\(status.raftAppliedIndex)",
            status.errors.joined(separator: ", "),
          ]
        })
      try EndpointCommand.print(answers, named: "Status", table, printer) { endpoint, status in
        printer.header(status.header)
        printer.field("Version", quoted: status.version)
        printer.field("DBSize", status.dbSize)
        printer.field("Leader", status.leader)
        printer.field("IsLearner", status.isLearner)
        printer.field("RaftIndex", status.raftIndex)
        printer.field("RaftTerm", status.raftTerm)
        printer.field("RaftAppliedIndex", status.raftAppliedIndex)
        printer.field("Errors", "[\(status.errors.joined(separator: " "))]")
        printer.field("Endpoint", quoted: endpoint)
        printer.line()
      }
      if hasFailed { throw ExitCode(1) }
    }
  }

  struct HashKV: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "hashkv", abstract: "Print the hash of each endpoint's keys and history.")
    @OptionGroup var selection: Selection
    @Option(help: "Maximum revision to hash (default: all revisions).") var rev: Int64 = 0

    func run() async throws {
      let printer = try selection.options.printer()
      let request = Etcdserverpb_HashKVRequest.with { $0.revision = rev }
      let (answers, hasFailed) = try await EndpointCommand.each(selection, "hash") { client in
        try await client.call("Maintenance/HashKV", request, isSafe: true)
          as Etcdserverpb_HashKVResponse
      }
      let table = TextTable(
        titles: ["endpoint", "hash"], rows: answers.map { [$0.endpoint, "\($0.answer.hash)"] })
      try EndpointCommand.print(answers, named: "HashKV", table, printer) { endpoint, hash in
        printer.header(hash.header)
        printer.field("Endpoint", quoted: endpoint)
        printer.field("Hash", hash.hash)
        printer.line()
      }
      if hasFailed { throw ExitCode(1) }
    }
  }

  // MARK: What they share

  private static func each<Answer>(
    _ selection: Selection, _ what: String, _ call: (MessageClient) async throws -> Answer
  ) async throws -> (answers: [(endpoint: String, answer: Answer)], hasFailed: Bool) {
    var answers: [(endpoint: String, answer: Answer)] = []
    var hasFailed = false
    for endpoint in try await selection.endpoints() {
      do {
        let client = try await selection.options.client(endpoints: [endpoint])
        defer { client.close() }
        answers.append((endpoint, try await calling { try await call(client) }))
      } catch let failure as CtlFailure where failure.status == CtlFailure.Status.error.rawValue {
        hasFailed = true
        CtlOutput.complain("Failed to get the \(what) of endpoint \(endpoint) (\(failure))")
      }
    }
    return (answers, hasFailed)
  }

  private static func print<Answer: Message>(
    _ answers: [(endpoint: String, answer: Answer)], named name: String, _ table: TextTable,
    _ printer: CtlPrinter, fields: (String, Answer) -> Void
  ) throws {
    switch printer.format {
    case .simple: for line in table.lines { printer.line(line) }
    case .table: printer.line(table.text)
    case .fields: for (endpoint, answer) in answers { fields(endpoint, answer) }
    case .json:
      let items = try answers.map {
        "{\"Endpoint\":\(GoJSON.string($0.endpoint)),\"\(name)\":\(try GoJSON.text($0.answer))}"
      }
      printer.line("[\(items.joined(separator: ","))]")
    case .protobuf: throw printer.unsupported
    }
    printer.flush()
  }
}
