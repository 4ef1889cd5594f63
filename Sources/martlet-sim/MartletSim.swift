import ArgumentParser
import Primitives
import Simulator

#if PLANTED_BUGS
  extension PlantedBug: ExpressibleByArgument {}
#endif

/// `martlet-sim`: the store's shipped cores under every fault that they must survive.
@main
struct MartletSim: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "martlet-sim",
    abstract: "Run store clusters on a simulated clock, network and disk.",
    discussion: """
      One seed is one run: equal seeds give equal runs, on every machine. A failing one is printed with the
      command that replays it.

        martlet-sim --seed 42 --trace  one run, and all that happens in it
        martlet-sim --seeds 1000       seeds 1...1000
        martlet-sim --first 5000 --seeds 1000
      """)

  @Option(help: "Run this seed alone.")
  var seed: UInt64?

  @Option(help: "The first seed of a series.")
  var first: UInt64 = 1

  @Option(help: "How many seeds to run.")
  var seeds: UInt64 = 100

  @Option(help: "Members of the cluster; without it most seeds have three, some one or five.")
  var members: Int?

  @Option(help: "Stop after so many seconds, wherever the series stands.")
  var limit: Int?

  @Flag(help: "End with the first seed that fails.")
  var stopAtFailure = false

  @Flag(help: "Print everything that happens.")
  var trace = false

  #if PLANTED_BUGS
    @Option(help: "Plant this bug in the members (debug builds only).")
    var plant: PlantedBug?
  #endif

  func validate() throws {
    if let members, !(1...7).contains(members) {
      throw ValidationError("--members must be 1 to 7")
    }
  }

  func run() throws {
    var options = SimulationOptions()
    #if PLANTED_BUGS
      if let plant {
        plant.plant()
        plant.prepare(&options)
      }
    #endif
    if trace { options.trace = { print($0) } }
    let range = seed.map { $0..<($0 + 1) } ?? first..<(first + seeds)
    let clock = ContinuousClock()
    let began = clock.now
    var total = SimulationReport()
    var failures: [UInt64] = []
    var done: UInt64 = 0
    for seed in range {
      options.memberCount = members ?? SimulationOptions.memberCount(ofSeed: seed)
      var world = SimulatedWorld(seed: seed, options: options)
      do {
        total.add(try world.run())
      } catch {
        failures.append(seed)
        print("seed \(seed): \(error)")
        print("  replay: martlet-sim --seed \(seed) --members \(options.memberCount) --trace")
      }
      done += 1
      if stopAtFailure, !failures.isEmpty { break }
      if range.count >= 10, done % UInt64(range.count / 10) == 0 {
        print("\(done) of \(range.count) seeds, \(failures.count) failed")
      }
      if let limit, clock.now - began > .seconds(limit) { break }
    }
    let seconds = Double((clock.now - began) / .milliseconds(1)) / 1000
    print(
      """
      simulated \(Int(total.simulatedSeconds)) s in \(Int(seconds.rounded())) s \
      (\(Int(total.simulatedSeconds / max(seconds, 0.001))) times real time): \
      \(total.operations) operations, \(total.failed) refused, \(total.unknown) unknown, \
      \(total.messages) messages
      \(total.faults) faults: \(total.crashes) crashes, \(total.pauses) pauses, \(total.partitions) partitions, \
      \(total.diskFaults) disk faults, \(total.transfers) transfers
      \(total.leaders) elections won, \(total.truncations) truncations, \(total.snapshots) snapshots, \
      \(total.snapshotsInstalled) installed, \(total.compactions) compactions, \(total.watchEvents) events on \(total.watchStreams) broken streams
      seeds \(range.lowerBound) to \(range.lowerBound + done - 1): \
      \(done - UInt64(failures.count)) passed, \(failures.count) failed
      """)
    if !failures.isEmpty { throw ExitCode(1) }
  }
}
