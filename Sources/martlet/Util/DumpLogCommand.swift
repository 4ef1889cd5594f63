import ArgumentParser
import Persistence
import Primitives
import Raft
import Replica

/// `martlet util dump-log`: what stands in a member's log.
struct DumpLogCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dump-log",
    abstract: "List the entries in the log of a data directory that no member uses.",
    discussion: """
      One line for each thing that an entry asks for: its index and term, then what it is. Values of keys, hashes of
      passwords and tokens are not shown. Entries that a later leader replaced are listed too, before those that
      replaced them, as they lie in the log.

        martlet util dump-log --data-dir m1.martlet --type put,txn --start-index 1000
        martlet util dump-log --data-dir m1.martlet -w json
      """)

  @Option(help: "The member's data directory.")
  var dataDir: String

  @Option(help: "The first entry that is listed.")
  var startIndex: UInt64 = 0

  @Option(help: "The last entry that is listed.")
  var endIndex: UInt64?

  @Option(
    help:
      "Only these, separated by commas: put, delete-range, txn, compact, lease-grant, no-op and so on."
  )
  var type: String?

  @Option(name: [.short, .long], help: "simple or json.")
  var writeOut = "simple"

  func run() throws {
    guard ["simple", "json"].contains(writeOut) else {
      throw UsageFailure("--write-out must be simple or json, not '\(writeOut)'")
    }
    let types = type.map { Set($0.split(separator: ",").map(String.init)) }
    let range = LogIndex(startIndex)...LogIndex(max(startIndex, endIndex ?? .max))
    let inspection: LogInspection
    do {
      inspection = try LogInspection.run(dataDir + "/wal", fileSystem: LinuxFileSystem()) { batch in
        for entry in batch.entries where range.contains(entry.index) {
          list(LoggedEntry(entry), types)
        }
      }
    } catch {
      throw StartFailure(
        error.code == .locked
          ? "a member runs on \(dataDir); stop it first, or copy the directory"
          : error.code == .missing ? "\(dataDir) holds no log: \(error)" : "\(error)")
    }
    for problem in inspection.problems { CtlOutput.complain("martlet: \(problem)") }
    if !inspection.problems.isEmpty { throw ExitCode(1) }
  }

  private func list(_ entry: LoggedEntry, _ types: Set<String>?) {
    var lines: [String] = []
    for item in entry.items where types?.contains(item.kind) ?? true {
      lines.append(writeOut == "json" ? json(entry, item) : text(entry, item))
    }
    if let problem = entry.problem, types?.contains("unreadable") ?? true {
      lines.append(
        writeOut == "json"
          ? #"{"index":\#(entry.index),"term":\#(entry.term),"type":"unreadable","problem":\#(GoJSON.string(problem))}"#
          : "\(entry.index)\t\(entry.term)\tunreadable\t\(problem)")
    }
    if !lines.isEmpty { CtlOutput.line(lines.joined(separator: "\n")) }
  }

  private func text(_ entry: LoggedEntry, _ item: LoggedEntry.Item) -> String {
    let fields = item.fields.map { field in
      let value =
        switch field.value {
        case .number(let number): "\(number)"
        case .id(let id): GoText.hexadecimal(id)
        case .flag(let flag): "\(flag)"
        case .text(let text): GoText.quoted(text)
        case .bytes(let bytes): GoText.quoted(bytes)
        case .list(let list): "[" + list.joined(separator: " ") + "]"
        }
      return "\(field.name)=\(value)"
    }
    return "\(entry.index)\t\(entry.term)\t\(item.kind)"
      + (fields.isEmpty ? "" : "\t" + fields.joined(separator: " "))
  }

  private func json(_ entry: LoggedEntry, _ item: LoggedEntry.Item) -> String {
    let fields = item.fields.map { field in
      let value =
        switch field.value {
        case .number(let number): "\(number)"
        case .id(let id): GoJSON.string(GoText.hexadecimal(id))
        case .flag(let flag): "\(flag)"
        case .text(let text): GoJSON.string(text)
        // As in etcd's JSON: bytes are base64.
        case .bytes(let bytes): GoJSON.base64(bytes)
        case .list(let list): "[" + list.map(GoJSON.string).joined(separator: ",") + "]"
        }
      return ",\(GoJSON.string(field.name)):\(value)"
    }
    return
      #"{"index":\#(entry.index),"term":\#(entry.term),"type":\#(GoJSON.string(item.kind))\#(fields.joined())}"#
  }
}
