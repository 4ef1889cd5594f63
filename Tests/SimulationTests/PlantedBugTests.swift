#if PLANTED_BUGS
  import Primitives
  import Simulator
  import Testing

  /// The tester, tested: each fault that was put into the shipped code must be found within a few seeds.
  ///
  /// A planted bug may break an invariant of the core, which ends the process, before a check sees its
  /// effect; so each search runs in a process of its own, which ends well only if no seed found anything.
  @Suite(.serialized) struct PlantedBugTests {
    /// Ends the process badly if a seed catches the bug, as a broken invariant would.
    static func search(_ bug: PlantedBug, seeds: ClosedRange<UInt64> = 1...60) {
      bug.plant()
      var options = SimulationOptions()
      bug.prepare(&options)
      for seed in seeds {
        var world = SimulatedWorld(seed: seed, options: options)
        do { _ = try world.run() } catch { fatalError("caught by seed \(seed): \(error)") }
      }
    }

    @Test func acknowledgingBeforeSyncIsCaught() async {
      await #expect(processExitsWith: .failure) { PlantedBugTests.search(.acknowledgeBeforeSync) }
    }

    @Test func aStaleReadIsCaught() async {
      await #expect(processExitsWith: .failure) { PlantedBugTests.search(.staleRead) }
    }

    @Test func anUnsyncedVoteIsCaught() async {
      await #expect(processExitsWith: .failure) { PlantedBugTests.search(.unsyncedVote) }
    }

    @Test func aReplyBeforePublicationIsCaught() async {
      await #expect(processExitsWith: .failure) {
        PlantedBugTests.search(.replyBeforePublication)
      }
    }
  }
#endif
