#if PLANTED_BUGS
  import Primitives

  extension PlantedBug {
    /// A seed that catches it, as `Docs/Testing.md` has it; the table of 25 November 2026.
    public var knownSeed: UInt64 {
      switch self {
      case .keepConflictingEntries, .commitPastMatch: 2
      case .unverifiedSnapshot: 3
      case .stalePersisted: 4
      case .readBeforeOwnTerm, .unmatchedAppend: 5
      case .voteForShorterLog: 6
      case .restoreWithoutLeaseKeys: 11
      default: 1
      }
    }

    /// Makes a world in which the bug can show: some need a fault that most seeds don't have.
    public func prepare(_ options: inout SimulationOptions) {
      options.checksEveryPromise = true
      func adjust(_ change: @escaping @Sendable (inout Swarm) -> Void) { options.adjustSwarm = change }
      switch self {
      case .unsyncedVote, .acknowledgeBeforeSync, .countUnpersistedSelf, .unsyncedLog:
        adjust { $0.aimedCrashOneIn = 4 }
      case .stalePersisted, .keepConflictingEntries, .commitPastMatch,
        .unmatchedAppend, .voteForShorterLog:
        // They need a leader to be replaced while entries are under way.
        adjust {
          $0.stallOneIn = 8
          $0.longestStall = 3_000_000_000
          $0.lossOneIn = 20
          $0.longestCalm = 2_000_000_000
        }
        options.required = [.isolate, .crashLeader, .split, .pauseLeader]
        options.faultyTime = .seconds(60)
      case .staleRead, .readBeforeOwnTerm, .readBeforeApply:
        options.required = [.isolate, .split, .pauseLeader, .crashLeader]
      case .trustedPageCache:
        adjust { $0.diskErrorOneIn = 40 }
        options.required = [.crash, .kill]
      case .unverifiedSnapshot:
        options.required = [.rot, .rot, .crash, .crashAll]
        adjust { $0.longestCalm = 1_500_000_000 }
      case .unsyncedSnapshot, .snapshotAhead, .restoreWithoutLeaseKeys:
        options.required = [.crash, .crashAll]
      case .snapshotWithoutLogRestart:
        options.required = [.isolate, .crash, .isolate]
        options.snapshotCount = 10
      case .forgottenLeases, .leasesWithoutGrace, .idleRenewal:
        options.required = [.crashLeader, .isolate, .transfer]
        adjust { swarm in swarm.weights.removeAll { $0.fault == .clockJump } }
      case .retriedForward:
        adjust { $0.lossOneIn = 10 }
      default: break
      }
    }
  }
#endif
