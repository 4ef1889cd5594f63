#if PLANTED_BUGS
  import Raft
  import Replica
  import Simulator
  import Testing

  /// The tester, tested: each fault that was put into the shipped code must be found within a few seeds.
  ///
  /// A planted bug may break an invariant of the core, which ends the process, before a check sees its
  /// effect; so each search runs in a process of its own, and only ends well if no seed found anything.
  @Suite struct PlantedBugTests {
    /// Runs seeds with a bug until one is caught. Returns the seed; nil if all passed.
    static func search(
      seeds: ClosedRange<UInt64>, _ plant: (inout ReplicaSettings.PlantedBugs) -> Void
    ) -> UInt64? {
      var options = SimulationOptions()
      options.faultyTime = .seconds(30)
      plant(&options.plantedBugs)
      for seed in seeds {
        var world = SimulatedWorld(seed: seed, options: options)
        do { _ = try world.run() } catch { return seed }
      }
      return nil
    }

    /// Ends the process badly if the bug was caught, as a broken invariant would.
    static func exitIfCaught(
      seeds: ClosedRange<UInt64> = 1...200, _ plant: (inout ReplicaSettings.PlantedBugs) -> Void
    ) {
      if let seed = search(seeds: seeds, plant) { fatalError("caught by seed \(seed)") }
    }

    @Test func acknowledgingBeforeSyncIsCaught() async {
      await #expect(processExitsWith: .failure) {
        PlantedBugTests.exitIfCaught { $0.raft = [.unsyncedAppend, .countUnpersistedSelf] }
      }
    }

    @Test func aStaleReadIsCaught() async {
      await #expect(processExitsWith: .failure) {
        PlantedBugTests.exitIfCaught { $0.raft = .staleReadIndex }
      }
    }

    @Test func anUnsyncedVoteIsCaught() async {
      await #expect(processExitsWith: .failure) {
        PlantedBugTests.exitIfCaught { $0.raft = .unsyncedVote }
      }
    }

    @Test func aStalePersistedIsCaught() async {
      await #expect(processExitsWith: .failure) {
        PlantedBugTests.exitIfCaught { $0.raft = .stalePersisted }
      }
    }

    @Test func aReplyBeforePublicationIsCaught() async {
      await #expect(processExitsWith: .failure) {
        PlantedBugTests.exitIfCaught { $0.repliesBeforePublication = true }
      }
    }
  }
#endif
