import HTTP2
import NIOCore
import Primitives

/// One connection that keeps up to `outstanding` requests under way.
///
/// All state is confined to the event loop; other threads only call the methods that say so. The
/// handler delivers answers in bursts, one for each read from the socket. Each answer frees a place,
/// which the next request takes in the same burst, and all of a burst's requests leave in one write.
final class LoadConnection: HTTP2Delegate, @unchecked Sendable {
  /// What is measured between a phase's start and the last answer.
  struct Phase {
    var workload: Workload
    var pacer: Pacer
    /// No request is sent after this instant.
    var end: UInt64
    /// The most requests to send.
    var limit: UInt64
    var done: EventLoopPromise<Void>
  }

  let eventLoop: any EventLoop
  private let server: ClientChannel
  private let outstanding: Int
  private let heads: [HeaderTemplate]
  private let log: AcknowledgementLog?

  private var handler: HTTP2Handler?
  private var connected: EventLoopPromise<Void>?
  private var phase: Phase?
  private var lastWorkload: Workload?
  private var flights: [Workload.Flight]
  /// The places of `flights` that are free.
  private var free: [Int]
  private var issued: UInt64 = 0
  private var timer: Scheduled<Void>?
  private var isFinished = false
  /// Requests that were due before the end but were never sent.
  private var unsent: UInt64 = 0
  /// When the last answer came.
  private var lastAnswer: UInt64 = 0
  /// Observations of the phase, of all the loop's connections.
  private let observations: LoopRecorder

  static let reconnectDelay = TimeAmount.milliseconds(100)
  /// How long the last answers of a phase are waited for, in nanoseconds.
  static let drainTime: UInt64 = 10_000_000_000
  /// Timers closer than this gain nothing; requests due meanwhile are sent together.
  static let timerGranularity: UInt64 = 50_000

  /// - Parameters:
  ///   - observations: what is observed, on the event loop on which the connection shall live.
  ///   - log: where acknowledged puts go; of this event loop.
  init(
    observations: LoopRecorder, server: ClientChannel, outstanding: Int, log: AcknowledgementLog?
  ) {
    eventLoop = observations.eventLoop
    self.observations = observations
    self.server = server
    self.outstanding = outstanding
    self.log = log
    heads = Workload.Kind.allCases.map { kind in
      HeaderTemplate([
        HeaderField(":method", "POST"), HeaderField(":scheme", server.scheme),
        HeaderField(":path", kind.path),
        HeaderField(":authority", server.endpoint.authority),
        HeaderField("content-type", "application/grpc"), HeaderField("te", "trailers"),
        HeaderField("user-agent", "martlet-bench"),
      ])
    }
    flights = Array(repeating: Workload.Flight(), count: outstanding)
    free = Array((0..<outstanding).reversed())
  }

  // MARK: Called from other threads

  /// Connects; the future succeeds once requests can be sent.
  func connect() -> EventLoopFuture<Void> {
    eventLoop.flatSubmit {
      let promise = self.eventLoop.makePromise(of: Void.self)
      self.connected = promise
      self.openChannel()
      return promise.futureResult
    }
  }

  /// Runs a phase; the future succeeds when its last answer has come.
  func run(_ makePhase: @escaping @Sendable (EventLoopPromise<Void>) -> Phase) -> EventLoopFuture<
    Void
  > {
    eventLoop.flatSubmit {
      let promise = self.eventLoop.makePromise(of: Void.self)
      self.begin(makePhase(promise))
      return promise.futureResult
    }
  }

  func finish() {
    eventLoop.execute {
      self.isFinished = true
      self.handler?.close()
    }
  }

  /// How the phase ended.
  func outcome() -> EventLoopFuture<Outcome> {
    eventLoop.submit { Outcome(unsent: self.unsent, lastAnswer: self.lastAnswer) }
  }

  struct Outcome: Sendable {
    var unsent: UInt64
    var lastAnswer: UInt64
  }

  // MARK: Connecting

  private func openChannel() {
    server.open(on: eventLoop, delegate: self)
      .whenFailure { _ in self.reconnect() }
  }

  private func reconnect() {
    if isFinished { return }
    eventLoop.scheduleTask(in: Self.reconnectDelay) { self.openChannel() }
  }

  func http2Connected(_ handler: HTTP2Handler) {
    self.handler = handler
    connected?.succeed(())
    connected = nil
    fill(now: monotonicNanoseconds())
  }

  func http2Closed(_ handler: HTTP2Handler, error: (any Error)?) {
    self.handler = nil
    for slot in flights.indices { flights[slot].stream = nil }
    let lost = Set(flights.indices).subtracting(free)
    for _ in lost {
      observations.recorder.record(error: "connection lost: \(error.map { "\($0)" } ?? "closed")")
    }
    free = Array((0..<outstanding).reversed())
    reconnect()
    endIfDone()
  }

  // MARK: Phases

  private func begin(_ phase: Phase) {
    if let lastWorkload { phase.workload.adopt(lastWorkload) }
    lastWorkload = phase.workload
    self.phase = phase
    issued = 0
    unsent = 0
    lastAnswer = 0
    fill(now: monotonicNanoseconds())
    handler?.flush()
  }

