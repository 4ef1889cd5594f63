import ArgumentParser

/// `martlet util`: work on files, without a member that runs.
struct UtilCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "util",
    abstract: "Look at snapshots and make data directories from them, without a running member.",
    subcommands: [SnapshotTool.self])
}
