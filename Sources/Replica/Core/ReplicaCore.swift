import EtcdWire
import MVCC
import Persistence
import Primitives
import Raft

/// One member, as a synchronous value: Raft, the log, the state machine, and all that waits for them.
///
/// ## The problem
/// A member is busy with four things that finish in their own time: clients ask, peers talk, the disk
/// answers, the clock ticks. Correctness depends on the order in which their results become visible
/// (nothing is acknowledged before a quorum has it on disk, no reply before its revision is published), and
/// such orders are hard to keep between threads and harder to test.
///
/// ## The design
/// Everything that decides lives in this value, which one thread owns. What happens outside comes in as a
/// call (`submit`, `receive`, `logWritten`, `advance`...), any number of them; then `pump()` draws the
/// conclusions, and `takeEffects()` hands out what the world must do: write this to the log, send that,
/// deliver these. There is no thread, clock, randomness or I/O inside, so the simulator runs this very code
/// against a simulated world, and a seed replays a run to the byte.
///
/// ## A write's way
/// `submit` puts a batch of commands into the inbox. While a log write is under way nothing is proposed:
/// everything that arrives meanwhile becomes the next entry, so one `fdatasync` serves as many requests as
/// the disk needs. When the log is free, `pump` closes the inbox into one entry (1), Raft hands back the
/// entry for the log and for the peers at once (2); the log's answer and a peer's acknowledgement come in as
/// `logWritten` and `receive` (3); Raft reports the entry as committed, `Store` applies it, the new root is
/// published, and the results go back to the event loops that asked (4).
///
///     submit ─▶ inbox ─(1)─▶ raft ─(2)─▶ Effects.log, Effects.sends
///                             ▲                │
///          logWritten, receive└──────(3)───────┘
///                             └─committed─▶ store.apply ─(4)─▶ Effects.published, Effects.deliveries
///
/// On a follower, (1) sends the inbox to the leader instead. The entry carries the proposer and a sequence
/// number, so that the member that was asked finds its clients when it applies the entry itself: they then
/// read their own writes there.
public struct ReplicaCore {
  // MARK: What it is made of

  let identity: ClusterIdentity
  let settings: ReplicaSettings
  var raft: RaftCore
  var wal: WriteAheadLog
  var store: Store
  var cluster: ClusterState
  /// The last root that readers got.
  var view: StoreView

  // MARK: Time

  var now: Instant
  /// When Raft's next tick is due.
  var nextTick: Instant

  // MARK: What waits

  /// Batches that are not in the log yet, in order of arrival.
  var inbox: [ProposalBatch] = []
  var inboxBytes = 0
  var inboxCommands = 0
  /// When the oldest batch in the inbox must be given up.
  var inboxDeadline: Instant?
  /// Entries of other members' clients, for this leader to propose.
  var forwarded: [(from: NodeID, payload: [UInt8])] = []
  var pending = PendingProposals()
  var nextSequence: UInt64
  /// What Raft wants in the log, collected while a log write is under way.
  var unwritten = UnwrittenLog()
  /// The ticket of the write under way.
  var writing: LogWriteInProgress?
  var reads = ReadQueue()
  var leases = LeaseClock()
  var leaseQueries = LeaseQueries()
  var unconfirmedLeaseQueries = UnconfirmedLeaseQueries()
  var watches = WatchTable()
  var snapshots: SnapshotState
  var maintenanceDue = false
  /// As far as physical compaction was seen to be finished.
  var physicallyCompacted = Revision(-1)

  // MARK: What it knows of leadership

  var leader: NodeID?
  var role = ReplicaStatus.Role.follower
  /// Whether an entry of this term has been applied while leading.
  var leadsWithAppliedTerm = false
  var nextLeaseCheckpoint = Instant.origin
  var publishAttributesAt: Instant?
  /// When this member may tell its feature levels next.
  var nextAnnouncement = Instant.origin
  /// The term in which an entry told them last.
  var announcedTerm: Term?

  var autoCompaction: AutoCompaction?

  var agreement = StateAgreement()
  var nextStateCheck = Instant.origin

  // MARK: Members and alarms

