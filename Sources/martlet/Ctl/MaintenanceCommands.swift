import ArgumentParser
import EtcdClient
import EtcdProto
import SwiftProtobuf

extension Etcdserverpb_AlarmType {
  /// As Go prints it.
  var goName: String {
    switch self {
    case .none: "NONE"
    case .nospace: "NOSPACE"
    case .corrupt: "CORRUPT"
    case .UNRECOGNIZED(let number): "\(number)"
    }
  }
}

/// `martlet ctl alarm`
struct AlarmCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "alarm", abstract: "Alarms.", subcommands: [List.self, Disarm.self])

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List all alarms.")
    @OptionGroup var options: CtlOptions
    @Argument(help: .hidden) var arguments: [String] = []

    func run() async throws {
      guard arguments.isEmpty else {
        throw CtlFailure.arguments("alarm list command accepts no arguments")
      }
      let client = try await options.client()
      try AlarmCommand.print(
        try await calling {
          try await client.call("Maintenance/Alarm", Etcdserverpb_AlarmRequest(), isSafe: true)
        }, try options.printer())
    }
  }

  struct Disarm: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Disarm all alarms.")
    @OptionGroup var options: CtlOptions
    @Argument(help: .hidden) var arguments: [String] = []

    func run() async throws {
      guard arguments.isEmpty else {
        throw CtlFailure.arguments("alarm disarm command accepts no arguments")
      }
      let client = try await options.client()
      let raised: Etcdserverpb_AlarmResponse = try await calling {
        try await client.call("Maintenance/Alarm", Etcdserverpb_AlarmRequest(), isSafe: true)
      }
      var answer = Etcdserverpb_AlarmResponse()
      answer.header = raised.header
      for alarm in raised.alarms {
        let request = Etcdserverpb_AlarmRequest.with {
          $0.action = .deactivate
          $0.memberID = alarm.memberID
          $0.alarm = alarm.alarm
        }
        let one: Etcdserverpb_AlarmResponse = try await calling {
          try await client.call("Maintenance/Alarm", request)
        }
        answer.header = one.header
        answer.alarms += one.alarms
      }
      try AlarmCommand.print(answer, try options.printer())
    }
  }

  private static func print(
    _ answer: Etcdserverpb_AlarmResponse, _ printer: CtlPrinter
  ) throws {
    try printer.print(
      answer,
      fields: {
        printer.header(answer.header)
        for alarm in answer.alarms {
          printer.field("MemberID", alarm.memberID)
          printer.field("AlarmType", alarm.alarm.goName)
          printer.line()
        }
      }
    ) {
      for alarm in answer.alarms {
        printer.line("memberID:\(alarm.memberID) alarm:\(alarm.alarm.goName) ")
      }
    }
  }
}

/// `martlet ctl defrag`
struct DefragCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "defrag",
    abstract: "Defragment the endpoints' storage (an etcd needs it; a Martlet has nothing to do).")
  @OptionGroup var selection: EndpointCommand.Selection

  func run() async throws {
    var failures = 0
    for endpoint in try await selection.endpoints() {
      do {
        let client = try await selection.options.client(endpoints: [endpoint])
        defer { client.close() }
        let _: Etcdserverpb_DefragmentResponse = try await calling {
          try await client.call("Maintenance/Defragment", Etcdserverpb_DefragmentRequest())
        }
        CtlOutput.line("Finished defragmenting etcd member[\(endpoint)]")
      } catch let failure as CtlFailure {
        failures += 1
        CtlOutput.complain("Failed to defragment etcd member[\(endpoint)] (\(failure))")
      }
    }
    if failures > 0 { throw ExitCode(1) }
  }
}

/// `martlet ctl move-leader`
struct MoveLeaderCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "move-leader", abstract: "Make another member the leader.")
  @OptionGroup var options: CtlOptions
  @Argument(help: "The id of the member that is to lead.") var arguments: [String] = []

  func run() async throws {
    guard arguments.count == 1 else {
      throw CtlFailure.arguments("move-leader command needs 1 argument")
    }
    guard let target = UInt64(arguments[0], radix: 16) else {
      throw CtlFailure.arguments(goParseFailure(arguments[0], function: "ParseUint"))
    }
    let printer = try options.printer()
    for endpoint in options.endpointNames {
      let client = try await options.client(endpoints: [endpoint])
      defer { client.close() }
      let status: Etcdserverpb_StatusResponse = try await calling {
        try await client.call("Maintenance/Status", Etcdserverpb_StatusRequest(), isSafe: true)
      }
      guard status.header.memberID == status.leader else { continue }
      let answer: Etcdserverpb_MoveLeaderResponse = try await calling {
        try await client.call(
          "Maintenance/MoveLeader", Etcdserverpb_MoveLeaderRequest.with { $0.targetID = target })
      }
      return try printer.print(answer) {
        printer.line(
          "Leadership transferred from \(GoText.hexadecimal(status.leader)) to "
            + GoText.hexadecimal(target))
      }
    }
    throw CtlFailure.arguments(
      "no leader endpoint given at [\(options.endpointNames.joined(separator: " "))]")
  }
}
