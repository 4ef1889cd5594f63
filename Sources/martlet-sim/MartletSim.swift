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
        martlet-sim --first 5000 --hours 24 --seconds 120
                                       a simulated day, in runs of two minutes and what it takes to settle
      """)

  @Option(help: "Run this seed alone.")
  var seed: UInt64?

  @Option(help: "The first seed of a series.")
  var first: UInt64 = 1

  @Option(help: "How many seeds to run; without it 100, or as many as --hours takes.")
  var seeds: UInt64?

  @Option(help: "Run seeds until so many hours are simulated.")
  var hours: Double?

  @Option(help: "How long faults go on in each run, in simulated seconds.")
  var seconds = 30

  @Option(help: "Members of the cluster; without it most seeds have three, some one or five.")
  var members: Int?

  @Option(help: "Stop after so many seconds, wherever the series stands.")
  var limit: Int?

  @Flag(help: "End with the first seed that fails.")
  var stopAtFailure = false

  @Flag(help: "Print everything that happens.")
  var trace = false

  @Flag(help: "Print the counts as a row of the table in Docs/Testing.md at the end.")
  var row = false

  #if PLANTED_BUGS
    @Option(help: "Plant this bug in the members (debug builds only).")
    var plant: PlantedBug?
  #endif

  func validate() throws {
    if let members, !(1...7).contains(members) {
      throw ValidationError("--members must be 1 to 7")
    }
    if !(1...3_600).contains(seconds) { throw ValidationError("--seconds must be 1 to 3600") }
    if seed != nil, hours != nil || seeds != nil {
      throw ValidationError("--seed runs one seed; --seeds and --hours say how many")
    }
    if let hours, !(hours > 0 && hours < 1e6) { throw ValidationError("--hours must be more than 0") }
  }

  func run() throws {
    var options = SimulationOptions()
    options.faultyTime = .seconds(seconds)
    #if PLANTED_BUGS
      if let plant {
        plant.plant()
        plant.prepare(&options)
      }
    #endif
    let preparedMembers = options.memberCount
    if trace { options.trace = { print($0) } }
    var series = Series(first: seed ?? first)
    while !isOver(series) {
      let seed = series.next
      options.memberCount =
        members
        ?? (preparedMembers == 3 ? SimulationOptions.memberCount(ofSeed: seed) : preparedMembers)
      var world = SimulatedWorld(seed: seed, options: options)
      do {
        series.total.add(try world.run())
      } catch {
        series.failures.append(seed)
        print("seed \(seed): \(error)")
        print(
          "  replay: martlet-sim --seed \(seed) --seconds \(seconds) --members \(options.memberCount) --trace")
      }
      series.next += 1
      series.printProgress(of: count)
    }
    series.printSummary()
    if row { print(series.row) }
    if !series.failures.isEmpty || series.hasTooManyUndecided { throw ExitCode(1) }
  }

  /// How many seeds there are to run at most.
  private var count: UInt64? {
    if seed != nil { return 1 }
    return seeds ?? (hours == nil ? 100 : nil)
  }

  private func isOver(_ series: Series) -> Bool {
    if let count, series.done >= count { return true }
    if let hours, series.total.simulatedSeconds >= hours * 3_600 { return true }
    if let limit, series.elapsed > Double(limit) { return true }
    return stopAtFailure && !series.failures.isEmpty
  }
}