  var changes = ClusterChanges()
  /// The newest change that this member proposed as leader.
  var lastChange = LogIndex.zero
  /// When each other member was last heard of.
  var lastHeard: [NodeID: Instant] = [:]
  var nextAlarmCheck = Instant.origin
  /// When preparing log segments is tried again after it failed.
  var logMaintenanceRetry: Instant?
  /// How large the state was when this member's alarm was raised, at most the quota.
  var bytesAtAlarm: UInt64?
  /// When this member learned that it was removed.
  var removedAt: Instant?

  // MARK: What goes out

  var effects = Effects()
  var counters = ReplicaStatus.Counters()
  var statusChanged = true
  /// Whether entries were applied since the last root was published.
  var hasApplied = false
  /// The revisions made since then, for the watchers.
  var unmatchedEvents: EventBatch?
  #if PLANTED_BUGS
    /// For `PlantedBug.retriedForward`.
    var lastForward: [UInt8]?
    /// For `PlantedBug.snapshotAhead`.
    var viewBeforeLast: StoreView
  #endif
  public internal(set) var failure: ReplicaFailure?

  /// Who takes part in Raft: the newest membership in this member's log, committed or not.
  public var membership: Membership { raft.membership }

  /// How far the others have come; of meaning on a leader only.
  public var peerStatus: [PeerStatus] { raft.peerStatus }

  /// The cost of the log in memory, in bytes.
  public var logBytesInMemory: Int { raft.tailBytes }

  /// The newest entry applied.
  var appliedIndex: LogIndex { raft.applied }

  /// When `advance` should be called next, at the latest.
  public var nextDeadline: Instant { nextTick }

  public init(
    identity: ClusterIdentity, settings: ReplicaSettings, recovered: RecoveredReplica, now: Instant,
    sequenceBase: UInt64, random: RandomSource
  ) {
    self.identity = identity
    self.settings = settings
    self.now = now
    nextTick = now.advanced(by: settings.heartbeatInterval)
    nextSequence = sequenceBase
    wal = recovered.wal
    let store = recovered.store
    view = store.publish()
    self.store = store
    #if PLANTED_BUGS
      viewBeforeLast = view
    #endif
    cluster = recovered.cluster
    store.refusals = recovered.cluster.refusals
    snapshots = SnapshotState(newest: recovered.snapshot, logBytes: recovered.logBytes)
    raft = RaftCore(
      id: identity.member, settings: settings.raft, start: recovered.raftStart, random: random)
    publishAttributesAt = now
    autoCompaction = settings.autoCompaction.map { setting in
      switch setting {
      case .period(let period): AutoCompaction(.periodic(period))
      case .revisions(let count): AutoCompaction(.revision(count))
      }
    }
  }

  // MARK: Events

  /// Moves the clock. Ticks that came due run one after the other, but a member that was stopped for
  /// long doesn't catch up on them: its peers' silence means nothing then.
  public mutating func advance(to instant: Instant) {
    guard instant > now else { return }
    now = instant
    let interval = settings.heartbeatInterval.wholeNanoseconds
    if now.nanoseconds(since: nextTick) > 3 * interval { nextTick = now }
    while nextTick <= now {
      nextTick = nextTick.advanced(byNanoseconds: interval)
      tick()
    }
  }

  private mutating func tick() {
    raft.tick()
    giveUpExpired()
    expireLeases()
    checkOutgoingSnapshots()
    publishAttributesIfDue()
    announceLevelsIfDue()
    raiseLevel()
    compactByItself()
    giveUpChanges()
    proposeChanges()
    promoteMembersThatCaughtUp()
    stopIfRemoved()
    checkStates()
    if isOverQuota || cluster.has(.noSpace) { noteSpace() }
    retryLogMaintenance()
    maintenanceDue = true
  }

  /// The connection to `peer` was reset. If it led, its death needn't wait for a time-out.
  public mutating func connectionLost(to peer: NodeID) {
    raft.reportUnreachable(peer)
    if peer == leader, role == .follower { raft.campaign() }
  }

  // MARK: Conclusions

