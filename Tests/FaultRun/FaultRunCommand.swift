import ArgumentParser
import Foundation
import TestKit

#if canImport(Glibc)
  import Glibc
#endif

/// Real members, a real disk, real faults; everything that clients saw is checked.
///
/// The simulator (`martlet-sim`) runs the store's cores under any fault that can be thought of, but on a disk,
/// network and clock of its own. Here the shipped program runs as several processes, each in a network
/// namespace, over the kernel's TCP and file system, and is killed, stopped, cut off, slowed down, upgraded in
/// turn and replaced while clients work. What these clients asked and were told goes to the same
/// `Verification` that the simulator uses.
///
/// A seed draws the schedule of faults and each client's requests. Processes and kernel have a will of
/// their own, so a seed makes a run alike, not equal.
@main
struct FaultRunCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "martlet-faults",
    abstract: "Runs a cluster of real processes under faults and checks what its clients saw.",
    discussion: """
      Needs root, for network namespaces. Ends with status 0 if every check passed, 1 if one failed, and 77 if \
      this machine can't run it (and says why).
      """)

  @Option(help: "How many members: 3 or 5.") var members = 3
  @Option(help: "How long faults go on, in seconds.") var seconds = 60.0
  @Option(help: "The same in minutes.") var minutes: Double?
  @Option(help: "What the faults and requests are drawn from; any by default.") var seed: UInt64?
  @Option(help: "How many clients ask, each one thing after the other.") var clients = 10
  @Option(help: "Requests a second, of all clients together.") var rate = 400
  @Option(help: "The faults to draw from, separated by commas; all by default.") var faults: String?
  @Option(help: "The program, built in release.") var martlet: String?
  @Flag(help: "Print every fault as it happens.") var verbose = false
  @Flag(help: "Only say whether this machine can run it.") var probe = false
  @Option(help: ArgumentHelp("Set by the program for its own child.", visibility: .hidden))
  var folder: String?

  func run() async throws {
    if let obstacle = Isolation.obstacle {
      report("skipped: \(obstacle)")
      throw ExitCode(77)
    }
    if probe { return }
    guard let program = martlet.map({ Program(path: $0) }) ?? Peers.martlet else {
      throw ValidationError("there is no martlet here; build it with: swift build -c release --product martlet")
    }
    var options = FaultRunOptions(program: program)
    options.members = members
    options.seconds = minutes.map { $0 * 60 } ?? seconds
    options.seed = seed ?? UInt64.random(in: 1...999_999)
    options.clients = clients
    options.rate = rate
    options.isVerbose = verbose
    if let faults { options.faults = try faults.split(separator: ",").map { try Fault.named($0) } }
    guard let folder else {
      // The child gets the seed that was drawn here, so that the first line it prints names it.
      let status = try Isolation.runInside(
        CommandLine.arguments.dropFirst() + (seed == nil ? ["--seed", "\(options.seed)"] : []))
      throw ExitCode(status)
    }
    Isolation.endWithParent()
    options.folder = folder
    let run = try FaultRun(options)
    let isGood = await run.run()
    // Members, namespaces and mounts go with this process, which is the first of its process namespace.
    throw ExitCode(isGood ? 0 : 1)
  }
}

/// Prints a line at once, also where the output is no terminal.
func report(_ line: String) { try? FileHandle.standardOutput.write(contentsOf: Data((line + "\n").utf8)) }

/// What a run is given.
struct FaultRunOptions: Sendable {
  var program: Program
  var folder = ""
  var members = 3
  var seconds = 60.0
  var seed: UInt64 = 1
  var clients = 10
  var rate = 400
  var faults = Fault.allCases
  var isVerbose = false
}

extension Fault {
  fileprivate static func named(_ name: Substring) throws -> Fault {
    guard let fault = Fault(rawValue: String(name)) else {
      throw ValidationError(
        "there is no fault '\(name)'; there are \(Fault.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    return fault
  }
}
