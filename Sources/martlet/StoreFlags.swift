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
    ] + StoreSecurityFlags.names + StoreOperationFlags.names + switches

  /// Flags that are true where they stand without a value.
  static let switches = StoreSecurityFlags.switches + StoreOperationFlags.switches

  /// Rewrites the arguments of `martlet store`; leaves every other subcommand's alone.
  ///
  /// - Throws: `UsageFailure` for etcd's flags that mean nothing here, saying why, and for a
  ///   configuration file that makes no sense; `StartFailure` for one that can't be read.
  static func normalise(
    _ arguments: [String], environment: (String) -> String? = environmentVariable
  ) throws -> [String] {
    guard arguments.first == "store" else { return arguments }
    if let path = configFile(arguments, environment) {
      return try normalise(["store"] + StoreConfigFile.flags(in: path)) { _ in nil }
    }
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
      let name = String(body.prefix { $0 != "=" })
      given.insert(name)
      if let reason = StoreOperationFlags.refused[name] {
        throw UsageFailure("--\(name) does not apply: \(reason)")
      }
    }
    for name in names where !given.contains(name) {
      let variable = "ETCD_" + name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
      if let value = environment(variable), !value.isEmpty { result.append("--\(name)=\(value)") }
    }
    return result
  }

  private static func configFile(
    _ arguments: [String], _ environment: (String) -> String?
  ) -> String? {
    for (position, argument) in arguments.enumerated() where argument.hasPrefix("-") {
      let body = argument.drop { $0 == "-" }
      if body.hasPrefix("config-file=") { return String(body.dropFirst("config-file=".count)) }
      if body == "config-file", position + 1 < arguments.count { return arguments[position + 1] }
    }
    return environment("ETCD_CONFIG_FILE")
  }

  static func environmentVariable(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
  }
}