  /// Draws every conclusion from what came in, until nothing is left to do.
  public mutating func pump() {
    guard failure == nil else { return }
    repeat {
      proposeInbox()
      while raft.hasReady {
        process(raft.takeReady())
        if failure != nil { return }
      }
      startLogWrite()
    } while writing == nil && canPropose
    if hasApplied { checkQuota() }
    startReadRound()
    startLeaseRound()
    while raft.hasReady { process(raft.takeReady()) }
    startLogWrite()
    finishBatch()
    startBackgroundWork()
  }

  /// What the world must do, once, in this order: publish, deliver, send, write, work in the background.
  public mutating func takeEffects() -> Effects {
    let taken = effects
    effects = Effects()
    return taken
  }

  private mutating func process(_ ready: Ready) {
    if ready.hardState != nil || !ready.entries.isEmpty || ready.ticket != nil {
      unwritten.append(ready)
    }
    for message in ready.messages { effects.sends.append((message.to, .raft(message))) }
    for entry in ready.committed { apply(entry) }
    for request in ready.logReads { readLog(request) }
    for request in ready.snapshotsToSend { sendSnapshot(request) }
    for read in ready.reads {
      reads.confirmed(context: read.context, index: read.index)
      unconfirmedLeaseQueries.roundConfirmed(context: read.context, index: read.index)
    }
    for context in ready.failedReads {
      reads.roundFailed(context: context)
      leaseRoundFailed(context: context)
    }
    noteLeadership()
  }

  private mutating func noteLeadership() {
    if raft.leader != leader {
      if raft.leader != nil { counters.leaderChanges += 1 }
      leader = raft.leader
      statusChanged = true
      effects.leaderChanged = .some(leader)
      leaseQueries.failAll(into: &effects)
      failAskedChanges()
    }
    let newRole: ReplicaStatus.Role =
      switch raft.role {
      case .leader: .leader
      case .follower: raft.membership.isVoter(identity.member) ? .follower : .learner
      case .preCandidate, .candidate: .candidate
      }
    if newRole != role {
      role = newRole
      statusChanged = true
      if role != .leader {
        stopLeases()
        autoCompaction?.stop()
        leadsWithAppliedTerm = false
        forwarded = []
        refuseLeaseQueries()
      }
    }
  }

  private mutating func stopLeases() {
    #if PLANTED_BUGS
      if PlantedBug.staleLeaseRevoke.isPlanted { return }
    #endif
    leases.stop()
  }

  /// After all applies of a pump: publish one root, then everything that waited for it.
  private mutating func finishBatch() {
    #if PLANTED_BUGS
      if PlantedBug.replyBeforePublication.isPlanted, !effects.deliveries.isEmpty { return }
    #endif
    if hasApplied || statusChanged {
      #if PLANTED_BUGS
        if hasApplied { viewBeforeLast = view }
      #endif
      if hasApplied { view = store.publish() }
      hasApplied = false
      statusChanged = false
      effects.published = (view, currentStatus())
    }
    reads.release(through: raft.applied, view: view, term: raft.term, into: &effects)
    answerLeaseQueries()
    if let events = unmatchedEvents {
      unmatchedEvents = nil
      watches.match(events, in: view, into: &effects)
    }
  }

  func currentStatus() -> ReplicaStatus {
    var status = ReplicaStatus()
    status.role = role
    status.term = raft.term
    status.leader = leader
    status.commitIndex = raft.commit
    status.appliedIndex = raft.applied
    status.lastIndex = raft.lastIndex
    status.stateHash = store.stateHash
    status.physicallyCompacted = physicallyCompacted
    status.stateBytes = UInt64(clamping: store.allocatedBytes)
    status.members = cluster.members
    status.alarms = cluster.alarms.map(\.alarm)
    status.restrictions = restrictions
    status.quotaBytes = settings.quotaBytes
    status.featureLevel = cluster.level
    status.counters = counters
    status.counters.proposalsPending = UInt64(pending.commands + inboxCommands)
    return status
  }

  mutating func fail(_ failure: ReplicaFailure) {
    self.failure = self.failure ?? failure
  }
}

/// Why the member must stop: going on could lose or falsify data.
public struct ReplicaFailure: Error, Sendable, CustomStringConvertible {
  public var description: String
  public init(_ description: String) { self.description = description }
}
