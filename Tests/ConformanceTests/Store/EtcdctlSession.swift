import Foundation
import TestKit

/// Runs the commands of a transcript with etcdctl against one cluster, and makes what they print comparable.
///
/// A command is what one would type after `etcdctl`; lines below it are its standard input. Besides:
///
/// - `background NAME COMMAND...` starts a command that goes on, a watch for instance;
/// - `lines NAME COUNT` waits until it has printed that many lines and shows them, `stop NAME` ends it and
///   shows what came after the lines shown;
/// - `sleep SECONDS` waits.
///
/// Ids and times differ in every run. A granted lease is called `LEASE1`, `LEASE2` and so on, in commands
/// (`$LEASE1`) and in outputs; of JSON headers, ids and the term are replaced; so are remaining seconds.
/// Lists that etcd gives in no order are sorted.
final class EtcdctlSession {
  private let etcdctl: Program
  /// Words before each command: none for etcdctl, `ctl` for our own.
  private let prefix: [String]
  private let endpoints: String
  private var leases: [(id: String, name: String)] = []
  private var background: [String: (program: RunningProgram, shown: Int)] = [:]

  init(_ etcdctl: Program, prefix: [String] = [], endpoints: String) {
    self.etcdctl = etcdctl
    self.prefix = prefix
    self.endpoints = endpoints
  }

  private var environment: [String: String] {
    ["ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": endpoints]
  }

  func perform(_ command: GoldenCommand) throws -> String {
    let arguments = command.arguments.map(replaceNames)
    switch command.name {
    case "sleep":
      usleep(UInt32((Double(arguments.first ?? "") ?? 1) * 1e6))
      return ""
    case "background":
      guard let name = arguments.first else { throw GoldenError(message: "background NAME ...") }
      let program = try etcdctl.start(
        prefix + arguments.dropFirst(), input: command.input, environment: environment)
      background[name] = (program, 0)
      return ""
    case "lines":
      guard arguments.count == 2, let count = Int(arguments[1]),
        let running = background[arguments[0]]
      else { throw GoldenError(message: "lines NAME COUNT, of something in the background") }
      _ = waitUntil(seconds: 5) {
        running.program.output.split(separator: "\n", omittingEmptySubsequences: false).count
          > running.shown + count
      }
      let lines = self.lines(of: running.program).dropFirst(running.shown).prefix(count)
      background[arguments[0]]!.shown += lines.count
      return mask(lines.joined(separator: "\n"))
    case "stop":
      guard let name = arguments.first, let running = background.removeValue(forKey: name) else {
        throw GoldenError(message: "stop NAME, of something in the background")
      }
      running.program.kill()
      return mask(lines(of: running.program).dropFirst(running.shown).joined(separator: "\n"))
    default:
      let outcome = try etcdctl.run(
        prefix + [command.name] + arguments, input: input(of: command), environment: environment)
      remember(outcome.output)
      var output = outcome.output + withoutClientLog(outcome.errors)
      if outcome.status != 0 { output += "exit \(outcome.status)\n" }
      return mask(output)
    }
  }

  /// A transaction's three parts each end with a blank line, which the end of a block in a file cuts off.
  private func input(of command: GoldenCommand) -> String {
    command.name == "txn" ? command.input + "\n\n" : command.input
  }

  private func lines(of program: RunningProgram) -> [String] {
    var lines = program.output.split(separator: "\n", omittingEmptySubsequences: false)
    if lines.last == "" { lines.removeLast() }
    return lines.map(String.init)
  }

  /// Standard error without the client library's own log: its lines are JSON.
  private func withoutClientLog(_ text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false)
      .filter { !$0.hasPrefix(#"{"level":"#) }.joined(separator: "\n")
  }

  private func remember(_ output: String) {
    guard let match = output.firstMatch(of: /lease ([0-9a-f]+) granted/) else { return }
    leases.append((String(match.1), "LEASE\(leases.count + 1)"))
  }

  private func replaceNames(_ argument: String) -> String {
    guard argument.contains("$") else { return argument }
    return leases.reduce(argument) { $0.replacingOccurrences(of: "$" + $1.name, with: $1.id) }
  }

  private func mask(_ text: String) -> String {
    var text = text
    for lease in leases {
      text = text.replacingOccurrences(of: lease.id, with: lease.name)
      if let id = Int64(lease.id, radix: 16) {
        text = text.replacingOccurrences(of: "\(id)", with: lease.name)
      }
    }
    text.replace(/"(cluster_id|member_id|raft_term)":[0-9]+/) { "\"\($0.1)\":*" }
    text.replace(/"(ClusterID|MemberID|RaftTerm)" : [0-9]+/) { "\"\($0.1)\" : *" }
    text.replace(/remaining\([0-9]+s\)/) { _ in "remaining(*)" }
    text.replace(/"ttl":[0-9]+/) { _ in "\"ttl\":*" }
    return inOrder(text)
  }

  /// Sorts what etcd lists in no order: the keys of a lease come out of a hash map, and a list of leases is in
  /// order of their expiry, which only the leader knows.
  private func inOrder(_ text: String) -> String {
    var text = text
    text.replace(/attached keys\(\[(.*)\]\)/) { match in
      "attached keys([\(match.1.split(separator: " ").sorted().joined(separator: " "))])"
    }
    text.replace(/"keys":\[(.*)\]/) { match in
      "\"keys\":[\(match.1.split(separator: ",").sorted().joined(separator: ","))]"
    }
    guard text.firstMatch(of: /^found [0-9]+ leases/) != nil else { return text }
    let lines = text.split(separator: "\n")
    return lines.prefix(1).joined() + "\n" + lines.dropFirst().sorted().joined(separator: "\n")
  }
}
