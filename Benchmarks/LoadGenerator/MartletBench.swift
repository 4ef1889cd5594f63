import ArgumentParser

/// A load generator for anything that speaks etcd's API.
///
/// # What it is careful about
///
/// - *It must not be the bottleneck.* Requests are encoded once and patched; a connection sends a burst
///   of requests in one write; nothing is allocated per request. Its own CPU time is in the result, to be
///   judged by.
/// - *It must not hide waits.* With `--rate`, latency counts from the instant a request was due, whether
///   or not the server let it be sent then (`Pacer`).
/// - *It must count the same thing on both sides.* A phase ends with its last answer; processor time
///   and disk flushes are read at its beginning and its end, so they belong to its requests and no others.
/// - *It must not believe.* `--record` notes what was acknowledged; `verify` reads it back later, after
///   servers were killed for instance.
@main
struct MartletBench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "martlet-bench", abstract: "Loads an etcd, and measures.",
    subcommands: [
      Put.self, Get.self, Mixed.self, Txn.self, Scan.self, KeepAlive.self, Attach.self, Watch.self,
      Verify.self, Noop.self, Hold.self, Probe.self, Cluster.self,
    ])
}

/// The order in which keys are touched.
enum KeyOrder: String, CaseIterable, ExpressibleByArgument {
  case sequential
  case random
}

struct Put: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Puts keys.")
  @OptionGroup var options: RunOptions

  @Option(name: .long, help: "The order of keys: sequential or random.")
  var keys = KeyOrder.sequential

  @Option(
    name: .long,
    help: "Note acknowledged puts in this file (with several threads, one file each: FILE.0 ...).")
  var record: String?

  func validate() throws {
    if record != nil && keys != .sequential {
      throw ValidationError("--record needs sequential keys: the last put of a key must be known")
    }
  }

  func run() throws {
    let run = try LoadRun(command: "put", options: options, record: record)
    try run.execute(.put(random: keys == .random), fill: nil).publish(to: options.json)
  }
}

/// Which reads are asked for.
struct ReadOptions: ParsableArguments {
  @Flag(name: .long, help: "Let each member answer from what it has (default: linearizable).")
  var serializable = false

  @Flag(name: .long, help: "The keys are there already: don't put them first.")
  var noFill = false

  var fill: Workload.Mode? { noFill ? nil : .put(random: false) }
}

struct Get: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Gets keys one by one.")
  @OptionGroup var options: RunOptions
  @OptionGroup var reads: ReadOptions

  @Option(name: .long, help: "The order of keys: sequential or random.")
  var keys = KeyOrder.random

  func run() throws {
    let run = try LoadRun(command: "get", options: options, serializable: reads.serializable)
    try run.execute(.get(random: keys == .random), fill: reads.fill)
      .publish(to: options.json)
  }
}

struct Mixed: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Gets and puts random keys.")
  @OptionGroup var options: RunOptions
  @OptionGroup var reads: ReadOptions

  @Option(name: .long, help: "The share of gets, 0 to 1.")
  var gets = 0.8

  func validate() throws {
    if !(0...1).contains(gets) { throw ValidationError("--gets is 0 to 1") }
  }

  func run() throws {
    let run = try LoadRun(command: "mixed", options: options, serializable: reads.serializable)
    try run.execute(.mixed(getsPerThousand: UInt64(gets * 1000)), fill: reads.fill)
      .publish(to: options.json)
  }
}

struct Txn: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Updates objects as Kubernetes does: put if the revision is as known, else get.")
  @OptionGroup var options: RunOptions

  func validate() throws {
    if options.keyCount < UInt64(options.connections * options.outstanding * 2) {
      throw ValidationError(
        "--key-count must be twice the requests under way, so that no two update one object")
    }
  }

  func run() throws {
    let run = try LoadRun(command: "txn", options: options)
    try run.execute(.update, fill: nil).publish(to: options.json)
  }
}

struct Scan: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Reads all keys with one range, again and again.")
  @OptionGroup var options: RunOptions
  @OptionGroup var reads: ReadOptions

  func run() throws {
    let run = try LoadRun(command: "scan", options: options)
    try run.execute(.scan(serializable: reads.serializable), fill: reads.fill)
      .publish(to: options.json)
  }
}

struct KeepAlive: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "keep-alive",
    abstract: "Renews leases, granted before, on streams that stay open.")
  @OptionGroup var options: RunOptions

  func run() throws {
    let run = try LoadRun(command: "keep-alive", options: options)
    try run.execute(.keepAlive, fill: .grant).publish(to: options.json)
  }
}

struct Attach: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Grants leases, and puts a key with each.")
  @OptionGroup var options: RunOptions

  @Option(name: .long, help: "How long the leases live, in seconds.")
  var leaseSeconds: Int64 = 3_600

  func run() throws {
    let run = try LoadRun(command: "attach", options: options, leaseSeconds: leaseSeconds)
    try run.execute(.attach, fill: nil).publish(to: options.json)
  }
}

struct Verify: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Reads back what `put --record` noted; fails unless all of it is there.")
  @OptionGroup var options: RunOptions
  @Argument(help: "The file that was recorded.")
  var file: String

  func run() throws {
    let (header, acknowledgements) = try AcknowledgementLog.read(path: file)
    var options = options
    options.keySize = header.keySize
    options.valueSize = header.valueSize
    options.values = header.values
    options.seed = header.seed
    let run = try LoadRun(command: "verify", options: options)
    let report = try run.execute(.verify(acknowledgements), fill: nil)
    try report.publish(to: options.json)
    let found = report.requests - report.misses
    print("\(found) of \(acknowledgements.count) acknowledged keys are there")
    if report.misses > 0 || report.failed > 0 || found != UInt64(acknowledgements.count) {
      throw ExitCode(1)
    }
  }
}
