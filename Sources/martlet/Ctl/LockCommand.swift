import ArgumentParser
import EtcdClient
import EtcdProto
import SwiftProtobuf

/// `martlet ctl lock`
struct LockCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lock", abstract: "Acquire a named lock.",
    discussion: """
      Prints the lock's key and holds it until SIGINT or SIGTERM; or runs a command under it, with ETCD_LOCK_KEY and
      ETCD_LOCK_REV in its environment, and ends with its status.
      """)

  @OptionGroup var options: CtlOptions
  @Argument(help: "The lock's name, and a command with its arguments.") var arguments: [String] = []
  @Option(help: "Seconds after which the lock is free if its holder is gone.") var ttl: Int64 = 10

  func run() async throws {
    guard let name = arguments.first else {
      throw CtlFailure.arguments(
        "lock takes a lock name argument and an optional command to execute")
    }
    let printer = try options.printer()
    let candidacy = try await Candidacy(
      try await options.client(), name: name, seconds: ttl)
    let header = try await untilSignal { try await candidacy.campaign("") }
    guard let header else {
      try await candidacy.resign()
      throw CtlFailure(.error, "context canceled")
    }
    let command = Array(arguments.dropFirst())
    guard command.isEmpty else {
      let status = try CtlProcess.run(
        command,
        environment: ["ETCD_LOCK_KEY": candidacy.key, "ETCD_LOCK_REV": "\(header.revision)"])
      try await candidacy.resign()
      if status != 0 { throw CtlFailure(status: status, "exit status \(status)") }
      return
    }
    let record = try await candidacy.ownRecord()
    guard !record.kvs.isEmpty else { throw CtlFailure(.error, "lock lost on init") }
    try printer.print(record)
    let hasExpired: Bool? = try await untilSignal {
      await candidacy.waitForExpiry()
      return true
    }
    if hasExpired != nil { throw CtlFailure(.error, "session expired") }
    try await candidacy.resign()
  }
}
