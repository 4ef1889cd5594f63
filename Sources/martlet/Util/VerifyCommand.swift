import ArgumentParser
import Persistence
import Primitives
import Raft
import Replica

/// `martlet util verify`: whether a member's files are what it wrote.
struct VerifyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Check the log and the snapshots of a data directory that no member uses.",
    discussion: """
      Reads every byte: snapshots with all that is in them, segments of the log batch by batch, and each entry. What
      is wrong is told with file and offset. The status is 0 where the member would start from these files, with
      nothing damaged; 1 otherwise.
      """)

  @Option(help: "The member's data directory.")
  var dataDir: String

  @Option(name: [.short, .long], help: "simple or json.")
  var writeOut = "simple"

  func run() throws {
    guard ["simple", "json"].contains(writeOut) else {
      throw UsageFailure("--write-out must be simple or json, not '\(writeOut)'")
    }
    var report = VerificationReport(isJSON: writeOut == "json")
    let newest = try verifySnapshots(&report)
    try verifyLog(after: newest, &report)
    guard report.problems == 0 else {
      if writeOut == "simple" { print("\(report.problems) problems") }
      throw ExitCode(1)
    }
    if writeOut == "simple" { print("sound") }
  }

  /// - Returns: the position of the newest sound snapshot.
  private func verifySnapshots(_ report: inout VerificationReport) throws -> LogIndex {
    let directory = dataDir + "/snap"
    let names: [String]
    do { names = try LinuxFileSystem().list(directory) } catch {
      throw StartFailure("\(dataDir) is no data directory of Martlet: \(error)")
    }
    var newest = LogIndex.zero
    var files = 0
    for name in names where name.hasSuffix(".snapshot") {
      files += 1
      let path = "\(directory)/\(name)"
      do {
        let (file, facts) = try SnapshotRestore.inspect(path, fileSystem: LinuxFileSystem())
        newest = max(newest, file.index)
        report.sound(
          path,
          [
            ("index", "\(file.index)"), ("term", "\(file.term)"), ("bytes", "\(file.bytes)"),
            ("revision", "\(facts.revision)"), ("keys", "\(facts.keys)"),
            ("leases", "\(facts.leases)"),
          ])
      } catch let error as PersistenceError {
        report.problem(error.path ?? path, error.offset, "\(error.code): \(error.message)")
      } catch {
        report.problem(path, nil, "\(error)")
      }
    }
    if files == 0 { report.problem(directory, nil, "there is no snapshot; every member has one") }
    return newest
  }

  private func verifyLog(after snapshot: LogIndex, _ report: inout VerificationReport) throws {
    let directory = dataDir + "/wal"
    let inspection: LogInspection
    var unreadable: [(batch: LogInspection.Batch, index: LogIndex, problem: String)] = []
    do {
      inspection = try LogInspection.run(directory, fileSystem: LinuxFileSystem()) { batch in
        for entry in batch.entries {
          if let problem = LoggedEntry(entry).problem {
            unreadable.append((batch, entry.index, problem))
          }
        }
      }
    } catch {
      throw StartFailure(
        error.code == .locked ? "a member runs on \(dataDir); stop it first" : "\(error)")
    }
    for problem in inspection.problems {
      report.problem(
        problem.path ?? directory, problem.offset, "\(problem.code): \(problem.message)")
    }
    for (batch, index, problem) in unreadable {
      report.problem(batch.path, batch.offset, "entry \(index) can't be read: \(problem)")
    }
    let summary = inspection.summary
    guard summary.identity != nil else { return report.sound(directory, [("segments", "0")]) }
    let begin = summary.first ?? summary.begin.next
    if begin > snapshot.next {
      report.problem(
        directory, nil,
        "the log begins at entry \(begin), but the newest sound snapshot ends at \(snapshot)")
    }
    report.sound(
      directory,
      [
        ("segments", "\(summary.segments)"), ("batches", "\(summary.batches)"),
        ("first", summary.first.map { "\($0)" } ?? "none"),
        ("last", summary.last.map { "\($0)" } ?? "none"), ("term", "\(summary.lastTerm)"),
      ])
  }
}

/// Findings, a line each.
private struct VerificationReport {
  let isJSON: Bool
  private(set) var problems = 0

  init(isJSON: Bool) { self.isJSON = isJSON }

  mutating func problem(_ path: String, _ offset: UInt64?, _ message: String) {
    problems += 1
    if isJSON {
      print(
        #"{"file":\#(GoJSON.string(path)),"#
          + (offset.map { #""offset":\#($0),"# } ?? "")
          + #""problem":\#(GoJSON.string(message))}"#)
    } else {
      print("\(path)\(offset.map { " at byte \($0)" } ?? ""): \(message)")
    }
  }

  func sound(_ path: String, _ facts: [(name: String, value: String)]) {
    if isJSON {
      let fields = facts.map { fact in
        #""\#(fact.name)":\#(UInt64(fact.value) == nil ? GoJSON.string(fact.value) : fact.value)"#
      }
      print(#"{"file":\#(GoJSON.string(path)),\#(fields.joined(separator: ","))}"#)
    } else {
      print("\(path): " + facts.map { "\($0.name) \($0.value)" }.joined(separator: ", "))
    }
  }
}