  /// Sends what is due, as far as there are free places.
  private func fill(now: UInt64) {
    guard phase != nil, let handler else { return }
    while let slot = free.last, handler.connection.canOpenStream {
      guard issued < phase!.limit, let since = nextTurn(now: now) else { break }
      let open = flights[slot].stream
      var opened: StreamID?
      let sent = phase!.workload.issue(&flights[slot]) { kind, bytes in
        if let open { return handler.connection.sendData(open, bytes, endStream: false) }
        opened = handler.connection.openStream(
          heads[Int(kind.rawValue)], endStream: false, tag: UInt64(slot))
        guard let opened else { return false }
        return handler.connection.sendData(opened, bytes, endStream: !kind.isStreaming)
      }
      guard sent else { break }
      if flights[slot].kind.isStreaming { flights[slot].stream = opened ?? open }
      flights[slot].since = since
      free.removeLast()
      issued += 1
    }
    endIfDone(now: now)
  }

  /// The instant from which the next request's latency counts; nil if none may be sent now.
  private func nextTurn(now: UInt64) -> UInt64? {
    if let due = phase!.pacer.nextDue {
      // What was due before the end is sent, however late.
      if due >= phase!.end { return nil }
    } else if now >= phase!.end {
      return nil
    }
    if let since = phase!.pacer.take(now: now) { return since }
    wakeWhenDue(now: now)
    return nil
  }

  private func wakeWhenDue(now: UInt64) {
    guard timer == nil, let due = phase?.pacer.nextDue else { return }
    let instant = max(due, now + Self.timerGranularity)
    timer = eventLoop.scheduleTask(deadline: .uptimeNanoseconds(instant)) {
      self.timer = nil
      self.fill(now: monotonicNanoseconds())
      self.handler?.flush()
    }
  }

  private func endIfDone(now: UInt64 = monotonicNanoseconds()) {
    guard let phase, free.count == outstanding else { return }
    let isOver = phase.pacer.nextDue.map { $0 >= phase.end } ?? (now >= phase.end)
    if isOver || issued >= phase.limit { end() }
  }

  private func end() {
    timer?.cancel()
    timer = nil
    let done = phase?.done
    phase = nil
    log?.flush()
    done?.succeed(())
  }

  /// Ends the phase although answers are missing.
  func abandon() { eventLoop.execute { self.abandonPhase() } }

  private func abandonPhase() {
    guard phase != nil else { return }
    for _ in 0..<(outstanding - free.count) { observations.recorder.record(error: "no answer") }
    unsent = phase?.pacer.dueBefore(phase?.end ?? 0) ?? 0
    isFinished = true
    handler?.close()
    end()
  }

  // MARK: Answers

  func http2(
    _ handler: HTTP2Handler, headers: HeaderBlock, on stream: StreamID, endStream: Bool
  ) {
    // An error comes as trailers alone, which look like a head that ends the stream.
    if endStream { answered(headers, handler) }
  }

  func http2(
    _ handler: HTTP2Handler, data: UnsafeRawBufferPointer, on stream: StreamID, endStream: Bool
  ) {
    let slot = Int(handler.connection.eventTag)
    if flights[slot].kind == .put { return }
    defer { if flights[slot].kind.isStreaming { answeredOnStream(slot, handler) } }
    if flights[slot].partial.isEmpty, let message = GRPCMessage.message(in: data) {
      phase?.workload.received(message, for: flights[slot], recorder: &observations.recorder)
      return
    }
    // An answer in several frames.
    flights[slot].partial.append(contentsOf: data)
    let flight = flights[slot]
    flight.partial.withUnsafeBytes { bytes in
      if let message = GRPCMessage.message(in: bytes) {
        phase?.workload.received(message, for: flight, recorder: &observations.recorder)
        flights[slot].partial.removeAll(keepingCapacity: true)
      }
    }
  }

  func http2(_ handler: HTTP2Handler, trailers: HeaderBlock, on stream: StreamID) {
    answered(trailers, handler)
  }

  /// The next answer on a stream that stays open.
  private func answeredOnStream(_ slot: Int, _ handler: HTTP2Handler) {
    guard flights[slot].partial.isEmpty else { return }
    let now = handler.connection.now.nanoseconds
    observations.recorder.record(nanoseconds: now &- min(flights[slot].since, now))
    release(slot, now: now)
  }

  private func answered(_ trailers: HeaderBlock, _ handler: HTTP2Handler) {
    let slot = Int(handler.connection.eventTag)
    let now = handler.connection.now.nanoseconds
    flights[slot].stream = nil
    if let status = trailers.first(.grpcStatus), status.count == 1, status[0] == UInt8(ascii: "0") {
      observations.recorder.record(nanoseconds: now &- min(flights[slot].since, now))
      if let log, flights[slot].kind == .put {
        log.append(
          Acknowledgement(key: flights[slot].key, variant: UInt32(flights[slot].variant)))
      }
    } else {
      let status = trailers.string(.grpcStatus) ?? "HTTP status \(trailers.status)"
      observations.recorder.record(error: "\(status) \(trailers.string(.grpcMessage) ?? "")")
    }
    release(slot, now: now)
  }

  func http2(_ handler: HTTP2Handler, reset stream: StreamID, code: HTTP2ErrorCode) {
    observations.recorder.record(error: "stream reset: \(code)")
    let slot = Int(handler.connection.eventTag)
    flights[slot].stream = nil
    release(slot, now: monotonicNanoseconds())
  }

  private func release(_ slot: Int, now: UInt64) {
    lastAnswer = now
    free.append(slot)
  }

  func http2ReadComplete(_ handler: HTTP2Handler) {
    fill(now: handler.connection.now.nanoseconds)
    log?.flush()
  }

  func http2SettingsChanged(_ handler: HTTP2Handler) {
    fill(now: monotonicNanoseconds())
  }
}
