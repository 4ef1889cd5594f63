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
final class ServerLoop: GRPCServerDelegate {
  /// Why the loop waits for the replica.
  enum Purpose {
    case free
    /// A command in the log; the result is the response's body.
    case command
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
  private var unflushed: [GRPCServerConnection] = []

  // MARK: Streams

  var watchStreams: [StreamKey: WatchStream] = [:]
  var liveWatches = LiveWatches()
  private var keepAliveStreams: [StreamKey: GRPCServerConnection] = [:]
  /// Streams that asked to end when the member has no leader.
  private var leaderStreams: [StreamKey: GRPCServerConnection] = [:]
  private var turnsWithoutLeader = 0
  private var nextProgressTick = Instant.origin

  // MARK: Scratch

  /// Cluster and member id as they stand in every header.
  private let headerPrefix: [UInt8]
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
    for (key, connection) in keepAliveStreams {
      endStream(connection, key.stream, .leaseKeepAlive)
    }
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

  private func release(_ slot: Int) {
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

  // MARK: Calls

  func grpc(
    _ connection: GRPCServerConnection, unary method: Int, stream: StreamID,
    message: UnsafeRawBufferPointer
  ) {
    guard let method = EtcdMethod(rawValue: method) else { return }
    metrics.started[method.rawValue] &+= 1
    metrics.receivedBytes &+= UInt64(message.count)
    if message.count > settings.maxRequestBytes {
      fail(connection, stream, method, EtcdError.requestTooLarge)
      return
    }
    let restrictions = front.restrictions
    if !restrictions.isEmpty, let error = refusal(of: method, message, restrictions) {
      return fail(connection, stream, method, error)
    }
    if front.isAuthEnabled {
      dispatchIdentified(connection, stream, method, message)
    } else {
      dispatch(connection, stream, method, message)
    }
  }

  func dispatch(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod,
    _ message: UnsafeRawBufferPointer
  ) {
    switch method {
    case .range: range(connection, stream, message)
    case .put: put(connection, stream, message)
    case .txn: transaction(connection, stream, message)
    case .deleteRange: deleteRange(connection, stream, message)
    case .compact: compact(connection, stream, message)
    case .leaseGrant: leaseGrant(connection, stream, message)
    case .leaseRevoke: leaseRevoke(connection, stream, message)
    case .leaseTimeToLive: leaseTimeToLive(connection, stream, message)
    case .leaseLeases: leaseLeases(connection, stream, message)
    case .watch, .leaseKeepAlive, .healthWatch: break
    default: administer(connection, stream, method, message)
    }
  }

  func grpc(
    _ connection: GRPCServerConnection, opened method: Int, stream: StreamID, headers: HeaderBlock
  ) {
    guard let method = EtcdMethod(rawValue: method) else { return }
    metrics.started[method.rawValue] &+= 1
    if front.restrictions.contains(.learner), method != .healthWatch {
      return fail(connection, stream, method, EtcdError.notSupportedForLearner)
    }
    let key = StreamKey(connection, stream)
    if let value = headers.first(.hasleader), value.elementsEqual("true".utf8) {
      if front.status.leader == nil {
        fail(connection, stream, method, EtcdError.noLeader)
        return
      }
      leaderStreams[key] = connection
    }
    switch method {
    case .watch:
      let watchStream = WatchStream(
        connection, stream,
        credential: connection.credential(of: stream))
      watchStreams[key] = watchStream
      holdIfUnknown(watchStream)
    case .leaseKeepAlive: keepAliveStreams[key] = connection
    default: break
    }
  }

  func grpc(
    _ connection: GRPCServerConnection, received message: UnsafeRawBufferPointer, method: Int,
    stream: StreamID
  ) {
    metrics.receivedBytes &+= UInt64(message.count)
    switch EtcdMethod(rawValue: method) {
    case .watch:
      if let watchStream = watchStreams[StreamKey(connection, stream)] {
        received(message, on: watchStream)
      }
    case .leaseKeepAlive:
      if front.isAuthEnabled {
        keepAliveIdentified(connection, stream, message)
      } else {
        keepAlive(connection, stream, message)
      }
    case .healthWatch: sendHealth(connection, stream)
    default: break
    }
  }

  func grpc(_ connection: GRPCServerConnection, halfClosed stream: StreamID, method: Int) {
    // A health watch is one request followed by answers until the client cancels.
    if EtcdMethod(rawValue: method) == .healthWatch { return }
    forget(connection, stream)
    metrics.count(EtcdMethod(rawValue: method) ?? .watch, .ok)
    connection.finish(stream, .ok)
  }

  func grpc(_ connection: GRPCServerConnection, cancelled stream: StreamID, method: Int) {
    guard let method = EtcdMethod(rawValue: method) else { return }
    metrics.count(method, .cancelled)
    if method.isStreaming { forget(connection, stream) }
  }

  func grpc(_ connection: GRPCServerConnection, writable stream: StreamID, method: Int) {
    if let watchStream = watchStreams[StreamKey(connection, stream)] { resume(watchStream) }
  }

  func grpcReadComplete(_ connection: GRPCServerConnection) {}

  func grpcClosed(_ connection: GRPCServerConnection) {
    let identifier = ObjectIdentifier(connection)
    for (key, stream) in watchStreams where key.connection == identifier {
      end(stream)
      watchStreams[key] = nil
    }
    keepAliveStreams = keepAliveStreams.filter { $0.key.connection != identifier }
    leaderStreams = leaderStreams.filter { $0.key.connection != identifier }
    connection.isFlushPending = false
  }

  /// Drops what the loop keeps of a streaming call.
  func forget(_ connection: GRPCServerConnection, _ stream: StreamID) {
    let key = StreamKey(connection, stream)
    if let watchStream = watchStreams.removeValue(forKey: key) { end(watchStream) }
    keepAliveStreams[key] = nil
    leaderStreams[key] = nil
  }

  // MARK: Replies

  /// Takes what the writer delivered. Called by the sink, on the loop, once per hop.
  func received(_ replies: [Reply]) {
    for reply in replies {
      switch reply.outcome {
      case .applied(let result, let term): applied(reply.token, result, term)
      case .readable(let view, let term): readable(reply.token, view, term)
      case .leaseTime(let time): answerLease(reply.token, time)
      case .watching(let id, let after): watching(reply.token, id, after: after)
      case .watchBehind(let view): watchBehind(reply.token, view)
      case .watchCompacted(let revision): watchCompacted(reply.token, revision)
      case .watchesLost(let revision): watchesLost(compacted: revision)
      case .events(let deliveries): for delivery in deliveries { deliver(delivery) }
      case .progress(let revision): progressed(reply.token, revision)
      case .failed(let error): failed(reply.token, error)
      case .done: changed(reply.token)
      case .exported(let export): exported(reply.token, export)
      case .leaderChanged: break
      }
    }
    flush()
  }

  private func applied(_ token: UInt64, _ result: CommandResult, _ term: Term) {
    guard let call = take(token), let connection = call.connection else { return }
    setHeader(result.revision, term)
    if case .login(let login) = call.purpose, case .error(.oldAuthRevision) = result.body {
      return logInAgain(login, connection, call.stream)
    }
    switch result.body {
    case .empty: respond(connection, call.stream, call.method, [])
    case .encoded(let bytes): respond(connection, call.stream, call.method, bytes)
    case .error(let error): fail(connection, call.stream, call.method, GRPCStatus(error))
    }
  }

  private func readable(_ token: UInt64, _ view: StoreView, _ term: Term) {
    guard let call = take(token) else { return }
    switch call.purpose {
    case .readGroup(let group): answer(group, from: view, term)
    case .memberList:
      if let connection = call.connection { sendMembers(connection, call.stream, view, term) }
    case .alarmList(let kind):
      if let connection = call.connection {
        let alarms = front.status.alarms.filter { kind == nil || $0.kind == kind }
        sendAlarms(connection, call.stream, alarms)
      }
    case .heldCall(let held):
      if let connection = call.connection { release(held, connection, call.stream) }
    case .heldStream(let stream): release(stream)
    case .authQuestion(let question):
      if let connection = call.connection {
        answer(question, connection, call.stream, call.method, from: view, term)
      }
    default: break
    }
  }

  private func answerLease(_ token: UInt64, _ time: LeaseTime?) {
    guard let call = take(token), let connection = call.connection else { return }
    switch call.purpose {
    case .keepAlive(let id): sendKeepAlive(connection, call.stream, id, time)
    case .leaseTimeToLive(let id, let wantsKeys, let caller):
      sendTimeToLive(connection, call.stream, id, time, wantsKeys: wantsKeys, caller)
    default: break
    }
  }

  private func failed(_ token: UInt64, _ error: ReplicaError) {
    guard let call = take(token) else { return }
    switch call.purpose {
    case .readGroup(let group):
      for read in group.reads { fail(read.connection, read.stream, read.method, GRPCStatus(error)) }
    case .watch(let watch): watchFailed(watch, error)
    case .keepAlive(let id) where error == .leaseNotFound:
      if let connection = call.connection { sendKeepAlive(connection, call.stream, id, nil) }
    case .leaseTimeToLive(let id, let wantsKeys, let caller) where error == .leaseNotFound:
      if let connection = call.connection {
        sendTimeToLive(connection, call.stream, id, nil, wantsKeys: wantsKeys, caller)
      }
    case .keepAlive:
      if let connection = call.connection {
        forget(connection, call.stream)
        fail(connection, call.stream, .leaseKeepAlive, GRPCStatus(error))
      }
    case .progress(let stream): stream.isProgressAsked = false
    case .heldStream(let stream): release(stream)
    default:
      if let connection = call.connection {
        fail(connection, call.stream, call.method, GRPCStatus(error))
      }
    }
  }

  /// The token's purpose, for the answers to watches.
  func takeWatch(_ token: UInt64) -> Watch? {
    guard let call = take(token), case .watch(let watch) = call.purpose else { return nil }
    return watch
  }

  func takePurpose(_ token: UInt64) -> Purpose { take(token)?.purpose ?? .free }

  // MARK: Answering

  /// Writes the response header's bytes for this revision to `header`, as field 1.
  @inline(__always)
  func setHeader(_ revision: Revision, _ term: Term) {
    header.removeAll(keepingCapacity: true)
    header.append(0x0A)
    header.append(0)
    header.append(contentsOf: headerPrefix)
    header.append(field: 3, int64: revision.rawValue)
    header.append(field: 4, varint: term.rawValue)
    // At most 42 bytes: the length takes one.
    header[1] = UInt8(truncatingIfNeeded: header.count &- 2)
  }

  /// Answers a unary call with the header set before and the rest of the response.
  @inline(__always)
  func respond(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod, _ rest: [UInt8]
  ) {
    header.withUnsafeBytes { header in
      rest.withUnsafeBytes { rest in connection.respond(stream, header, rest) }
    }
    metrics.count(method, .ok)
    metrics.sentBytes &+= UInt64(header.count &+ rest.count)
    noteUnflushed(connection)
  }

  func fail(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod,
    _ status: GRPCStatus
  ) {
    connection.finish(stream, status)
    metrics.count(method, status.code)
    noteUnflushed(connection)
  }

  func fail(
    _ connection: GRPCServerConnection, _ stream: StreamID, _ method: EtcdMethod,
    _ error: EtcdError
  ) {
    fail(connection, stream, method, GRPCStatus(error))
  }

  @inline(__always)
  func noteUnflushed(_ connection: GRPCServerConnection) {
    if connection.isFlushPending { return }
    connection.isFlushPending = true
    unflushed.append(connection)
    scheduleTurnEndFlush()
  }

  private var isFlushScheduled = false

  /// Answers given in a read burst leave with it; those given elsewhere leave when that work is done,
  /// which `flush` ends. This catches what neither does.
  private func scheduleTurnEndFlush() {
    if isFlushScheduled { return }
    isFlushScheduled = true
    let bound = NIOLoopBound(self, eventLoop: eventLoop)
    eventLoop.execute {
      bound.value.isFlushScheduled = false
      bound.value.flush()
    }
  }

  func flush() {
    if unflushed.isEmpty { return }
    let due = unflushed
    unflushed.removeAll(keepingCapacity: true)
    for connection in due {
      connection.isFlushPending = false
      connection.flush()
    }
  }

  // MARK: Clockwork

  private func keepHouse() {
    let now = Self.now()
    for slot in pending.indices {
      guard let deadline = pending[slot].deadline, deadline <= now,
        case .command = pending[slot].purpose, let connection = pending[slot].connection
      else { continue }
      let (stream, method) = (pending[slot].stream, pending[slot].method)
      release(slot)
      pending[slot].deadline = nil
      fail(connection, stream, method, GRPCStatus(.deadlineExceeded, "context deadline exceeded"))
    }
    watchLeader()
    if now >= nextProgressTick {
      nextProgressTick = now.advanced(by: settings.watchProgressInterval)
      if watchStreams.values.contains(where: \.wantsProgress) {
        front.requestProgress(token: reserve(.progressTick), sink: sink)
      }
    }
    flush()
  }

  /// Ends the streams that require a leader when there has been none for a while.
  private func watchLeader() {
    if leaderStreams.isEmpty || front.status.leader != nil {
      turnsWithoutLeader = 0
      return
    }
    turnsWithoutLeader += 1
    guard turnsWithoutLeader >= EtcdServerLimits.turnsWithoutLeader else { return }
    for (key, connection) in leaderStreams {
      let method: EtcdMethod = watchStreams[key] == nil ? .leaseKeepAlive : .watch
      forget(connection, key.stream)
      fail(connection, key.stream, method, EtcdError.noLeader)
    }
    leaderStreams = [:]
  }
}

/// A stream of one of the loop's connections.
struct StreamKey: Hashable {
  var connection: ObjectIdentifier
  var stream: StreamID

