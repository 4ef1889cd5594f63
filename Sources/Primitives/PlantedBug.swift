#if PLANTED_BUGS
  /// Faults that can be put into the shipped code, to prove that the checks find them.
  ///
  /// They exist in debug builds only, and at most one is planted in a process, before anything runs: what looks
  /// like global state is a constant of the process. `Docs/Testing.md` has the table of who catches which.
  public enum PlantedBug: String, CaseIterable, Sendable {
    // MARK: Raft

    /// A follower acknowledges entries before they are on disk.
    case acknowledgeBeforeSync = "acknowledge-before-sync"
    /// The leader counts its own entries as durable when it has only sent them.
    case countUnpersistedSelf = "count-unpersisted-self"
    /// A vote leaves before it is on disk: after a crash the member may vote twice in a term.
    case unsyncedVote = "unsynced-vote"
    /// Votes go to candidates whose log lacks what the voter holds.
    case voteForShorterLog = "vote-for-shorter-log"
    /// A leader answers reads without asking a quorum whether it still leads.
    case staleRead = "stale-read"
    /// A new leader starts read rounds before an entry of its own term is committed.
    case readBeforeOwnTerm = "read-before-own-term"
    /// A write's completion counts although its entries have been replaced since.
    case stalePersisted = "stale-persisted"
    /// A follower keeps its own entries where the leader has others.
    case keepConflictingEntries = "keep-conflicting-entries"
    /// Heartbeats tell the leader's commit index, whatever the follower has acknowledged.
    case commitPastMatch = "commit-past-match"
    /// A follower accepts an append whatever precedes it.
    case unmatchedAppend = "unmatched-append"

    /// A leader commits entries of earlier terms by counting copies.
    case commitByCounting = "commit-by-counting"
    /// A member forgets at restart for whom it voted.
    case forgottenVote = "forgotten-vote"
    /// Learners vote, and count in every quorum.
    case learnersVote = "learners-vote"
    /// In a joint membership the incoming half decides alone.
    case incomingHalfAlone = "incoming-half-alone"
    /// The membership is changed while an earlier change is not committed.
    case changeWhileUncommitted = "change-while-uncommitted"
    /// A new leader changes the membership before an entry of its term is committed.
    case changeBeforeOwnTerm = "change-before-own-term"
    /// A membership holds although its entry was replaced.
    case membershipNotTakenBack = "membership-not-taken-back"
    /// A snapshot carries the oldest membership that the member remembers.
    case staleSnapshotMembership = "stale-snapshot-membership"

    // MARK: Replica

    /// Replies leave before readers see the revision that they name.
    case replyBeforePublication = "reply-before-publication"
    /// A forwarded write that wasn't answered in time is sent once more.
    case retriedForward = "retried-forward"
    /// A read is released before its index is applied.
    case readBeforeApply = "read-before-apply"
    /// A snapshot's metadata names an index that its state hasn't reached.
    case snapshotAhead = "snapshot-ahead"
    /// A snapshot from the leader is installed without the log's restart behind it.
    case snapshotWithoutLogRestart = "snapshot-without-log-restart"
    /// Renewing a lease doesn't move its deadline.
    case idleRenewal = "idle-renewal"
    /// A new leader doesn't take over the leases' deadlines.
    case forgottenLeases = "forgotten-leases"
    /// A new leader ends leases at once.
    case leasesWithoutGrace = "leases-without-grace"
    /// A deposed leader goes on ending leases, through its successor. (etcd#15247)
    case staleLeaseRevoke = "stale-lease-revoke"
    /// A snapshot's state is ahead of its index, so that entries are applied twice after a restart.
    case applyTwice = "apply-twice"
    /// The log is released up to the newest snapshot, whatever the one before needs.
    case logReleasedTooFar = "log-released-too-far"
    /// A watch from a compacted revision is taken, and what is gone is passed over.
    case silentCompaction = "silent-compaction"
    /// Nothing is refused when the quota is used up.
    case ignoredQuota = "ignored-quota"
    /// A cluster restored from a backup counts revisions on from there.
    case restoreWithoutBump = "restore-without-bump"
    /// Progress is told one revision ahead.
    case progressAhead = "progress-ahead"
    /// A watch from a past revision starts with the present.
    case watchFromNow = "watch-from-now"

    // MARK: MVCC

    /// The first revision of a batch isn't shown to watchers.
    case droppedEvent = "dropped-event"
    /// The last revision of the batch before is shown to watchers again.
    case repeatedEvent = "repeated-event"
    /// A watcher's filter is ignored.
    case ignoredFilter = "ignored-filter"
    /// An event's previous record is the newest one of its key.
    case wrongPrevious = "wrong-previous"
    /// A watcher that catches up gets a revision in two pieces.
    case splitRevision = "split-revision"
    /// Compaction takes the events of the compacted revision itself from under the watchers.
    case compactUnderWatcher = "compact-under-watcher"
    /// Compaction removes a version that the compacted revision still shows.
    case compactTooMuch = "compact-too-much"
    /// A lease's keys outlive it.
    case keysOutliveLease = "keys-outlive-lease"
    /// Each operation of a transaction takes a revision of its own.
    case dividedTransaction = "divided-transaction"
    /// A deleted and recreated key goes on counting versions.
    case undeadVersion = "undead-version"
    /// A transaction's predicate is evaluated as if it were its opposite for keys that don't exist.
    case missingKeyPredicate = "missing-key-predicate"
    /// The proposing member applies what the others don't.
    case applyForClients = "apply-for-clients"
    /// A restored store's revision is that of its newest record. (etcd#17780)
    case revisionOfRecords = "revision-of-records"
    /// What compaction removes isn't given back.
    case leakyCompaction = "leaky-compaction"
    /// A restored store has forgotten which keys its leases hold.
    case restoreWithoutLeaseKeys = "restore-without-lease-keys"

    // MARK: Persistence

    /// Log writes aren't synced.
    case unsyncedLog = "unsynced-log"
    /// A snapshot is renamed into place before it is synced.
    case unsyncedSnapshot = "unsynced-snapshot"
    /// The end of the log isn't written again at start, though only the page cache may hold it.
    case trustedPageCache = "trusted-page-cache"
    /// A damaged snapshot is used.
    case unverifiedSnapshot = "unverified-snapshot"
    /// Entries that were replaced come back at restart.
    case replacedEntriesReturn = "replaced-entries-return"
    /// Damage in the log is taken for its torn end.
    case cutAtDamage = "cut-at-damage"
    /// A batch validates wherever in the log's files it lies, also one of their last use.
    case placelessChecksum = "placeless-checksum"

    // Written once, before the process does anything else, and then only read.
    private nonisolated(unsafe) static var planted: PlantedBug?

    /// Plants the bug in this process, for good.
    public func plant() { PlantedBug.planted = self }

    public var isPlanted: Bool { PlantedBug.planted == self }
  }
#endif
