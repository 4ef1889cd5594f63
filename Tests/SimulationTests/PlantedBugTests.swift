#if PLANTED_BUGS
  import Primitives
  import Simulator
  import Testing

  /// The tester, tested: each fault that was put into the shipped code must be found within a few seeds.
  ///
  /// A planted bug may break an invariant of the core, which ends the process, before a check sees its
  /// effect; so each search runs in a process of its own, which ends well only if no seed found anything.
  @Suite struct PlantedBugTests {
    @Test("Caught", arguments: PlantedBug.allCases.filter(\.isCaught))
    func isCaught(bug: PlantedBug) async {
      await #expect(processExitsWith: .failure) { [name = bug.rawValue as String] in
        guard let bug = PlantedBug(rawValue: name) else { return }
        bug.plant()
        var options = SimulationOptions()
        bug.prepare(&options)
        // The seed that is known to find it first; should the world have changed since, the others.
        for seed in [bug.knownSeed] + Array(1...30) {
          var world = SimulatedWorld(seed: seed, options: options)
          do { _ = try world.run() } catch { fatalError("caught by seed \(seed): \(error)") }
        }
      }
    }

    /// What the tests above find is the bug, not the world: without it these worlds are sound.
    @Test("Sound without", arguments: [.stalePersisted, .unverifiedSnapshot, .idleRenewal] as [PlantedBug])
    func isSoundWithout(bug: PlantedBug) throws {
      var options = SimulationOptions()
      bug.prepare(&options)
      var world = SimulatedWorld(seed: bug.knownSeed, options: options)
      _ = try world.run()
    }
  }
#endif
