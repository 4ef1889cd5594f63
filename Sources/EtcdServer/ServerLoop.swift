import EtcdWire
import HTTP2
import MVCC
import NIOCore
import Primitives
import Replica
import Synchronization

/// The services on one event loop: all its connections, their calls in flight and their watches.
///
/// # The problem
///
/// A put costs the store a microsecond. Handing each one to the writer's thread and back as a task of
/// its own would cost ten times that in wake-ups, locks and small writes.
///
/// # The design
///
/// Everything crosses threads in batches, and nothing on a loop is shared, so it needs no locks:
///
///     socket reads ─▶ grpc(unary:) ─▶ commands, reads of this turn ─▶ submit / requestRead, once a turn
///                                                                          │ writer's thread
///     one flush per connection ◀── reply ◀── drain, one hop per batch ◀── LoopSink.deliver
///
/// - A write is checked (`RequestChecks`), and its bytes are copied straight into the turn's batch, in the
///   form that goes to the log. Unknown fields are dropped first: see `Canonical.swift`.
/// - A serializable read is answered from the published view where it stands, in the read burst.
/// - A linearizable read waits in the turn's group; one `requestRead` serves the whole group.
/// - A *turn* ends when the loop has taken what all its sockets had (a task queued with the first call
///   runs behind the reads under way), so a turn's batch holds the requests of many connections.
///
/// A call in flight is a slot in `pending`, named by a token with a generation in it, so that late answers
/// for a slot that was given up meanwhile are recognised. A client that gives up only loses its
/// stream; the answer is then written to nobody.
final class ServerLoop {
  /// Why the loop waits for the replica.
  enum Purpose {
    case free
    /// A command in the log; the result is the response's body.
    case command
    /// A compaction whose client waits until what it makes unreadable is gone.
    case physicalCompaction(Revision)
    case readGroup(ReadGroup)
    case keepAlive(LeaseID)
    case leaseTimeToLive(LeaseID, wantsKeys: Bool, AuthCaller?)
    case memberList
    case alarmList(Alarm.Kind?)
    case snapshot
    /// A change of members or alarms, and the alarms to answer with.
    case change(ClusterCommand, [Alarm])
    case watch(Watch)
    case progress(WatchStream)
    case progressTick
    case heldCall(HeldCall)
    case heldStream(WatchStream)
    case authQuestion(AuthQuestion)
    case login(Login)
  }

  struct Pending {
    var purpose = Purpose.free
    var generation: UInt32 = 0
    /// Where the answer goes; unused by purposes that know themselves.
    var connection: GRPCServerConnection?
    var stream = StreamID.connection
    var method = EtcdMethod.range
    var deadline: Instant?
  }

  let eventLoop: any EventLoop
  let front: any ReplicaFront
  let settings: EtcdServerSettings
  let sink: LoopSink
  let passwords: PasswordWorker
  private var housekeeping: RepeatedTask?

  // MARK: Who calls

  var credentials = CredentialTable()
  /// Whether the call at hand must be authorised.
  var isAuthOn = false
  /// Who makes it; nil for nobody.
  var caller: AuthCaller?

  // MARK: This turn

  var commands: [UInt8] = []
  var tokens: [UInt64] = []
  var group = ReadGroup()
  private var isTurnScheduled = false
  /// The view that serializable reads of this turn are answered from.
  private var turnView: StoreView?

  // MARK: In flight

  var pending: [Pending] = []
  private var freePending: [Int] = []
  /// Connections that were answered outside of their own read burst.
  var unflushed: [GRPCServerConnection] = []
  var isFlushScheduled = false

  // MARK: Streams

  var watchStreams: [StreamKey: WatchStream] = [:]
  var liveWatches = LiveWatches()
  var keepAliveStreams: [StreamKey: KeepAliveStream] = [:]
  /// Calls of the lock and election services, by their clients' streams.
  var coordinationCalls: [StreamKey: CoordinationCall] = [:]
  /// Those whose clients left, until they have cleaned up.
  var abandonedCalls: [ObjectIdentifier: CoordinationCall] = [:]
  /// Large ranges on their way to their clients.
  var rangeStreams: [StreamKey: RangeTransfer] = [:]
  /// Streams that asked to end when the member has no leader.
  var leaderStreams: [StreamKey: GRPCServerConnection] = [:]
  var turnsWithoutLeader = 0
  var nextProgressTick = Instant.origin

  // MARK: Scratch

  /// Cluster and member id as they stand in every header.
  let headerPrefix: [UInt8]
  var header: [UInt8] = []
  var body: [UInt8] = []
  var metrics = LoopMetrics()
  private var leaseIDs = SystemRandomNumberGenerator()