  init(_ connection: GRPCServerConnection, _ stream: StreamID) {
    self.connection = ObjectIdentifier(connection)
    self.stream = stream
  }
}

/// Takes replies on the writer's thread to the loop: one hop for all that came since the last.
final class LoopSink: ReplySink {
  private struct State {
    var replies: [Reply] = []
    var isHopping = false
  }
  private let eventLoop: any EventLoop
  private let state = Mutex(State())
  private let loop = Mutex<NIOLoopBound<ServerLoop>?>(nil)

  init(eventLoop: any EventLoop) { self.eventLoop = eventLoop }

  func attach(_ loop: NIOLoopBound<ServerLoop>) { self.loop.withLock { $0 = loop } }

  /// Lets the loop go: answers that still come are dropped.
  func detach() { loop.withLock { $0 = nil } }

  func deliver(_ replies: [Reply]) {
    let mustHop = state.withLock { state in
      if state.replies.isEmpty { state.replies = replies } else { state.replies += replies }
      defer { state.isHopping = true }
      return !state.isHopping
    }
    if mustHop { eventLoop.execute { self.drain() } }
  }

  private func drain() {
    let replies = state.withLock { state in
      state.isHopping = false
      defer { state.replies = [] }
      return state.replies
    }
    loop.withLock({ $0 })?.value.received(replies)
  }
}
