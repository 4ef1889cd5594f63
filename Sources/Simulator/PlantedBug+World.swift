#if PLANTED_BUGS
  import Primitives
  import Raft

  extension PlantedBug {
    /// A seed that catches it, as `Docs/Testing.md` has it; the table of 25 November 2026.
    public var knownSeed: UInt64 {
      switch self {
      case .keepConflictingEntries, .commitPastMatch: 2
      case .unverifiedSnapshot: 3
      case .stalePersisted: 4
      case .readBeforeOwnTerm: 5
      case .voteForShorterLog: 6
      case .restoreWithoutLeaseKeys: 11
      case .unmatchedAppend: 32
      default: 1
      }
    }

    /// Whether a check finds it, as `Docs/Testing.md` has it. One that isn't found is a hole in the checks.
    public var isCaught: Bool {
      switch self {
      case .forgottenVote, .commitByCounting, .learnersVote, .incomingHalfAlone,
        .changeWhileUncommitted, .changeBeforeOwnTerm, .membershipNotTakenBack,
        .staleSnapshotMembership, .staleLeaseRevoke, .applyTwice, .logReleasedTooFar,
        .silentCompaction, .ignoredQuota, .restoreWithoutBump, .revisionOfRecords,
        .leakyCompaction, .replacedEntriesReturn, .cutAtDamage, .placelessChecksum:
        false
      default: true
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
        // A follower must have entries of two leaders, of whom the second didn't know the first's.
        if self == .unmatchedAppend { options.memberCount = 5 }
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
        adjust { $0.bounds.snapshotCount = 10 }
      case .forgottenLeases, .leasesWithoutGrace, .idleRenewal:
        options.required = [.crashLeader, .isolate, .transfer]
        adjust { swarm in swarm.weights.removeAll { $0.fault == .clockJump } }
      case .forgottenVote:
        // Two must stand for one term, and a voter must crash between their requests.
        adjust {
          $0.weights = [(.duel, 1)]
          $0.stallOneIn = 2
          $0.longestStall = 400_000_000
          $0.aimedCrashOneIn = 1
          $0.longestCalm = 3_000_000_000
        }
        options.memberCount = 5
        options.faultyTime = .seconds(90)
      case .commitByCounting, .replacedEntriesReturn:
        adjust {
          $0.bounds.raft.appendBytes = 300
          $0.bounds.raft.inFlightMessages = 1
          $0.bounds.snapshotCount = 400
          $0.stallOneIn = 8
          $0.longestStall = 3_000_000_000
          $0.longestCalm = 2_000_000_000
        }
        options.required = [.isolate, .crashLeader, .split, .pauseLeader, .crash]
        options.faultyTime = .seconds(60)
      case .learnersVote:
        options.required = [.addMember, .addMember, .isolate, .split, .crash]
      case .incomingHalfAlone, .changeWhileUncommitted, .changeBeforeOwnTerm,
        .membershipNotTakenBack:
        options.required = [.joint, .isolate, .crashLeader, .pauseLeader, .split]
        options.faultyTime = .seconds(60)
      case .staleSnapshotMembership:
        options.required = [.addMember, .replaceMember, .crash, .crashAll]
        adjust { $0.bounds.snapshotCount = 10 }
      case .staleLeaseRevoke:
        options.required = [.isolate, .pauseLeader, .transfer, .split]
        adjust { swarm in swarm.weights.removeAll { $0.fault == .clockJump } }
      case .applyTwice:
        options.required = [.crash, .crashAll]
      case .logReleasedTooFar:
        options.required = [.rot, .rot]
        adjust {
          $0.bounds.segmentBytes = 4 << 10
          $0.bounds.snapshotCount = 100
        }
      case .ignoredQuota:
        adjust { $0.bounds.quotaBytes = 32 << 10 }
        options.faultyTime = .seconds(60)
      case .cutAtDamage:
        options.required = [.rotLog, .misdirect]
      case .placelessChecksum:
        options.required = [.crash, .crashAll, .kill]
        adjust {
          $0.bounds.segmentBytes = 4 << 10
          $0.bounds.snapshotCount = 20
        }
      case .retriedForward:
        adjust { $0.lossOneIn = 10 }
      default: break
      }
    }
  }
#endif
