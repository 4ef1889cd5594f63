import Dispatch
import Foundation
import Histogram
import NIOCore
import NIOPosix

/// A run: connections, phases (fill the store, warm up, measure) and the report.
final class LoadRun {
  private let options: RunOptions
  private let command: String
  private let group: MultiThreadedEventLoopGroup
  /// One an event loop.
  private let observations: [LoopRecorder]
  private let connections: [LoadConnection]
  private let templates: RequestTemplates
  private let keyCount: UInt64
  /// Then there is no warm-up: every put that the file doesn't name would be in question later.
  private let isRecorded: Bool

  static let connectTime = 10.0
  /// How much later than now a phase starts, so that all connections know of it by then.
  static let startDelay: UInt64 = 20_000_000

  init(
    command: String, options: RunOptions, serializable: Bool = false, record: String? = nil,
    leaseSeconds: Int64 = 3_600
  ) throws {
    self.command = command
    self.options = options
    let keys = KeySpace(keySize: options.keySize)
    let values = ValueSource(kind: options.values, size: options.valueSize, seed: options.seed)
    templates = RequestTemplates(
      keys: keys, values: values, serializable: serializable, leaseSeconds: leaseSeconds)
    keyCount = options.keyCount
    isRecorded = record != nil
    group = MultiThreadedEventLoopGroup(numberOfThreads: options.threads)

    let loops = Array(group.makeIterator())
    let header = AcknowledgementHeader(
      keySize: options.keySize, valueSize: options.valueSize, values: options.values,
      seed: options.seed)
    var logs: [AcknowledgementLog?] = loops.map { _ in nil }
    if let record {
      for index in loops.indices {
        let path = loops.count == 1 ? record : "\(record).\(index)"
        logs[index] = try AcknowledgementLog(path: path, header: header)
      }
    }
    let observations = loops.map { LoopRecorder(eventLoop: $0) }
    self.observations = observations
    let servers = try ClientChannel.all(options)
    connections = (0..<options.connections).map { index in
      LoadConnection(
        observations: observations[index % loops.count],
        server: servers[index % servers.count],
        outstanding: options.outstanding, log: logs[index % loops.count])
    }
  }

  /// Connects, runs `mode` and reports.
  ///
  /// - Parameter fill: what is done first, once for each key; nil for nothing.
  func execute(_ mode: Workload.Mode, fill: Workload.Mode?) throws -> Report {
    try connect()
    defer { shutDown() }
    if let fill {
      progress("filling the store, \(keyCount) times")
      let filled = run(fill, seconds: nil, limit: keyCount, rate: nil, name: "fill")
      if filled.recorder.failed > 0 {
        throw GeneratorError("the store could not be filled: \(filled.recorder.errors)")
      }
    }
    var isVerification = false
    if case .verify = mode { isVerification = true }
    if options.warmUp > 0 && !isVerification && !isRecorded {
      _ = run(
        mode, seconds: options.warmUp, limit: .max, rate: options.rate, name: "warm-up",
        base: templates.keys.capacity / 2)
    }
    let seconds: Double? = options.total == nil && !isVerification ? options.duration : nil
    let measured = run(
      mode, seconds: seconds, limit: options.total ?? .max, rate: options.rate, name: command)
    return Report(command: command, options: options, measured: measured)
  }

  private func connect() throws {
    let futures = connections.map { $0.connect() }
    let connected = EventLoopFuture.andAllSucceed(futures, on: group.next())
    let done = DispatchSemaphore(value: 0)
    connected.whenComplete { _ in done.signal() }
    if done.wait(timeout: .now() + Self.connectTime) == .timedOut {
      let names = Set(options.endpoints.map(\.authority)).sorted()
      throw GeneratorError("no connection to all of \(names.joined(separator: ", ")) in time")
    }
  }

  private func shutDown() {
    for connection in connections { connection.finish() }
    try? group.syncShutdownGracefully()
  }

