import ArgumentParser

#if canImport(Glibc)
  import Glibc
#endif

/// etcd's ways of giving flags, brought into the one form that the argument parser knows.
///
/// etcd takes `-name x`, `--name x`, `-name=x` and `--name=x` alike, booleans without a value or as
/// `--flag=true`, and each flag as an environment variable too (`--data-dir` is `ETCD_DATA_DIR`); a flag on
/// the command line wins.
enum StoreFlags {
  /// The flags that the argument parser knows.
  static let names = declared.map(\.name)

  /// Those that are true where they stand without a value.
  static let switches = Set(declared.filter(\.isSwitch).map(\.name))

  private static let declared =
    flags(of: StoreCommand()) + flags(of: StoreSecurityFlags()) + flags(of: StoreOperationFlags())

  /// The options that a type declares, by the names that the argument parser gives them.
  private static func flags(of arguments: some ParsableArguments) -> [(name: String, isSwitch: Bool)] {
    Mirror(reflecting: arguments).children.compactMap { label, value in
      guard let label, label.hasPrefix("_"), "\(type(of: value))".hasPrefix("Option<") else { return nil }
      let name = label.dropFirst().map { $0.isUppercase ? "-\($0.lowercased())" : "\($0)" }.joined()
      return name == withoutEffect ? nil : (name, value is Option<Bool>)
    }
  }

  /// Carries to the member which flags have no effect; nobody types it.
  private static let withoutEffect = "without-effect"

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
    var rest = arguments.dropFirst()
    while let argument = rest.popFirst() {
      guard argument.hasPrefix("-"), argument.count > 2, Int64(argument) == nil else {
        result.append(argument)
        continue
      }
      let body = argument.drop { $0 == "-" }
      let parts = body.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = StoreFlagTable.canonical(String(parts[0]))
      var value = parts.count > 1 ? String(parts[1]) : nil
      given.insert(name)
      let flag = StoreFlagTable.flags[name]
      if value == nil {
        if flag?.isSwitch == true || switches.contains(name) {
          value = "true"
        } else if flag != nil || (rest.first.map { Int64($0) != nil } ?? false) {
          // A negative number is a value, which the argument parser takes only behind '='.
          value = rest.popFirst()
        }
      }
      result += try rewritten(name, flag, value)
    }
    for (name, variable) in environmentVariables where !given.contains(name) {
      guard let value = environment(variable), !value.isEmpty else { continue }
      result += try rewritten(name, StoreFlagTable.flags[name], value)
    }
    return result
  }

  /// One flag as the argument parser takes it.
  private static func rewritten(
    _ name: String, _ flag: StoreFlagTable.Flag?, _ value: String?
  ) throws -> [String] {
    if let flag {
      guard let value else { throw UsageFailure("--\(name) needs a value") }
      try StoreFlagTable.check(name, flag, value: value)
      if case .withoutEffect(let reason) = flag.treatment {
        return ["--\(withoutEffect)=--\(name): \(reason)"]
      }
      return []
    }
    guard let value else { return ["--\(name)"] }
    // Nothing is the default of these, which may be said.
    if value.isEmpty, isEmptyByDefault(name) { return [] }
    return ["--\(name)=\(switches.contains(name) ? try GoBool.parse(value, flag: name) : value)"]
  }

  private static func isEmptyByDefault(_ name: String) -> Bool {
    ["-file", "-hostname", "-cn", "cipher-suites", "-version", "-metrics-urls", "-http-urls"]
      .contains { name.hasSuffix($0) }
  }

  /// Each flag with the variable that it is also read from.
  private static let environmentVariables =
    (names + StoreFlagTable.flags.keys.sorted()).map { name in
      (name, "ETCD_" + name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined())
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
