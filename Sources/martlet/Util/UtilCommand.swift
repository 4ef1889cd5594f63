import ArgumentParser

/// `martlet util`: work on files, without a member that runs.
struct UtilCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "util",
    abstract:
      "Look at snapshots and data directories, and make the latter, without a running member.",
    subcommands: [
      SnapshotTool.self, ImportCommand.self, VerifyCommand.self, DumpLogCommand.self,
    ])
}
