import Foundation
import TestKit
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Exec, attach, cp and port-forward with real kubectl, over WebSocket and over SPDY.
@Suite(
  .serialized,
  .enabled(if: localClusterObstacle == nil, Comment(rawValue: localClusterObstacle ?? "")))
struct StreamTests {
  @Test func programsAndPortsOfAPodAreReached() throws {
    let cluster = try LocalClusterFixture()
    defer { cluster.stop() }
    try cluster.kubectl(
      "run", "web", "--image=busybox", "--image-pull-policy=IfNotPresent", "--", "sh", "-c",
      "mkdir /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www")
    try cluster.kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=60s")

    // 1.32 speaks WebSocket by itself, and SPDY as kubectl before 1.31 did if told to.
    for isSPDY in [false, true] {
      let variables =
        isSPDY
        ? ["KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"]
        : [:]
      let exit = try cluster.outcome(
        ["exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 3"], variables)
      #expect(exit.status == 3)
      #expect(exit.output == "out\n")
      #expect(exit.errors.hasPrefix("err\n"))
      #expect(exit.errors.contains("command terminated with exit code 3"))

      // More than any buffer on the way holds, both ways.
      let text = String(repeating: "0123456789abcdef\n", count: 100_000)
      let echo = try cluster.outcome(["exec", "-i", "web", "--", "cat"], variables, input: text)
      #expect(echo.status == 0)
      #expect(echo.output == text)

      let missing = try cluster.outcome(["exec", "web", "--", "nosuch"], variables)
      #expect(missing.status == 1)
      #expect(missing.errors.contains("executable file `nosuch` not found in $PATH"))
      let wrong = try cluster.outcome(["exec", "web", "-c", "other", "--", "true"], variables)
      #expect(wrong.status == 1)
      #expect(wrong.errors.contains("container other is not valid for pod web"))

      let local = try Loopback.freePort()
      let forward = try cluster.startKubectl(["port-forward", "pod/web", "\(local):8080"], variables)
      defer { forward.kill() }
      try cluster.eventually("the forwarded port answers") {
        Loopback.get(port: local, path: "/", seconds: 2)?.contains("served") == true
      }
    }

    // A file there and back.
    let file = cluster.directory + "/file"
    let content = String(repeating: "content ", count: 50_000)
    try content.write(toFile: file, atomically: true, encoding: .utf8)
    try cluster.kubectl("cp", file, "web:/tmp/file")
    try cluster.kubectl("cp", "web:/tmp/file", file + "2")
    #expect(try String(contentsOfFile: file + "2", encoding: .utf8) == content)

    // The container's own streams.
    let attached = try cluster.startKubectl(
      [
        "run", "-i", "--rm", "--restart=Never", "--image=busybox",
        "--image-pull-policy=IfNotPresent", "reader", "--", "sh", "-c",
        "read line; echo got $line; sleep 1; exit 4",
      ], [:], input: "a line\n")
    #expect(attached.waitUntilExit(seconds: 60))
    #expect(attached.output.contains("got a line"))
    #expect(attached.status == 4)
  }
}

extension LocalClusterFixture {
  /// Runs kubectl, or another program that runs it, whatever its exit status.
  func outcome(
    _ arguments: [String], _ variables: [String: String], input: String = "",
    program: Program? = nil
  ) throws -> Program.Outcome {
    try (program ?? Peers.kubectl!).run(
      arguments, input: input, environment: environment(variables), seconds: 60)
  }

  func startKubectl(
    _ arguments: [String], _ variables: [String: String], input: String = ""
  ) throws -> RunningProgram {
    try Peers.kubectl!.start(arguments, input: input, environment: environment(variables))
  }

  private func environment(_ variables: [String: String]) -> [String: String] {
    let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
    let folder = URL(fileURLWithPath: Peers.kubectl!.path).deletingLastPathComponent().path
    return variables.merging(
      ["KUBECONFIG": directory + "/kubeconfig", "PATH": folder + ":" + path]
    ) { own, _ in own }
  }
}
