import ArgumentParser
import CLinux

#if canImport(Glibc)
  import Glibc
#endif

/// The one binary: each part of a cluster is a subcommand, and `up` runs them all.
struct Martlet: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "martlet",
    abstract: "A replicated store that speaks etcd's API, and an orchestrator on top of it.",
    discussion: """
      Start with a whole cluster on this machine:

        martlet up

      then talk to the store with etcdctl and to the orchestrator with kubectl, as it tells you.
      The same parts run apart, each as a subcommand of its own.
      """,
    version:
      "martlet \(Version.martlet) (etcd API \(Version.etcd), Kubernetes API \(Version.kubernetes))",
    subcommands: [
      UpCommand.self, StoreCommand.self, CtlCommand.self, UtilCommand.self, APIServerCommand.self,
      SchedulerCommand.self, ControllersCommand.self, NodeCommand.self, ProxyCommand.self,
      ExplainCommand.self, TokenCommand.self, ImageCommand.self, ShimCommand.self,
      NodeSpaceCommand.self,
    ])
}

@main
enum EntryPoint {
  /// Set for the children of `martlet up`: they stop when it does, however it ends.
  static let supervisedVariable = "MARTLET_SUPERVISOR"

  static func main() async {
    // A peer that went away must be an error of that connection, never a signal to the process.
    signal(SIGPIPE, SIG_IGN)
    if getenv(supervisedVariable) != nil {
      unsetenv(supervisedVariable)
      _ = clinux_set_parent_death_signal(SIGTERM)
    }
    do {
      let arguments = CtlArguments.normalise(
        ElectionOptions.normalise(
          try StoreFlags.normalise(Array(CommandLine.arguments.dropFirst()))))
      var command = try Martlet.parseAsRoot(arguments)
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch let failure as CtlFailure {
      CtlOutput.complain("Error: \(failure)")
      exit(failure.status)
    } catch let failure as UsageFailure {
      complain(failure.description)
      exit(2)
    } catch let failure as StartFailure {
      complain(failure.description)
      exit(1)
    } catch {
      let code = Martlet.exitCode(for: error)
      guard code != .success else { Martlet.exit(withError: error) }
      let message = Martlet.message(for: error)
      // As etcdctl says it, where etcdctl's users look.
      let isCtl = CommandLine.arguments.dropFirst().first == "ctl"
      if isCtl, !message.isEmpty {
        CtlOutput.complain("Error: \(message)")
      } else if !message.isEmpty {
        complain(message)
      }
      exit(code == .validationFailure && !isCtl ? 2 : 1)
    }
  }

  private static func complain(_ message: String) {
    let line = message.split(separator: "\n").joined(separator: " ")
    let text = Array("martlet: \(line)\n".utf8)
    _ = write(STDERR_FILENO, text, text.count)
  }
}

/// Why a part could not start: one sentence that says what to do about it.
struct StartFailure: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}

/// A flag whose value makes no sense: one sentence that says what it should be.
struct UsageFailure: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}
