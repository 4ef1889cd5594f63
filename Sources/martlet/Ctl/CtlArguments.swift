/// etcdctl's ways of writing a command line, brought into the one form that the argument parser knows: flags of all
/// commands may stand before the command's name, and switches have values (`--prefix=true`).
enum CtlArguments {
  /// Flags of all commands that take a value.
  private static let valued: Set<String> = [
    "endpoints", "write-out", "w", "dial-timeout", "command-timeout", "keepalive-time",
    "keepalive-timeout", "cert", "key", "cacert", "user", "password",
  ]
  /// Switches, of all commands together.
  private static let switches: Set<String> = [
    "hex", "debug", "insecure-transport", "insecure-discovery", "insecure-skip-tls-verify",
    "prefix", "from-key", "keys-only", "count-only", "print-value-only", "prev-kv", "ignore-value",
    "ignore-lease", "range", "interactive", "progress-notify", "physical", "cluster", "once",
    "keys", "learner", "listen", "no-password", "detail", "no-dest-prefix",
    "dest-insecure-transport", "auto-compact", "auto-defrag",
  ]
  /// Switches that are on unless they are turned off.
  private static let on: Set<String> = [
    "insecure-transport", "insecure-discovery", "dest-insecure-transport",
  ]
  /// Commands that have commands.
  private static let groups: Set<String> = [
    "lease", "member", "endpoint", "alarm", "snapshot", "user", "role", "auth", "check",
    "downgrade",
  ]

  /// Rewrites the arguments of `martlet ctl`; leaves every other subcommand's alone.
  static func normalise(_ arguments: [String]) -> [String] {
    guard arguments.first == "ctl" else { return arguments }
    let end = arguments.firstIndex(of: "--") ?? arguments.endIndex
    var leading: [String] = []
    var command: [String] = []
    var position = 1
    // Up to the name of the command that does something.
    while position < end {
      let argument = arguments[position]
      position += 1
      guard argument.hasPrefix("-") else {
        command.append(argument)
        if command.count == 2 || !groups.contains(argument) { break }
        continue
      }
      leading.append(argument)
      let name = argument.drop { $0 == "-" }
      if valued.contains(String(name)), position < end {
        leading.append(arguments[position])
        position += 1
      }
    }
    let isUser = command.first == "user"
    let flags = (leading + arguments[position..<end]).compactMap { plain($0, isUser: isUser) }
    return ["ctl"] + command + flags + arguments[end...]
  }

  /// Nil for a switch that is turned off, and was anyway.
  private static func plain(_ argument: String, isUser: Bool) -> String? {
    guard argument.hasPrefix("--"), let equals = argument.firstIndex(of: "=") else {
      return argument
    }
    let name = String(argument[..<equals].dropFirst(2))
    guard switches.contains(name) else { return argument }
    switch argument[argument.index(after: equals)...] {
    case "true", "1", "t", "T", "TRUE", "True": return "--\(name)"
    case "false", "0", "f", "F", "FALSE", "False":
      return on.contains(name) || (isUser && name == "interactive") ? "--no-\(name)" : nil
    default: return argument
    }
  }
}