  init(
    eventLoop: any EventLoop, front: any ReplicaFront, settings: EtcdServerSettings,
    passwords: PasswordWorker
  ) {
    self.passwords = passwords
    self.eventLoop = eventLoop
    self.front = front
    self.settings = settings
    sink = LoopSink(eventLoop: eventLoop)
    var prefix: [UInt8] = []
    prefix.append(field: 1, varint: front.identity.cluster)
    prefix.append(field: 2, varint: front.identity.member.rawValue)
    headerPrefix = prefix
    sink.attach(NIOLoopBound(self, eventLoop: eventLoop))
  }

  /// Starts the loop's clockwork. On the loop.
  func start() {
    // Once, however many ports there are.
    guard housekeeping == nil else { return }
    let interval = TimeAmount.nanoseconds(
      Int64(EtcdServerLimits.housekeepingInterval.wholeNanoseconds))
    let bound = NIOLoopBound(self, eventLoop: eventLoop)
    nextProgressTick = Self.now().advanced(by: settings.watchProgressInterval)
    housekeeping = eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { _ in
      bound.value.keepHouse()
    }
  }

  func currentMetrics() -> LoopMetrics {
    metrics.watchStreams = watchStreams.count
    return metrics
  }

  func stop() {
    housekeeping?.cancel()
    housekeeping = nil
  }

  /// Ends the calls that never end by themselves, when the member stops: their clients go on at another
  /// member at once, and the rest of the shutdown waits only for calls with an end.
  func endStreams() {
    for (key, stream) in watchStreams { endStream(stream.connection, key.stream, .watch) }
    for (key, stream) in keepAliveStreams {
      endStream(stream.connection, key.stream, .leaseKeepAlive)
    }
    for call in coordinationCalls.values { call.fail(GRPCStatus(EtcdError.stopped)) }
    for transfer in rangeStreams.values {
      fail(transfer.connection, transfer.stream, .rangeStream, EtcdError.stopped)
    }
    rangeStreams = [:]
  }

  private func endStream(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod
  ) {
    forget(connection, stream)
    fail(connection, stream, method, EtcdError.stopped)
  }

  static func now() -> Instant { Instant(nanoseconds: NIODeadline.now().uptimeNanoseconds) }

  // MARK: Turns

  /// Makes sure that what this turn collects is handed over at its end.
  @inline(__always)
  func scheduleTurnEnd() {
    if isTurnScheduled { return }
    isTurnScheduled = true
    let bound = NIOLoopBound(self, eventLoop: eventLoop)
    eventLoop.execute { bound.value.endTurn() }
  }

  private func endTurn() {
    isTurnScheduled = false
    turnView = nil
    submit()
    if !group.isEmpty {
      let waiting = group
      group = ReadGroup()
      front.requestRead(token: reserve(.readGroup(waiting)), sink: sink)
    }
  }

  /// Hands the collected commands to the writer.
  func submit() {
    if tokens.isEmpty { return }
    let batch = ProposalBatch(commands: commands, tokens: tokens, sink: sink)
    commands = []
    tokens = []
    // What a turn holds changes little from one to the next.
    commands.reserveCapacity(min(batch.commands.count, EtcdServerLimits.batchBytes))
    tokens.reserveCapacity(batch.tokens.count)
    front.submit(batch)
  }

  /// The published view, the same for all reads of a turn.
  func currentView() -> StoreView {
    if let turnView { return turnView }
    let view = front.view
    turnView = view
    scheduleTurnEnd()
    return view
  }

  // MARK: Tokens

  func reserve(
    _ purpose: Purpose, _ connection: GRPCServerConnection? = nil,
    _ stream: StreamID = .connection, _ method: EtcdMethod = .range
  ) -> UInt64 {
    let slot: Int
    if let free = freePending.popLast() {
      slot = free
    } else {
      slot = pending.count
      pending.append(Pending())
    }
    pending[slot].purpose = purpose
    pending[slot].connection = connection
    pending[slot].stream = stream
    pending[slot].method = method
    pending[slot].deadline = connection?.deadline(of: stream)
    return UInt64(pending[slot].generation) << 32 | UInt64(slot)
  }

  /// What waits for the token's answer, which it stops doing; nil if it was given up.
  @inline(__always)
  func take(_ token: UInt64) -> Pending? {
    let slot = Int(token & 0xFFFF_FFFF)
    guard slot < pending.count, pending[slot].generation == UInt32(token >> 32) else { return nil }
    if case .free = pending[slot].purpose { return nil }
    let taken = pending[slot]
    release(slot)
    return taken
  }

  func release(_ slot: Int) {
    pending[slot].purpose = .free
    pending[slot].connection = nil
    pending[slot].generation &+= 1
    freePending.append(slot)
  }

  /// An id for a lease whose client left the choice to us: positive, and as good as unique. Should it
  /// exist already, the grant is refused and the client tries again.
  func chooseLeaseID() -> LeaseID {
    LeaseID(Int64(truncatingIfNeeded: leaseIDs.next() >> 1) | 1)
  }

  /// An id for a new member: random, so as good as unique, and never zero.
  func chooseMemberID() -> NodeID { NodeID(leaseIDs.next() | 1) }
}
