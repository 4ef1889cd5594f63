/// What becomes of those of etcd's flags that the argument parser doesn't know.
///
/// `Docs/Compatibility.md` lists all flags; a test holds the binary to it. What an existing unit file or manifest may
/// give without harm is taken; what it would rely on in vain is refused, and the sentence says why.
enum StoreFlagTable {
  enum Treatment: Sendable {
    /// Taken and without effect, for a reason.
    case withoutEffect(String)
    /// Taken with the values that say what is the case anyway; refused with others, for a reason.
    case only([String], String)
  }

  struct Flag: Sendable {
    /// Whether it may stand without a value.
    var isSwitch = false
    var treatment: Treatment

    static func withoutEffect(_ reason: String, isSwitch: Bool = false) -> Flag {
      Flag(isSwitch: isSwitch, treatment: .withoutEffect(reason))
    }
    static func only(_ values: String..., because reason: String) -> Flag {
      Flag(treatment: .only(values, reason))
    }
    /// A switch that must be off.
    static func off(_ reason: String) -> Flag {
      Flag(isSwitch: true, treatment: .only(["false"], reason))
    }
    /// A flag that must be empty.
    static func empty(_ reason: String) -> Flag { Flag(treatment: .only([""], reason)) }
  }

  /// The name without `experimental-`, which flags lose when etcd keeps them.
  static func canonical(_ name: String) -> String {
    let prefix = "experimental-"
    return name.hasPrefix(prefix) ? String(name.dropFirst(prefix.count)) : name
  }

  private static let noBackend = "there is no backend: changes are durable when they are acknowledged"
  private static let noFragments = "nothing becomes fragmented"
  private static let slices = "compaction goes in slices that hold nobody up"
  private static let oneLog = "the log has one form, on standard error; whoever keeps it rotates it"
  private static let noTraces = "traces are not exported"
  private static let noDiscovery = "give the members with --initial-cluster"
  private static let alwaysChecked =
    "members compare their states by themselves (--corrupt-check-time says how often)"

