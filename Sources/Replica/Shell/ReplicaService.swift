import Glibc
import MVCC
import Persistence
import Primitives
import Raft
import Synchronization

/// One member, running: `ReplicaCore` with threads, a clock, a disk and a network.
///
/// One thread at a time runs the core (`CoreTurns`): it takes all that has arrived, pumps once, and carries
/// out the effects. Which thread that is depends on the load: while little happens it is the one that brings
/// the event; when events come faster it is the *writer*, which also takes care of the clock.
///
/// - The *log* thread performs one write after the other.
/// - The *background* thread prepares segments and reads entries that left memory.
/// - The *snapshot* thread writes, sends and loads snapshots, which may take seconds.
///
/// Every method may be called from any thread and returns at once.
public final class ReplicaService: PeerReceiver {
  /// What a caller wants of the core.
  private enum Item: Sendable {
    case submit(ProposalBatch)
    case read(token: UInt64, sink: any ReplySink)
    case watch(WatchRequest, token: UInt64, sink: any ReplySink)
    case cancelWatch(WatcherID)
    case progress(token: UInt64, sink: any ReplySink)
    case lease(LeaseID, renew: Bool, token: UInt64, sink: any ReplySink)
    case transferLeadership(to: NodeID)
    case change(ClusterCommand, token: UInt64, sink: any ReplySink)
    case removedFromCluster
    case handOverLeadership
    case exportSnapshot(token: UInt64, sink: any ReplySink)
    case peer([PeerMessage], from: NodeID)
    case connectionLost(NodeID)
    case logWritten(DiskResult)
    case background(BackgroundResult)
  }

  private struct Published {
    var view: StoreView
    var status: ReplicaStatus
  }

  public let identity: ClusterIdentity
  private let turns: CoreTurns<Item>
  /// Touched by the thread that holds the turn.
  private let core: CoreBox
  private let sender: any PeerSender
  private let logJobs = ThreadInbox<DiskJob>()
  private let backgroundTasks = ThreadInbox<BackgroundTask>()
  private let snapshotTasks = ThreadInbox<BackgroundTask>()
  private let published: Mutex<Published>
  private let authEnabled: Atomic<Bool>
  /// The logins that this member knows.
  public let tokens: LoginTokens
  private let refused: Atomic<UInt8>
  private let bytesLeft: Atomic<UInt64>
  private let timingsSoFar = Mutex(ReplicaTimings())
  private let failure = Mutex<ReplicaFailure?>(nil)
  private let threads = Mutex<[Thread]>([])
  private let onWarning: @Sendable (String) -> Void
  private let onFailure: @Sendable (ReplicaFailure) -> Void

  /// Starts the member's threads.
  ///
  /// - Parameters:
  ///   - core: the recovered member; the writer's from now on.
  ///   - disk: where its files are.
  ///   - sender: carries messages to the other members.
  ///   - tokens: keeps the logins that come out of the log.
  ///   - onWarning: called with what an operator should read.
  ///   - onFailure: called once, on the thread that met the failure, if the member must stop.
  public init(
    core: consuming ReplicaCore, disk: ReplicaDisk, sender: any PeerSender,
    tokens: LoginTokens = LoginTokens(),
    onWarning: @escaping @Sendable (String) -> Void,
    onFailure: @escaping @Sendable (ReplicaFailure) -> Void
  ) {
    identity = core.identity
    let status = core.currentStatus()
    published = Mutex(Published(view: core.view, status: status))
    refused = Atomic(status.restrictions.rawValue)
    bytesLeft = Atomic(status.quotaLeft)
    authEnabled = Atomic(core.view.isAuthEnabled)
    self.tokens = tokens
    self.onWarning = onWarning
    self.onFailure = onFailure
    turns = CoreTurns(deadline: core.hasMaintenance ? .origin : core.nextDeadline)
    self.core = CoreBox(core)
    self.sender = sender
    threads.withLock { threads in
      threads.append(Thread(named: "log") { [self] in runLog(disk) })
      threads.append(
        Thread(named: "background") { [self] in runTasks(backgroundTasks, disk) })
      threads.append(Thread(named: "snapshot") { [self] in runTasks(snapshotTasks, disk) })
      threads.append(Thread(named: "writer") { [self] in turns.serve(work: runTurn) })
    }
  }

  /// The clock that the member runs on; what `ReplicaCore.init` takes as `now`.
  public static var now: Instant { MonotonicClock.now }

  // MARK: Reading without the writer

