import ArgumentParser
import Dispatch
import EtcdWire
import Foundation
import HTTP2
import NIOCore
import NIOPosix
import Primitives

/// Sets up watchers, puts keys that they watch at a fixed rate, and measures the events that arrive.
///
/// Each value starts with the instant at which its put was due, so an event's delay counts from there: it
/// holds the put's own way, through the log of a quorum, as well as the event's.
final class WatchRun {
  struct Plan: Sendable {
    var watchers: Int
    /// How many prefixes the watchers are spread over; each put touches one of them.
    var prefixes: Int
  }

  private let options: RunOptions
  private let plan: Plan
  private let group: MultiThreadedEventLoopGroup
  private let connections: [WatchConnection]
  private let putter: PutConnection

  static let patience = 30.0

  init(options: RunOptions, plan: Plan) throws {
    self.options = options
    self.plan = plan
    group = MultiThreadedEventLoopGroup(numberOfThreads: options.threads)
    let loops = Array(group.makeIterator())
    let observations = loops.map { LoopRecorder(eventLoop: $0) }
    let servers = try ClientChannel.all(options)
    connections = (0..<options.connections).map { index in
      WatchConnection(
        observations: observations[index % loops.count],
        server: servers[index % servers.count],
        prefixes: stride(from: index, to: plan.watchers, by: options.connections)
          .map { Self.prefix($0 % plan.prefixes) })
    }
    putter = PutConnection(eventLoop: loops[0], server: servers[0])
  }

  static func prefix(_ number: Int) -> [UInt8] { Array("watched/\(number)/".utf8) }

  /// How many of the watchers see a put of prefix `number`.
  private func audience(of number: Int) -> Int {
    plan.watchers / plan.prefixes + (number < plan.watchers % plan.prefixes ? 1 : 0)
  }

  func execute() throws -> Report {
    defer { try? group.syncShutdownGracefully() }
    try wait(
      EventLoopFuture.andAllSucceed(
        [putter.connect()] + connections.map { $0.connect() }, on: group.next()), "connections")
    try wait(
      EventLoopFuture.andAllSucceed(connections.map { $0.watch() }, on: group.next()), "watchers")
    try puts(seconds: options.warmUp)
    for connection in connections { connection.observations.reset().whenComplete { _ in } }
    let before = ResourceSample(processes: options.watchPid, disk: options.watchDisk)
    let start = monotonicNanoseconds()
    try puts(seconds: options.duration)
    let last = monotonicNanoseconds()
    var measurement = LoadRun.Measurement(
      before: before,
      after: ResourceSample(processes: options.watchPid, disk: options.watchDisk))
    measurement.seconds = Double(last - start) / 1e9
    var seen: Set<ObjectIdentifier> = []
    for connection in connections
    where seen.insert(ObjectIdentifier(connection.observations)).inserted {
      measurement.recorder.add(try connection.observations.observed().wait())
    }
    return Report(command: "watch", options: options, measured: measurement)
  }

  /// Puts at the rate asked for, then waits until every event has come.
  private func puts(seconds: Double) throws {
    let rate = options.rate ?? 100
    let count = Int(seconds * rate)
    let start = monotonicNanoseconds()
    let received = try eventCount()
    var expected = received
    for number in 0..<count {
      let due = start + UInt64(Double(number) / rate * 1e9)
      let now = monotonicNanoseconds()
      if due > now { usleep(UInt32((due - now) / 1_000)) }
      let prefix = number % plan.prefixes
      putter.put(
        key: Self.prefix(prefix) + Array("\(number)".utf8), due: due, valueSize: options.valueSize)
      expected += audience(of: prefix)
    }
    let giveUp = Date() + Self.patience
    while try eventCount() < expected {
      if Date() > giveUp {
        throw GeneratorError(
          "of \(expected - received) events \(try eventCount() - received) came in \(Self.patience) s")
      }
      usleep(2_000)
    }
  }

