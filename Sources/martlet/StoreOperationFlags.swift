import ArgumentParser
import EtcdServer
import Primitives
import Replica

/// Flags of `martlet store` that say how it is run: history, members, limits of connections.
struct StoreOperationFlags: ParsableArguments {
  @Option(help: "'periodic' or 'revision': what --auto-compaction-retention counts.")
  var autoCompactionMode = "periodic"

  @Option(
    help: """
      The history that is kept: a time such as 1h (a plain number means hours), or a number of \
      revisions. 0 compacts nothing.
      """)
  var autoCompactionRetention = "0"

  @Option(help: "Refuse changes of members that would endanger the quorum.")
  var strictReconfigCheck = true

  @Option(help: "The most learners in the cluster.")
  var maxLearners = 1

  @Option(help: "The most calls at a time on one connection of a client.")
  var maxConcurrentStreams: UInt32 = 20_000

  @Option(help: "How long a quiet watcher that asked for it waits for a sign of progress.")
  var watchProgressNotifyInterval = "10m"

  @Option(help: "URLs for /metrics and the health checks alone, separated by commas.")
  var listenMetricsUrls: String?

  @Option(help: "Never wait for the disk. A crash of the machine loses data: for tests only.")
  var unsafeNoFsync = false

  /// Those of them that are true where they stand without a value.
  static let switches = ["strict-reconfig-check", "unsafe-no-fsync"]

  static let names = [
    "auto-compaction-mode", "auto-compaction-retention", "max-learners", "max-concurrent-streams",
    "watch-progress-notify-interval", "listen-metrics-urls",
  ]

  /// etcd's flags that mean nothing here, and why.
  static let refused: [String: String] = [
    "wal-dir": "the log lies in --data-dir beside the snapshots; mount a disk there",
    "max-snapshots": "the newest two snapshots are kept",
    "max-wals": "log files are recycled as soon as a snapshot makes them superfluous",
    "memory-mlock": "the state is not a mapped file",
    "backend-batch-interval": "there is no backend: changes are durable when they are acknowledged",
    "backend-batch-limit": "there is no backend: changes are durable when they are acknowledged",
    "backend-bbolt-freelist-type": "there is no bbolt file",
    "bootstrap-defrag-threshold-megabytes": "nothing becomes fragmented",
    "experimental-bootstrap-defrag-threshold-megabytes": "nothing becomes fragmented",
    "compaction-batch-limit": "compaction goes in slices that hold nobody up",
    "compaction-sleep-interval": "compaction goes in slices that hold nobody up",
    "force-new-cluster":
      "to go on from one member's data, take a snapshot and 'martlet util snapshot restore' it",
    "initial-election-tick-advance": "a member that starts waits one election time-out at most",
    "pre-vote": "every election begins with a pre-vote",
    "enable-v2": "the v2 API is not served", "proxy": "the v2 proxy is not served",
    "enable-pprof": "there is no Go runtime to look into; use perf",
    "discovery": "give the members with --initial-cluster",
    "discovery-srv": "give the members with --initial-cluster",
    "logger": "the log has one form, on standard error",
    "log-outputs": "the log goes to standard error; redirect it",
    "log-format": "the log has one form, on standard error",
    "enable-log-rotation": "the log goes to standard error; whoever keeps it rotates it",
    "distributed-tracing-address": "traces are not exported",
  ]
}

/// `StoreOperationFlags`, checked.
struct StoreOperation: Sendable {
  var compaction: AutoCompactionSetting?
  var checksReconfiguration: Bool
  var maximumLearners: Int
  var maximumStreams: Int
  var watchProgressInterval: Duration
  var listenMetrics: [Endpoint]
  var isSynced: Bool

  init(_ flags: StoreOperationFlags) throws {
    compaction = try StoreOperation.compaction(flags)
    checksReconfiguration = flags.strictReconfigCheck
    guard (1...64).contains(flags.maxLearners) else {
      throw UsageFailure("--max-learners must be 1 to 64")
    }
    maximumLearners = flags.maxLearners
    guard flags.maxConcurrentStreams > 0 else {
      throw UsageFailure("--max-concurrent-streams must be at least 1")
    }
    // etcd's default is "all there can be"; more than a million are not told apart.
    maximumStreams = Int(min(flags.maxConcurrentStreams, 1 << 20))
    guard let interval = GoDuration.parse(flags.watchProgressNotifyInterval),
      interval >= .milliseconds(100)
    else {
      throw UsageFailure(
        "--watch-progress-notify-interval must be a duration of at least 100ms, not "
          + "'\(flags.watchProgressNotifyInterval)'")
    }
    watchProgressInterval = interval
    listenMetrics = try (flags.listenMetricsUrls ?? "").split(separator: ",")
      .map { try Endpoint(String($0), flag: "--listen-metrics-urls") }
    guard listenMetrics.allSatisfy({ !$0.isTLS }) else {
      throw UsageFailure("--listen-metrics-urls: https is not served there; use http")
    }
    isSynced = !flags.unsafeNoFsync
  }

  private static func compaction(_ flags: StoreOperationFlags) throws -> AutoCompactionSetting? {
    let text = flags.autoCompactionRetention
    switch flags.autoCompactionMode {
    case "revision":
      guard let count = Int64(text), count >= 0 else {
        throw UsageFailure(
          "--auto-compaction-retention must be a number of revisions, not '\(text)'")
      }
      return count == 0 ? nil : .revisions(count)
    case "periodic":
      if let hours = Int64(text), (0...87_600).contains(hours) {
        return hours == 0 ? nil : .period(.seconds(hours * 3_600))
      }
      guard let period = GoDuration.parse(text), period >= .zero else {
        throw UsageFailure(
          "--auto-compaction-retention must be a duration such as 1h, not '\(text)'")
      }
      return period == .zero ? nil : .period(max(period, .seconds(1)))
    default:
      throw UsageFailure(
        "--auto-compaction-mode must be 'periodic' or 'revision', not "
          + "'\(flags.autoCompactionMode)'")
    }
  }
}