  /// The published root: everything this member has applied and told of.
  public var view: StoreView { published.withLock { $0.view } }
  public var status: ReplicaStatus { published.withLock { $0.status } }
  /// `view.isAuthEnabled`, without a lock: what every write asks first.
  public var isAuthEnabled: Bool { authEnabled.load(ordering: .acquiring) }

  /// What clients are refused now: asked for each of their requests.
  public var restrictions: Restrictions {
    Restrictions(rawValue: refused.load(ordering: .relaxed))
  }

  /// Bytes that the state may still grow by: asked for each write.
  public var quotaLeft: UInt64 { bytesLeft.load(ordering: .relaxed) }

  /// How long the member's work took.
  public var timings: ReplicaTimings { timingsSoFar.withLock { $0 } }
  /// What went to and came from each other member.
  public var traffic: [PeerTraffic] { sender.traffic }

  // MARK: Asking the core

  /// Takes commands of one event loop; they are answered through the batch's sink.
  public func submit(_ batch: ProposalBatch) {
    if !append(.submit(batch)) {
      batch.sink.deliver(batch.tokens.map { Reply(token: $0, outcome: .failed(.stopped)) })
    }
  }

  /// Asks for a view that holds everything acknowledged before this call: `.readable`.
  public func requestRead(token: UInt64, sink: any ReplySink) {
    ask(.read(token: token, sink: sink), token: token, sink: sink)
  }

  /// Sets up a watcher: `.watching`, `.watchBehind` or `.watchCompacted`.
  public func watch(_ request: WatchRequest, token: UInt64, sink: any ReplySink) {
    ask(.watch(request, token: token, sink: sink), token: token, sink: sink)
  }

  /// Ends a watcher. Events that were on their way may still arrive.
  public func cancelWatch(_ id: WatcherID) { append(.cancelWatch(id)) }

  /// Asks for `.progress`, which comes behind every event up to its revision.
  public func requestProgress(token: UInt64, sink: any ReplySink) {
    ask(.progress(token: token, sink: sink), token: token, sink: sink)
  }

  /// Gives a lease its whole time again: `.leaseTime`.
  public func keepAlive(lease: LeaseID, token: UInt64, sink: any ReplySink) {
    ask(.lease(lease, renew: true, token: token, sink: sink), token: token, sink: sink)
  }

  /// Asks for what is left of a lease: `.leaseTime`.
  public func leaseTime(lease: LeaseID, token: UInt64, sink: any ReplySink) {
    ask(.lease(lease, renew: false, token: token, sink: sink), token: token, sink: sink)
  }

  /// Hands leadership to another voter, if this member leads. Success shows in `status`.
  public func transferLeadership(to member: NodeID) {
    append(.transferLeadership(to: member))
  }

  /// Changes members or alarms: `.done` when it was applied here.
  public func change(_ command: ClusterCommand, token: UInt64, sink: any ReplySink) {
    ask(.change(command, token: token, sink: sink), token: token, sink: sink)
  }

  /// Writes the state to a file for a client: `.exported`, or `.failed`.
  public func exportSnapshot(token: UInt64, sink: any ReplySink) {
    ask(.exportSnapshot(token: token, sink: sink), token: token, sink: sink)
  }

  private func ask(_ item: Item, token: UInt64, sink: any ReplySink) {
    if !append(item) { sink.deliver([Reply(token: token, outcome: .failed(.stopped))]) }
  }

  // MARK: From the network

  public func receive(_ messages: [PeerMessage], from peer: NodeID) {
    append(.peer(messages, from: peer))
  }

  public func connectionLost(to peer: NodeID) { append(.connectionLost(peer)) }

  /// Hands leadership to whichever voter has come farthest, if this member leads.
  public func handOverLeadership() { append(.handOverLeadership) }

  public func removedFromCluster() { append(.removedFromCluster) }

  // MARK: Stopping

  /// Stops the threads, in the order in which they feed each other, and waits for them.
  public func stop() {
    turns.close()
    logJobs.close()
    backgroundTasks.close()
    snapshotTasks.close()
    for thread in threads.withLock({ $0 }) { thread.join() }
  }

  // MARK: The threads

  /// Keeps the core, for whichever thread holds the turn.
  private final class CoreBox: @unchecked Sendable {
    // Touched only by the holder of the turn; `CoreTurns` orders one holder after the other.
    var value: ReplicaCore
    init(_ core: consuming ReplicaCore) { value = core }
  }

  @discardableResult
  private func append(_ item: Item) -> Bool { turns.append(item, work: runTurn) }

