import Glibc
import Logging
import NIOPosix
import NodeAgent

/// Runs two pods on a bridge and says what works. Its caller gives it a network namespace of its own.
enum NetworkCheck {
  /// - Parameter directory: holds an image store `images` with busybox.
  static func run(directory: String) async -> Int32 {
    do {
      for line in try await check(directory) { print(line) }
      return 0
    } catch {
      print("failed: \(error)")
      return 1
    }
  }

  private static func check(_ directory: String) async throws -> [String] {
    var settings = CrunRuntime.Settings(
      root: directory + "/runtime", images: ImageStore(root: directory + "/images"),
      shimCommand: [NodeFiles.ownExecutable])
    settings.podBlock = IPv4Block("10.99.0.0/29")
    settings.bridge = "mtcheck0"
    settings.cgroupParent = "/martlet-test-network-\(getpid())"
    let runtime = try CrunRuntime(
      settings, group: MultiThreadedEventLoopGroup.singleton, logger: Logger(label: "check"))
    guard let image = try await runtime.imageStatus("busybox") else { return ["no image"] }

    func pod(_ name: String, _ script: String) async throws -> SandboxStatus {
      var configuration = SandboxConfiguration(name: name, namespace: "default", uid: name)
      configuration.hostname = name
      let id = try await runtime.runPodSandbox(configuration)
      var container = ContainerConfiguration(name: "c", image: image, imageReference: "busybox")
      container.command = ["sh", "-c", script]
      container.logPath = "\(directory)/\(name).log"
      try await runtime.startContainer(try await runtime.createContainer(in: id, container))
      return runtime.pods(uid: name)[0]
    }

    var lines: [String] = []
    let server = try await pod("server", "while :; do echo hello | nc -l -p 80; done")
    let address = server.address ?? ""
    lines.append("server \(address)")
    let client = try await pod(
      "client", "until nc \(address) 80 </dev/null; do sleep 0.1; done; cat /etc/hosts; exit 7")
    lines.append("client \(client.address ?? "")")
    for _ in 0..<500 {
      if case .exited(let exit) = runtime.pods(uid: "client")[0].containers[0].state {
        lines.append("pod to pod: exit \(exit.code)")
        break
      }
      try await Task.sleep(for: .milliseconds(20))
    }
    lines.append("node to pod: \(connects(to: address, port: 80))")

    for pod in runtime.pods() { try await runtime.removePodSandbox(pod.id) }
    // Addresses are not given again at once.
    let third = try await pod("third", "exit 0")
    lines.append("third \(third.address ?? "")")
    try await runtime.removePodSandbox(third.id)
    runtime.removeNetwork()
    lines.append("links left: \(links())")
    await runtime.shutDown()
    return lines
  }

  private static func connects(to address: String, port: UInt16) -> Bool {
    let socket = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(socket) }
    var target = sockaddr_in()
    target.sin_family = sa_family_t(AF_INET)
    target.sin_port = port.bigEndian
    inet_pton(AF_INET, address, &target.sin_addr)
    for _ in 0..<100 {
      let outcome = withUnsafePointer(to: &target) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
      if outcome == 0 { return true }
      // The server listens anew between two connections.
      usleep(20_000)
    }
    return false
  }

  /// The names of the network namespace's links.
  private static func links() -> [String] {
    var names: [String] = []
    guard let list = if_nameindex() else { return names }
    defer { if_freenameindex(list) }
    var next = list
    while let name = next.pointee.if_name {
      names.append(String(cString: name))
      next += 1
    }
    return names.filter { $0.hasPrefix("mt") }
  }
}