  private func eventCount() throws -> Int {
    try connections.map { $0.eventCount() }.reduce(0) { try $0 + $1.wait() }
  }

  private func wait(_ future: EventLoopFuture<Void>, _ what: String) throws {
    let done = DispatchSemaphore(value: 0)
    future.whenComplete { _ in done.signal() }
    if done.wait(timeout: .now() + Self.patience) == .timedOut {
      throw GeneratorError("not all \(what) were there in \(Self.patience) s")
    }
    try future.wait()
  }
}

/// A client's connection that only opens, and is told when it is up.
class StreamConnection: HTTP2Delegate, @unchecked Sendable {
  // Confined to the event loop.
  let eventLoop: any EventLoop
  let server: ClientChannel
  var handler: HTTP2Handler?
  private var connected: EventLoopPromise<Void>?

  init(eventLoop: any EventLoop, server: ClientChannel) {
    self.eventLoop = eventLoop
    self.server = server
  }

  func connect() -> EventLoopFuture<Void> {
    eventLoop.flatSubmit {
      let promise = self.eventLoop.makePromise(of: Void.self)
      self.connected = promise
      self.server.open(on: self.eventLoop, delegate: self)
        .whenFailure { promise.fail($0) }
      return promise.futureResult
    }
  }

  func head(_ path: String) -> HeaderTemplate {
    HeaderTemplate([
      HeaderField(":method", "POST"), HeaderField(":scheme", server.scheme), HeaderField(":path", path),
      HeaderField(":authority", server.endpoint.authority),
      HeaderField("content-type", "application/grpc"), HeaderField("te", "trailers"),
      HeaderField("user-agent", "martlet-bench"),
    ])
  }

  func http2Connected(_ handler: HTTP2Handler) {
    self.handler = handler
    connected?.succeed(())
    connected = nil
  }
  func http2(
    _ handler: HTTP2Handler, headers: HeaderBlock, on stream: StreamID, endStream: Bool
  ) {}
  func http2(
    _ handler: HTTP2Handler, data: UnsafeRawBufferPointer, on stream: StreamID, endStream: Bool
  ) {}
  func http2(_ handler: HTTP2Handler, trailers: HeaderBlock, on stream: StreamID) {}
  func http2(_ handler: HTTP2Handler, reset stream: StreamID, code: HTTP2ErrorCode) {}
  func http2Closed(_ handler: HTTP2Handler, error: (any Error)?) {
    self.handler = nil
    connected?.fail(error ?? ChannelError.eof)
    connected = nil
  }
}

/// One stream with many watchers.
final class WatchConnection: StreamConnection, @unchecked Sendable {
  let observations: LoopRecorder
  private let prefixes: [[UInt8]]
  private var created = 0
  private var ready: EventLoopPromise<Void>?
  private var events = 0
  private var partial: [UInt8] = []

  init(observations: LoopRecorder, server: ClientChannel, prefixes: [[UInt8]]) {
    self.observations = observations
    self.prefixes = prefixes
    super.init(eventLoop: observations.eventLoop, server: server)
  }

  /// Creates the watchers; done when the server has confirmed each.
  func watch() -> EventLoopFuture<Void> {
    eventLoop.flatSubmit {
      let promise = self.eventLoop.makePromise(of: Void.self)
      guard let handler = self.handler,
        let stream = handler.connection.openStream(
          self.head("/etcdserverpb.Watch/Watch"), endStream: false, tag: 0)
      else {
        promise.fail(ChannelError.eof)
        return promise.futureResult
      }
      self.ready = promise
      if self.prefixes.isEmpty { promise.succeed(()) }
      for prefix in self.prefixes { self.create(prefix, on: stream) }
      handler.flush()
      return promise.futureResult
    }
  }