  /// Takes a batch of events through the core. Called by the holder of the turn.
  private func runTurn(_ items: [Item]) -> Instant {
    guard core.value.failure == nil else {
      refuse(items)
      return core.value.nextDeadline
    }
    let start = MonotonicClock.now
    core.value.advance(to: start)
    for item in items { handle(item, &core.value) }
    let applied = core.value.appliedIndex
    core.value.pump()
    perform(core.value.takeEffects())
    if core.value.appliedIndex != applied {
      let nanoseconds = MonotonicClock.now.nanoseconds(since: start)
      timingsSoFar.withLock { $0.commit.record(seconds: Double(nanoseconds) / 1e9) }
    }
    if let failure = core.value.failure {
      turns.close()
      refuse(turns.takeRest())
      onFailure(failure)
    }
    return core.value.hasMaintenance ? .origin : core.value.nextDeadline
  }

  private func handle(_ item: Item, _ core: inout ReplicaCore) {
    switch item {
    case .submit(let batch): core.submit(batch)
    case .read(let token, let sink): core.requestRead(token: token, sink: sink)
    case .watch(let request, let token, let sink): core.watch(request, token: token, sink: sink)
    case .cancelWatch(let id): core.cancelWatch(id)
    case .progress(let token, let sink): core.requestProgress(token: token, sink: sink)
    case .lease(let lease, let renew, let token, let sink):
      core.queryLease(lease, renew: renew, token: token, sink: sink)
    case .transferLeadership(let target): core.transferLeadership(to: target)
    case .change(let command, let token, let sink):
      core.change(command, token: token, sink: sink)
    case .removedFromCluster: core.removedFromCluster()
    case .handOverLeadership: core.handOverLeadership()
    case .exportSnapshot(let token, let sink): core.exportSnapshot(token: token, sink: sink)
    case .peer(let messages, let peer):
      for message in messages { core.receive(message, from: peer) }
    case .connectionLost(let peer): core.connectionLost(to: peer)
    case .logWritten(let result): core.logWritten(result)
    case .background(let result): core.backgroundFinished(result)
    }
  }

  private func perform(_ effects: consuming Effects) {
    // The peers and the disk first: they take longest, and what they answer is queued until this turn ends.
    // Then what readers see, then the answers that rely on it.
    if !effects.sends.isEmpty { sender.send(effects.sends) }
    if let job = effects.log { logJobs.append(job) }
    if !effects.auth.isEmpty { tokens.apply(effects.auth, now: MonotonicClock.now) }
    if let (view, status) = effects.published {
      authEnabled.store(view.isAuthEnabled, ordering: .releasing)
      published.withLock { $0 = Published(view: view, status: status) }
      refused.store(status.restrictions.rawValue, ordering: .relaxed)
      bytesLeft.store(status.quotaLeft, ordering: .relaxed)
    }
    for delivery in effects.deliveries { delivery.sink.deliver(delivery.replies) }
    for task in effects.background {
      (task.concernsSnapshots ? snapshotTasks : backgroundTasks).append(task)
    }
    if let roster = effects.members { sender.update(roster) }
    for warning in effects.warnings { onWarning(warning) }
  }

  private func refuse(_ items: [Item]) {
    for item in items {
      switch item {
      case .submit(let batch):
        batch.sink.deliver(batch.tokens.map { Reply(token: $0, outcome: .failed(.stopped)) })
      case .read(let token, let sink), .watch(_, let token, let sink),
        .progress(let token, let sink), .lease(_, _, let token, let sink),
        .change(_, let token, let sink), .exportSnapshot(let token, let sink):
        sink.deliver([Reply(token: token, outcome: .failed(.stopped))])
      case .cancelWatch, .transferLeadership, .handOverLeadership, .removedFromCluster, .peer, .connectionLost,
        .logWritten, .background:
        break
      }
    }
  }

  private func runLog(_ disk: ReplicaDisk) {
    while let jobs = logJobs.take() {
      for job in jobs {
        let start = MonotonicClock.now
        let result = disk.perform(job)
        let nanoseconds = MonotonicClock.now.nanoseconds(since: start)
        timingsSoFar.withLock { $0.logSync.record(seconds: Double(nanoseconds) / 1e9) }
        append(.logWritten(result))
      }
    }
  }

  private func runTasks(_ queue: ThreadInbox<BackgroundTask>, _ disk: ReplicaDisk) {
    while let tasks = queue.take() {
      for task in tasks { append(.background(disk.perform(task))) }
    }
  }
}
