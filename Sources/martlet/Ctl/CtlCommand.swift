import ArgumentParser

/// `martlet ctl`: etcdctl's commands, for Martlet and etcd alike.
struct CtlCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ctl",
    abstract: "Talk to a store as etcdctl does: the same commands, flags and outputs.",
    discussion: """
      Flags of all commands may stand before the command's name, and come from the environment too
      (ETCDCTL_ENDPOINTS, ETCDCTL_USER and so on).

        martlet ctl put greeting hello
        martlet ctl get --prefix "" -w json
        martlet ctl --endpoints http://127.0.0.1:22379 endpoint status -w table
      """,
    subcommands: [
      GetCommand.self, PutCommand.self, DelCommand.self, TxnCommand.self, CompactionCommand.self,
      WatchCommand.self, LeaseCommand.self, MemberCommand.self, EndpointCommand.self,
      AlarmCommand.self, DefragCommand.self, MoveLeaderCommand.self, SaveSnapshotCommand.self,
      AuthCommand.self, UserCommand.self, RoleCommand.self, LockCommand.self, ElectCommand.self,
      MirrorCommand.self, CheckCommand.self, CtlVersionCommand.self,
    ])
}

/// `martlet ctl version`
struct CtlVersionCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "version", abstract: "Print the versions of this program and of the API.")

  @OptionGroup var options: CtlOptions
  @Argument(help: .hidden) var arguments: [String] = []

  func run() {
    CtlOutput.line("etcdctl version: \(Version.etcd)")
    CtlOutput.line("API version: 3.5")
  }
}
