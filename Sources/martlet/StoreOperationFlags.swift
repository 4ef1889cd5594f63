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

  @Option(help: "How often a client may PING its connection; who does so too often loses it.")
  var grpcKeepaliveMinTime = "5s"

  @Option(help: "Silence of a client after which it is PINGed (0: never; etcd's is 2h).")
  var grpcKeepaliveInterval = "60s"

  @Option(help: "How long a client may take to answer that before its connection is closed.")
  var grpcKeepaliveTimeout = "20s"

  @Option(help: "How often members compare their states (0: never).")
  var corruptCheckTime = "5s"

  @Option(help: "Serve the JSON gateway under /v3.")
  var enableGrpcGateway = true

  @Option(
    help: "URLs for HTTP clients alone (gateway, health, metrics); the client URLs then serve gRPC alone."
  )
  var listenClientHttpUrls: String?

  @Option(help: "How long a quiet watcher that asked for it waits for a sign of progress.")
  var watchProgressNotifyInterval = "10m"

  @Option(help: "URLs for /metrics and the health checks alone, separated by commas.")
  var listenMetricsUrls: String?

  @Option(help: "Never wait for the disk. A crash of the machine loses data: for tests only.")
  var unsafeNoFsync = false

  /// For `StoreFlags`: flags of etcd's that were given and have no effect here, each with the reason.
  @Option(help: .hidden)
  var withoutEffect: [String] = []
}

/// `StoreOperationFlags`, checked.
struct StoreOperation: Sendable {
  var compaction: AutoCompactionSetting?
  var checksReconfiguration: Bool
  var maximumLearners: Int
  var maximumStreams: Int
  var watchProgressInterval: Duration
  var listenMetrics: [Endpoint]
  var listenHTTP: [Endpoint]
  var servesGateway: Bool
  var minimumPingInterval: Duration
  /// Nil for never.
  var keepAliveInterval: Duration?
  var keepAliveTimeout: Duration
  /// Nil for never.
  var stateCheckInterval: Duration?
  var isSynced: Bool
  /// Flags that have no effect, each with the reason.
  var notices: [String]

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
    func duration(_ flag: String, _ text: String, atLeast least: Duration) throws -> Duration {
      guard let value = GoDuration.parse(text), value >= least else {
        throw UsageFailure("--\(flag) must be a duration of at least \(least), not '\(text)'")
      }
      return value
    }
    guard let interval = GoDuration.parse(flags.watchProgressNotifyInterval),
      interval >= .milliseconds(100)
    else {
      throw UsageFailure(
        "--watch-progress-notify-interval must be a duration of at least 100ms, not "
          + "'\(flags.watchProgressNotifyInterval)'")
    }
    watchProgressInterval = interval
    minimumPingInterval = try duration(
      "grpc-keepalive-min-time", flags.grpcKeepaliveMinTime, atLeast: .zero)
    let silence = try duration(
      "grpc-keepalive-interval", flags.grpcKeepaliveInterval, atLeast: .zero)
    keepAliveInterval = silence == .zero ? nil : max(silence, .seconds(1))
    keepAliveTimeout = try duration(
      "grpc-keepalive-timeout", flags.grpcKeepaliveTimeout, atLeast: .milliseconds(1))
    let check = try duration("corrupt-check-time", flags.corruptCheckTime, atLeast: .zero)
    stateCheckInterval = check == .zero ? nil : max(check, .milliseconds(100))
    servesGateway = flags.enableGrpcGateway
    listenMetrics = try (flags.listenMetricsUrls ?? "").split(separator: ",")
      .map { try Endpoint(String($0), flag: "--listen-metrics-urls") }
    listenHTTP = try (flags.listenClientHttpUrls ?? "").split(separator: ",")
      .map { try Endpoint(String($0), flag: "--listen-client-http-urls") }
    notices = flags.withoutEffect
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
