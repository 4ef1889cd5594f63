import Primitives
import Simulator
import Testing

/// A few seeds with every run of the tests; `Scripts/test` runs a thousand with the release build.
@Suite struct SeedTests {
  @Test(arguments: [1, 2, 3, 4] as [UInt64])
  func aClusterOfThreeSurvives(seed: UInt64) throws {
    var world = SimulatedWorld(seed: seed)
    let report = try world.run()
    #expect(report.operations > 100)
    #expect(report.faults > 0, "a seed without faults proves little")
    #expect(report.watchEvents > 0)
  }

  @Test(arguments: [1, 5] as [Int])
  func otherSizesSurvive(members: Int) throws {
    var options = SimulationOptions()
    options.memberCount = members
    options.faultyTime = .seconds(8)
    var world = SimulatedWorld(seed: 11, options: options)
    #expect(try world.run().operations > 50)
  }

  @Test func equalSeedsGiveEqualRuns() throws {
    func fingerprint() throws -> [Int] {
      var options = SimulationOptions()
      options.faultyTime = .seconds(6)
      var world = SimulatedWorld(seed: 99, options: options)
      return try world.run().fingerprint
    }
    #expect(try fingerprint() == fingerprint())
  }
}
