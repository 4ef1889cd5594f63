#if canImport(Glibc)
  import Glibc
#endif

/// etcd's ways of giving flags, brought into the one form that the argument parser knows.
///
/// etcd takes `-name x`, `--name x`, `-name=x` and `--name=x` alike, booleans without a value or as
/// `--flag=true`, and each flag as an environment variable too (`--data-dir` is `ETCD_DATA_DIR`); a flag on
/// the command line wins.
enum StoreFlags {
  /// The flags that also come as `ETCD_*` variables.
  static let names =
    [
      "name", "data-dir", "listen-client-urls", "advertise-client-urls", "listen-peer-urls",
      "initial-advertise-peer-urls", "initial-cluster", "initial-cluster-state",
      "initial-cluster-token", "snapshot-count", "heartbeat-interval", "election-timeout",
      "log-level", "quota-backend-bytes", "max-request-bytes", "max-txn-ops",
    ] + StoreSecurityFlags.names + switches

  /// Flags that are true where they stand without a value.
  static let switches = StoreSecurityFlags.switches

  /// Rewrites the arguments of `martlet store`; leaves every other subcommand's alone.
  static func normalise(
    _ arguments: [String], environment: (String) -> String? = environmentVariable
  ) -> [String] {
    guard arguments.first == "store" else { return arguments }
    var result = ["store"]
    var given: Set<String> = []
    for argument in arguments.dropFirst() {
      if argument.first == "-", Int64(argument) != nil, let flag = result.last,
        flag.hasPrefix("--"),
        !flag.contains("=")
      {
        // A negative number is a value, which the argument parser takes only behind '='.
        result[result.count - 1] = "\(flag)=\(argument)"
        continue
      }
      guard argument.hasPrefix("-"), argument.count > 2 else {
        result.append(argument)
        continue
      }
      let body = argument.drop { $0 == "-" }
      result.append("--" + body + (switches.contains(String(body)) ? "=true" : ""))
      given.insert(String(body.prefix { $0 != "=" }))
    }
    for name in names where !given.contains(name) {
      let variable = "ETCD_" + name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
      if let value = environment(variable), !value.isEmpty { result.append("--\(name)=\(value)") }
    }
    return result
  }

  static func environmentVariable(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
  }
}
