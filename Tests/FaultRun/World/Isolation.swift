import Foundation
import TestKit

#if canImport(Glibc)
  import Glibc
#endif

/// The run's own corner of the machine: network, mount and process namespaces that go away with it, however it
/// ends, and everything in them: members, veth pairs, mounts, loop devices.
enum Isolation {
  /// Why this machine can't run it, nil if it can.
  static var obstacle: String? {
    guard geteuid() == 0 else { return "network namespaces need root" }
    let missing = ["unshare", "nsenter", "ip", "nft", "tc"].filter { Tool.path($0) == nil }
    guard missing.isEmpty else { return "there is no \(missing.joined(separator: ", ")) here" }
    let probe = try? Tool.run("unshare", ["-n", "-m", "-p", "-f", "--mount-proc", "true"])
    return probe == nil ? "the kernel gives no namespaces here" : nil
  }

  /// Runs this program again with `arguments` in namespaces of its own, and waits for its end.
  ///
  /// - Returns: its exit status.
  static func runInside(_ arguments: [String]) throws -> Int32 {
    let folder = TestFolder()
    let child = Process()
    child.executableURL = URL(fileURLWithPath: try Tool.required("unshare"))
    let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    child.arguments =
      [
        "--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", own,
      ] + arguments + ["--folder", folder.path]
    // Its input never says anything: it ends when this process does, in whatever way.
    let lifeline = Pipe()
    child.standardInput = lifeline
    try child.run()
    child.waitUntilExit()
    try? lifeline.fileHandleForWriting.close()
    return child.terminationStatus
  }

  /// Ends this process as soon as its standard input does.
  static func endWithParent() {
    Thread.detachNewThread {
      var byte: UInt8 = 0
      while true {
        let count = read(0, &byte, 1)
        if count > 0 || (count < 0 && errno == EINTR) { continue }
        report("ended: the process that started the run is gone")
        _exit(130)
      }
    }
    for number in [SIGINT, SIGTERM] { signal(number) { _ in _exit(130) } }
  }
}

/// Programs of the system.
enum Tool {
  static func path(_ name: String) -> String? {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map { "\($0)/\(name)" }
      .first { access($0, X_OK) == 0 }
  }

  static func required(_ name: String) throws -> String {
    guard let path = path(name) else { throw ProgramError("there is no \(name) here") }
    return path
  }

  /// Runs one to its end.
  ///
  /// - Returns: what it printed.
  /// - Throws: `ProgramError` with what it printed to standard error, if its status isn't zero.
  @discardableResult
  static func run(_ name: String, _ arguments: [String], input: String = "") throws -> String {
    let child = try Child(
      [try required(name)] + arguments, input: input, folder: NSTemporaryDirectory(), name: "martlet-faults")
    let line = "\(name) \(arguments.joined(separator: " "))"
    guard child.waitUntilExit(seconds: 60) else { throw ProgramError("\(line) does not end") }
    guard child.status == 0 else { throw ProgramError("\(line): \(child.errors)") }
    return child.output
  }
}
