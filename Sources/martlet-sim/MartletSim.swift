import ArgumentParser
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

        martlet-sim --seed 42          one run, with what happened in it
        martlet-sim --seeds 1000       seeds 1...1000
        martlet-sim --first 5000 --seeds 1000
      """)

  @Option(help: "Run this seed alone.")
  var seed: UInt64?

  @Option(help: "The first seed of a series.")
  var first: UInt64 = 1

  @Option(help: "How many seeds to run.")
  var seeds: UInt64 = 100

  @Option(help: "Members of the cluster.")
  var members = 3

  #if PLANTED_BUGS
    @Option(help: "Plant this bug in the members (debug builds only).")
    var plant: PlantedBug?
  #endif

  func run() throws {
    var options = SimulationOptions()
    #if PLANTED_BUGS
      plant?.plant(in: &options)
    #endif
    guard (1...7).contains(members) else {
      throw ValidationError("--members must be 1 to 7")
    }
    options.memberCount = members
    let range = seed.map { $0..<($0 + 1) } ?? first..<(first + seeds)
    let clock = ContinuousClock()
    let began = clock.now
    var total = SimulationReport()
    var failures: [UInt64] = []
    for seed in range {
      var world = SimulatedWorld(seed: seed, options: options)
      do {
        total.add(try world.run())
      } catch {
        failures.append(seed)
        print("seed \(seed): \(error)")
        print("  replay: martlet-sim --seed \(seed) --members \(members)")
      }
      if range.count >= 10, (seed - range.lowerBound + 1) % UInt64(range.count / 10) == 0 {
        print("\(seed - range.lowerBound + 1) of \(range.count) seeds, \(failures.count) failed")
      }
    }
    let seconds = Double((clock.now - began) / .milliseconds(1)) / 1000
    print(
      """
      simulated \(Int(total.simulatedSeconds)) s in \(Int(seconds.rounded())) s \
      (\(Int(total.simulatedSeconds / max(seconds, 0.001))) times real time): \
      \(total.operations) operations, \(total.failed) refused, \(total.unknown) unknown, \
      \(total.crashes) crashes, \(total.partitions) partitions, \(total.leaders) leaders, \
      \(total.messages) messages
      """)
    print("\(range.count - failures.count) passed, \(failures.count) failed")
    if !failures.isEmpty { throw ExitCode(1) }
  }
}