  /// What a phase observed, and what it cost.
  struct Measurement {
    var recorder = Recorder()
    var unsent: UInt64 = 0
    /// Seconds from the first request to the last answer.
    var seconds = 0.0
    var before: ResourceSample
    var after: ResourceSample
  }

  private func run(
    _ mode: Workload.Mode, seconds: Double?, limit: UInt64, rate: Double?, name: String,
    base: UInt64 = 0
  ) -> Measurement {
    for part in observations { try? part.reset().wait() }
    let before = ResourceSample(processes: options.watchPid, disk: options.watchDisk)
    let start = monotonicNanoseconds() + Self.startDelay
    let end = seconds.map { start + UInt64($0 * 1e9) } ?? .max
    let count = connections.count
    let futures = connections.enumerated().map { index, connection in
      let workload = Workload.Plan(
        mode: mode.share(of: index, connections: count), templates: templates, keyCount: keyCount,
        connection: index, connections: count, seed: options.seed, base: base)
      // Requests of different connections are due at different instants.
      let interval = rate.map { 1e9 / $0 } ?? 0
      let origin = start + UInt64(interval * Double(index))
      let share = limit == .max ? .max : Self.share(of: limit, index: index, count: count)
      return connection.run { promise in
        let workload = Workload(workload)
        return LoadConnection.Phase(
          workload: workload,
          pacer: Pacer(rate: rate.map { $0 / Double(count) }, origin: origin), end: end,
          limit: min(share, workload.naturalEnd ?? .max), done: promise)
      }
    }
    wait(for: EventLoopFuture.andAllComplete(futures, on: group.next()), end: end, name: name)

    let outcomes = connections.compactMap { try? $0.outcome().wait() }
    var measurement = Measurement(
      before: before,
      after: ResourceSample(processes: options.watchPid, disk: options.watchDisk))
    for part in observations.compactMap({ try? $0.observed().wait() }) {
      measurement.recorder.add(part)
    }
    for outcome in outcomes { measurement.unsent += outcome.unsent }
    let last = outcomes.map(\.lastAnswer).max() ?? 0
    measurement.seconds = last > start ? Double(last - start) / 1e9 : 0
    return measurement
  }

  /// Divides `total` over `count` connections without a rest.
  private static func share(of total: UInt64, index: Int, count: Int) -> UInt64 {
    total / UInt64(count) + (UInt64(index) < total % UInt64(count) ? 1 : 0)
  }

  /// Waits for a phase, telling each second how it goes; gives up on answers that don't come.
  private func wait(for done: EventLoopFuture<Void>, end: UInt64, name: String) {
    let semaphore = DispatchSemaphore(value: 0)
    done.whenComplete { _ in semaphore.signal() }
    let start = monotonicNanoseconds()
    var reported = start
    let giveUp = end == .max ? UInt64.max : end + LoadConnection.drainTime
    while semaphore.wait(timeout: .now() + 1) == .timedOut {
      let now = monotonicNanoseconds()
      if now > giveUp {
        for connection in connections { connection.abandon() }
        semaphore.wait()
        return
      }
      if options.quiet { continue }
      var recent = Recorder.emptyHistogram
      for part in observations.compactMap({ try? $0.takeRecent().wait() }) { recent.add(part) }
      let rate = Double(recent.totalCount) / (Double(now - reported) / 1e9)
      reported = now
      let milliseconds = [50.0, 99.0].map { Double(recent.valueAtPercentile($0)) / 1e6 }
      progress(
        String(
          format: "%@ %5.0f s  %9.0f/s  p50 %8.3f ms  p99 %8.3f ms", name,
          Double(now - start) / 1e9, rate, milliseconds[0], milliseconds[1]))
    }
  }

  private func progress(_ line: String) {
    if options.quiet { return }
    FileHandle.standardError.write(Data((line + "\n").utf8))
  }
}