  private func create(_ prefix: [UInt8], on stream: StreamID) {
    var end = prefix
    end[end.count - 1] += 1
    var message: [UInt8] = []
    prefix.withUnsafeBytes { key in
      end.withUnsafeBytes { end in
        var request = WatchCreateRequest()
        request.key = key
        request.rangeEnd = end
        WatchRequest(.create(request)).append(to: &message)
      }
    }
    GRPCMessage.framed(message).withUnsafeBytes {
      _ = handler?.connection.sendData(stream, $0, endStream: false)
    }
  }

  func eventCount() -> EventLoopFuture<Int> { eventLoop.submit { self.events } }

  override func http2(
    _ handler: HTTP2Handler, data: UnsafeRawBufferPointer, on stream: StreamID, endStream: Bool
  ) {
    if partial.isEmpty {
      let rest = take(data)
      if rest < data.count { partial.append(contentsOf: data[rest...]) }
    } else {
      partial.append(contentsOf: data)
      let taken = partial.withUnsafeBytes { take($0) }
      partial.removeFirst(taken)
    }
  }

  /// Takes the whole messages at the start of `bytes`; returns how many bytes they were.
  private func take(_ bytes: UnsafeRawBufferPointer) -> Int {
    var offset = 0
    while bytes.count - offset >= GRPCMessage.prefixSize {
      let length = (1...4).reduce(0) { $0 << 8 | Int(bytes[offset + $1]) }
      let end = offset + GRPCMessage.prefixSize + length
      guard end <= bytes.count else { break }
      received(UnsafeRawBufferPointer(rebasing: bytes[(offset + GRPCMessage.prefixSize)..<end]))
      offset = end
    }
    return offset
  }

  private func received(_ message: UnsafeRawBufferPointer) {
    guard let response = try? WatchResponse(message) else {
      observations.recorder.record(error: "an answer that is not a WatchResponse")
      return
    }
    if response.created {
      created += 1
      if created == prefixes.count { ready?.succeed(()) }
    }
    if response.canceled { observations.recorder.record(error: "a watch was cancelled") }
    let now = monotonicNanoseconds()
    for event in response.events {
      events += 1
      guard let record = event.keyValue, record.value.count >= 8 else { continue }
      let due = record.value.loadUnaligned(as: UInt64.self)
      observations.recorder.record(nanoseconds: now - min(due, now))
    }
  }
}

/// Puts keys, and doesn't wait for answers.
final class PutConnection: StreamConnection, @unchecked Sendable {
  func put(key: [UInt8], due: UInt64, valueSize: Int) {
    eventLoop.execute {
      guard let handler = self.handler,
        let stream = handler.connection.openStream(
          self.head("/etcdserverpb.KV/Put"), endStream: false, tag: 0)
      else { return }
      var value = [UInt8](repeating: 0x2A, count: max(valueSize, 8))
      value.withUnsafeMutableBytes { $0.storeBytes(of: due, as: UInt64.self) }
      var message: [UInt8] = []
      key.withUnsafeBytes { key in
        value.withUnsafeBytes { value in
          var put = PutRequest()
          put.key = key
          put.value = value
          put.append(to: &message)
        }
      }
      GRPCMessage.framed(message).withUnsafeBytes {
        _ = handler.connection.sendData(stream, $0, endStream: true)
      }
      handler.flush()
    }
  }
}

struct Watch: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Watches prefixes and puts keys under them at --rate; counts the events.")
  @OptionGroup var options: RunOptions

  @Option(name: .long, help: "Watchers, spread over the connections.")
  var watchers = 1_000

  @Option(name: .long, help: "Prefixes, over which the watchers are spread.")
  var prefixes = 1

  func validate() throws {
    if watchers < 1 || prefixes < 1 || prefixes > watchers {
      throw ValidationError("--watchers and --prefixes are positive, and no prefix goes unwatched")
    }
  }

  func run() throws {
    let run = try WatchRun(options: options, plan: .init(watchers: watchers, prefixes: prefixes))
    try run.execute().publish(to: options.json)
  }
}
