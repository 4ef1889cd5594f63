import Foundation
import Primitives
import Verification

/// One run: a cluster, clients, faults, and in the end the checks.
struct FaultRun {
  private let options: FaultRunOptions
  private let recorder = Recorder()
  private let random: RandomSource

  init(_ options: FaultRunOptions) throws {
    self.options = options
    random = RandomSource(seed: options.seed)
  }

  /// - Returns: whether everything was as promised; what wasn't was printed.
  func run() async -> Bool {
    report(
      "seed \(options.seed): \(options.members) members, \(options.clients) clients, \(Int(options.seconds)) s")
    do {
      try await measure()
      return true
    } catch {
      report("FAILED (seed \(options.seed)): \(error)")
      for (reason, count) in recorder.reasons.sorted(by: { $0.value > $1.value }).prefix(12) {
        report("  \(count) calls failed with \(reason)")
      }
      return false
    }
  }

  private func measure() async throws {
    var random = random
    let end = WatchEnd()
    let clients = (0..<options.clients).map { number in
      RecordingClient(
        number: number, members: options.members, recorder: recorder,
        interval: .microseconds(1_000_000 * options.clients / options.rate), random: random.split())
    }
    let watchers = Self.watches.enumerated().map { number, watch in
      RecordingWatcher(
        number: number, members: options.members, recorder: recorder, watch: watch, random: random.split())
    }
    let injector = Handed(try FaultInjector(options, recorder: recorder, random: random.split()))
    try await onThread { try injector.value.begin() }

    let watching = watchers.map { watcher in
      Task {
        var watcher = watcher
        return await watcher.run(until: end)
      }
    }
    let asking = clients.map { client in
      Task {
        var client = client
        await client.run()
      }
    }
    // Whatever happens, clients and watchers come to their end before this returns.
    let faults = await Result.of {
      try await onThread {
        try injector.value.makeFaults()
        try injector.value.heal()
      }
    }
    recorder.stop()
    for task in asking { await task.value }
    let final = await Result.of { try await onThread { try EndOfRun(injector.value).settle() } }
    end.set(revision: (try? final.get()) ?? 0, seconds: 30)
    var reached: [Int64] = []
    for task in watching { reached.append(await task.value) }
    try faults.get()
    let revision = try final.get()
    for (number, next) in reached.enumerated() where next <= revision {
      throw FaultRunFailure(
        "watcher \(number) knows of nothing from revision \(next) on, 30 s after the last change, of \(revision)")
    }
    let checked = try RunChecks(recorder).check(finalRevision: revision)
    summarise(injector.value, checked)
  }

  /// Everything with previous records; some keys; puts alone; deletes alone.
  private static let watches = [
    ModelWatch(ModelRange([0], end: [0]), startRevision: 1, wantsPrevious: true),
    ModelWatch(ModelRange(Array("key-03".utf8), end: Array("key-07".utf8)), startRevision: 1),
    ModelWatch(ModelRange([0], end: [0]), startRevision: 1, wantsDeletes: false),
    ModelWatch(ModelRange([0], end: [0]), startRevision: 1, wantsPuts: false, wantsPrevious: true),
  ]

  private func summarise(_ injector: FaultInjector, _ checked: RunChecks.Summary) {
    let counts = recorder.counts
    report(
      "ok: \(counts.answered) calls answered, \(counts.refused) refused, \(counts.unknown) of unknown outcome; "
        + "\(checked.revisions) revisions, \(checked.streams) watch streams with \(checked.events) events, "
        + "\(checked.leases) leases")
    let made = injector.made.sorted { $0.key.rawValue < $1.key.rawValue }
    report("faults: " + made.map { "\($0.key.rawValue) \($0.value)" }.joined(separator: ", "))
    report(String(format: "slowest recovery: %.1f s; checks took %.1f s", injector.slowestRecovery, checked.seconds))
    for (fault, reason) in injector.skipped.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      report("skipped: \(fault.rawValue): \(reason)")
    }
    if !injector.cluster.network.hasNetem {
      report("skipped: delays by netem, which this kernel hasn't; slow links were narrow ones")
    }
    if !injector.cluster.hasClockOffsets { report("skipped: clock offsets: no time namespaces here") }
  }

  /// Runs something that blocks on a thread of its own.
  private func onThread<Value: Sendable>(
    _ body: @escaping @Sendable () throws -> Value
  ) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
      Thread.detachNewThread { continuation.resume(with: Result { try body() }) }
    }
  }
}

/// Goes from thread to thread: each ends before the next begins.
private final class Handed<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}

extension Result where Failure == any Error {
  fileprivate static func of(_ body: () async throws -> Success) async -> Self {
    do { return .success(try await body()) } catch { return .failure(error) }
  }
}