  static let flags: [String: Flag] = [
    // MARK: Storage
    "wal-dir": .empty("the log lies in --data-dir beside the snapshots; mount a disk there"),
    "max-snapshots": .withoutEffect("the newest two snapshots are kept"),
    "max-wals": .withoutEffect(
      "log files are recycled as soon as a snapshot makes them superfluous"),
    "snapshot-catchup-entries": .withoutEffect("the log that is kept is bounded by its size"),
    "memory-mlock": .off("the state is not a mapped file; lock memory with the service manager"),
    "backend-batch-interval": .withoutEffect(noBackend),
    "backend-batch-limit": .withoutEffect(noBackend),
    "backend-bbolt-freelist-type": .withoutEffect("there is no bbolt file"),
    "bootstrap-defrag-threshold-megabytes": .withoutEffect(noFragments),
    "stop-grpc-service-on-defrag": .withoutEffect(noFragments, isSwitch: true),
    "compaction-batch-limit": .withoutEffect(slices),
    "compaction-sleep-interval": .withoutEffect(slices),
    "txn-mode-write-with-shared-buffer": .withoutEffect("there is no such buffer", isSwitch: true),
    "force-new-cluster": .off(
      "to go on from one member's data, take a snapshot and 'martlet util snapshot restore' it"),

    // MARK: Raft
    "initial-election-tick-advance": .withoutEffect(
      "a member that starts waits one election time-out at most", isSwitch: true),
    "pre-vote": Flag(
      isSwitch: true, treatment: .only(["true"], "every election begins with a pre-vote")),
    "raft-read-timeout": .withoutEffect("silent connections are noticed by heartbeats"),
    "raft-write-timeout": .withoutEffect("silent connections are noticed by heartbeats"),
    "enable-lease-checkpoint": .withoutEffect(
      "leases' remaining time always survives a change of leader", isSwitch: true),
    "enable-lease-checkpoint-persist": .withoutEffect(
      "leases' remaining time always survives a restart", isSwitch: true),

    // MARK: Checks
    "initial-corrupt-check": .withoutEffect(alwaysChecked, isSwitch: true),
    "compact-hash-check-enabled": .withoutEffect(alwaysChecked, isSwitch: true),
    "compact-hash-check-time": .withoutEffect(alwaysChecked),
    "downgrade-check-time": .withoutEffect("there is nothing to downgrade to"),
    "feature-gates": .withoutEffect(
      "what is behind gates in etcd is either always on here or doesn't apply"),

    // MARK: Network
    "socket-reuse-port": .off("one process serves a port"),
    "socket-reuse-address": .withoutEffect("addresses are always reused", isSwitch: true),
    "cors": .only("*", because: "scripts from anywhere may ask; put a proxy in front to be stricter"),
    "host-whitelist": .only(
      "*", because: "any Host header is taken; put a proxy in front to be stricter"),
    "enable-v2": .off("the v2 API is not served"),
    "enable-v2v3": .empty("the v2 API is not served"),
    "v2-deprecation": .withoutEffect("there is no v2 store"),
    "proxy": .only("off", because: "the v2 proxy is not served"),
    "proxy-failure-wait": .withoutEffect("the v2 proxy is not served"),
    "proxy-refresh-interval": .withoutEffect("the v2 proxy is not served"),
    "proxy-dial-timeout": .withoutEffect("the v2 proxy is not served"),
    "proxy-write-timeout": .withoutEffect("the v2 proxy is not served"),
    "proxy-read-timeout": .withoutEffect("the v2 proxy is not served"),
    "peer-skip-client-san-verification": .withoutEffect(
      "the addresses in clients' certificates are looked at only with --peer-cert-allowed-hostname",
      isSwitch: true),
    "set-member-localaddr": .off("the system chooses the address that members are called from"),

    // MARK: Discovery
    "discovery": .empty(noDiscovery), "discovery-srv": .empty(noDiscovery),
    "discovery-srv-name": .empty(noDiscovery), "discovery-proxy": .empty(noDiscovery),
    "discovery-fallback": .withoutEffect(noDiscovery),
    "discovery-token": .empty(noDiscovery), "discovery-endpoints": .empty(noDiscovery),
    "discovery-dial-timeout": .withoutEffect(noDiscovery),
    "discovery-request-timeout": .withoutEffect(noDiscovery),
    "discovery-keepalive-time": .withoutEffect(noDiscovery),
    "discovery-keepalive-timeout": .withoutEffect(noDiscovery),
    "discovery-insecure-transport": .withoutEffect(noDiscovery, isSwitch: true),
    "discovery-insecure-skip-tls-verify": .withoutEffect(noDiscovery, isSwitch: true),
    "discovery-cert": .empty(noDiscovery), "discovery-key": .empty(noDiscovery),
    "discovery-cacert": .empty(noDiscovery), "discovery-user": .empty(noDiscovery),
    "discovery-password": .empty(noDiscovery),

    // MARK: Observing
    "enable-pprof": .off("there is no Go runtime to look into; use perf"),
    "metrics": .only(
      "basic", "extensive", because: "there are two sets of metrics in etcd, and one here"),
    "logger": .only("zap", "capnslog", because: oneLog),
    "log-outputs": .only("default", "stderr", "[default]", "[stderr]", because: oneLog),
    "log-format": .withoutEffect(oneLog),
    "log-package-levels": .withoutEffect(oneLog),
    "enable-log-rotation": .off(oneLog),
    "log-rotation-config-json": .withoutEffect(oneLog),
    "warning-apply-duration": .withoutEffect("how long applying takes is told by /metrics"),
    "warning-unary-request-duration": .withoutEffect("how long calls take is told by /metrics"),
    "enable-distributed-tracing": .off(noTraces),
    "distributed-tracing-address": .withoutEffect(noTraces),
    "distributed-tracing-service-name": .withoutEffect(noTraces),
    "distributed-tracing-instance-id": .withoutEffect(noTraces),
    "distributed-tracing-sampling-rate": .withoutEffect(noTraces),
  ]

  /// Looks at a flag that is in the table: false if it has no effect.
  ///
  /// - Throws: `UsageFailure` for a value that is refused.
  static func check(_ name: String, _ flag: Flag, value: String) throws {
    switch flag.treatment {
    case .withoutEffect: return
    case .only(let values, let reason):
      let value = flag.isSwitch ? try GoBool.parse(value, flag: name) : value
      guard values.contains(value) else {
        throw UsageFailure("--\(name) does not apply: \(reason)")
      }
    }
  }
}

/// Booleans as Go's flags spell them.
enum GoBool {
  /// `true` or `false`.
  static func parse(_ text: String, flag: String) throws -> String {
    switch text {
    case "1", "t", "T", "TRUE", "true", "True": return "true"
    case "0", "f", "F", "FALSE", "false", "False": return "false"
    default:
      throw UsageFailure(
        "--\(flag) must be true or false (or 1, t, T, TRUE, True, 0, f, F, FALSE, False), not "
          + "'\(text)'")
    }
  }
}
