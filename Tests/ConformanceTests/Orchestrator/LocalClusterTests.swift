import Foundation
import TestKit
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Why the whole cluster can't run here; nil if it can.
let localClusterObstacle: String? = {
  if geteuid() != 0 { return "containers need root" }
  if Peers.martlet == nil { return "build first: swift build -c release --product martlet" }
  if Peers.kubectl == nil { return "there is no kubectl" }
  if Peers.etcdctl == nil { return "there is no etcdctl; Scripts/fetch-peers fetches it" }
  if !FileManager.default.isExecutableFile(atPath: "/usr/bin/crun") { return "crun is missing" }
  if !FileManager.default.fileExists(atPath: Peers.repository + "/.build/images/busybox/index.json")
  {
    return "there is no image; Scripts/make-busybox-image makes it"
  }
  return nil
}()

/// The README's five minutes, with real kubectl: a cluster comes up, runs pods, loses parts, goes on.
@Suite(.serialized, .enabled(if: localClusterObstacle == nil, Comment(rawValue: localClusterObstacle ?? "")))
struct LocalClusterTests {
  @Test func aDeploymentLivesItsLife() throws {
    let cluster = try LocalClusterFixture()
    defer { cluster.stop() }

    // Three pods of two containers run, and share localhost.
    try cluster.kubectl("apply", "-f", Peers.repository + "/Docs/Examples/hello.yaml")
    try cluster.kubectl("rollout", "status", "deployment/hello", "--timeout=90s")
    #expect(try cluster.pods().filter(\.isReady).count == 3)
    let first = try #require(try cluster.pods().first)
    try cluster.eventually("the reader reads what the server serves") {
      try cluster.kubectl("logs", first.name, "-c", "reader").contains(first.name)
    }
    let described = try cluster.kubectl("describe", "pod", first.name)
    #expect(described.contains("Successfully assigned default/\(first.name)"))
    #expect(described.contains("Started container"))

    try cluster.readEveryWay(first.name)

    // A process that dies is started again.
    let victim = try #require(cluster.containerProcesses().first)
    kill(victim, SIGKILL)
    try cluster.eventually("the killed container is restarted") {
      let pods = try cluster.pods()
      return pods.contains { $0.restarts > 0 } && pods.filter(\.isReady).count == 3
    }

    // The store's leader dies; kubectl goes on, and the member comes back.
    try cluster.killStoreLeader()
    try cluster.kubectl("scale", "deployment/hello", "--replicas=5")
    try cluster.kubectl("rollout", "status", "deployment/hello", "--timeout=90s")
    #expect(try cluster.pods().filter(\.isReady).count == 5)
    try cluster.kubectl("scale", "deployment/hello", "--replicas=1")
    try cluster.eventually("four of five pods are gone") { try cluster.pods().count == 1 }

    // A changed template replaces the pods.
    let old = try #require(try cluster.pods().first).name
    try cluster.kubectl("set", "env", "deployment/hello", "GREETING=hello")
    try cluster.kubectl("rollout", "status", "deployment/hello", "--timeout=90s")
    try cluster.eventually("the old pod is gone") {
      try !cluster.pods().contains { $0.name == old }
    }

    // Deleted, nothing is left.
    try cluster.kubectl("delete", "deployment", "hello", "--timeout=90s")
    try cluster.eventually("no pod, process or mount is left") {
      try cluster.pods().isEmpty && cluster.containerProcesses().isEmpty
        && !cluster.mounts.contains("/node/")
    }
    #expect(try cluster.kubectl("get", "replicasets", "-o", "name").isEmpty)
  }
}

/// A cluster that `martlet up` runs in a folder and on ports of its own.
final class LocalClusterFixture {
  struct Pod {
    var name: String
    var isReady: Bool
    var restarts: Int
  }

  private let folder = TestFolder()
  private let storePorts: [Int]
  private let up: RunningProgram
  var directory: String { folder.path + "/data" }

  /// - Parameters:
  ///   - nodes: with more than one they are called `test-node-1` and so on.
  ///   - extra: further flags of the parts, as `--extra-config` takes them.
  init(nodes: Int = 1, extra: [String] = []) throws {
    // A store port takes the one after it, so pairs are wanted.
    storePorts = try (0..<3).map { _ in try LocalClusterFixture.freePair() }
    let apiPort = try Loopback.freePort()
    let nodePort = try Loopback.freePort()
    up = try Peers.martlet!.start([
      "up", "--data-dir", folder.path + "/data",
      "--store-ports", storePorts.map(String.init).joined(separator: ","),
      "--api-port", "\(apiPort)", "--node-port", "\(nodePort)", "--node-name", "test-node",
      "--nodes", "\(nodes)",
      "--preload-image", Peers.repository + "/.build/images/busybox",
    ] + extra.flatMap { ["--extra-config", $0] })
    let isReady = waitUntil(seconds: 90) {
      up.output.contains("The cluster is ready") || !up.isRunning
    }
    guard isReady, up.isRunning else {
      throw ProgramError("martlet up did not become ready:\n\(up.output)\(up.errors)")
    }
  }

  private static func freePair() throws -> Int {
    for _ in 0..<100 {
      let port = try Loopback.freePort()
      if port < 65_000, Loopback.get(port: port + 1, path: "/", seconds: 0.1) == nil { return port }
    }
    throw ProgramError("no two ports next to each other are free")
  }

  func stop() {
    up.signal(SIGTERM)
    #expect(up.waitUntilExit(seconds: 60), "martlet up did not stop")
    #expect(up.status == 0, "martlet up ended badly: \(up.output)\(up.errors)")
  }

  /// kubectl's ways to read and mark what runs: tables, YAML, selectors, watches and followed logs.
  func readEveryWay(_ pod: String) throws {
    let wide = try kubectl("get", "pods", "-o", "wide")
    #expect(wide.contains("NOMINATED NODE") && wide.contains("test-node"))
    #expect(try kubectl("get", "deployment", "hello", "-o", "yaml").contains("kind: Deployment"))
    let selected = try kubectl("get", "pods", "-A", "-l", "app=hello", "-o", "name")
    #expect(selected.split(separator: "\n").count == 3)

    try kubectl("label", "pod", pod, "tier=front")
    #expect(try kubectl("get", "pods", "-l", "tier=front", "-o", "name") == "pod/\(pod)\n")

    let manifest = folder.path + "/settings.yaml"
    try """
      apiVersion: v1
      kind: ConfigMap
      metadata: {name: settings}
      data: {colour: blue}
      """.write(toFile: manifest, atomically: true, encoding: .utf8)
    let watch = try follow("get", "configmaps", "-w")
    let log = try follow("logs", "-f", pod, "-c", "reader")
    #expect(try kubectl("create", "-f", manifest) == "configmap/settings created\n")
    #expect(try kubectl("get", "configmap", "settings", "-o", "jsonpath={.data.colour}") == "blue")
    try kubectl("delete", "-f", manifest)
    try eventually("the watch shows the new object") { watch.output.contains("settings") }
    try eventually("the followed log grows") {
      let before = log.output.count
      return before > 0 && waitUntil(seconds: 10) { log.output.count > before }
    }
    watch.kill()
    log.kill()
  }

  /// kubectl that goes on until it is killed.
  private func follow(_ arguments: String...) throws -> RunningProgram {
    try Peers.kubectl!.start(arguments, environment: ["KUBECONFIG": directory + "/kubeconfig"])
  }

  @discardableResult
  func kubectl(_ arguments: String...) throws -> String {
    let outcome = try Peers.kubectl!.run(
      arguments, environment: ["KUBECONFIG": directory + "/kubeconfig"], seconds: 120)
    guard outcome.status == 0 else {
      throw ProgramError(
        "kubectl \(arguments.joined(separator: " ")): \(outcome.output)\(outcome.errors)\n"
          + (try? kubectlState()).debugDescription)
    }
    return outcome.output
  }

  private func kubectlState() throws -> String {
    try Peers.kubectl!.run(
      ["get", "pods,replicasets,deployments,nodes,events", "-o", "wide"],
      environment: ["KUBECONFIG": directory + "/kubeconfig"]
    ).output
  }

  func pods() throws -> [Pod] {
    let text = try kubectl("get", "pods", "-o", "json")
    let list = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
    return (list?["items"] as? [[String: Any]] ?? []).map { pod in
      let metadata = pod["metadata"] as? [String: Any] ?? [:]
      let status = pod["status"] as? [String: Any] ?? [:]
      let conditions = status["conditions"] as? [[String: Any]] ?? []
      let containers = status["containerStatuses"] as? [[String: Any]] ?? []
      return Pod(
        name: metadata["name"] as? String ?? "",
        isReady: conditions.contains {
          $0["type"] as? String == "Ready" && $0["status"] as? String == "True"
        },
        restarts: containers.reduce(0) { $0 + ($1["restartCount"] as? Int ?? 0) })
    }
  }

  func eventually(_ what: String, _ condition: () throws -> Bool) throws {
    guard try waitUntil(seconds: 90, every: 0.3, condition) else {
      throw ProgramError("this did not come true: \(what)\n" + (try kubectlState()))
    }
  }

  /// The web servers in the pods' containers.
  func containerProcesses() -> [pid_t] {
    (try? FileManager.default.contentsOfDirectory(atPath: "/proc"))?.compactMap { Int32($0) }
      .filter { pid in
        guard let data = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else {
          return false
        }
        let words = data.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        return words.prefix(6) == ["httpd", "-f", "-p", "8080", "-h", "/www"]
      } ?? []
  }

  /// The mounts of this cluster.
  var mounts: String {
    let all = (try? String(contentsOfFile: "/proc/self/mounts", encoding: .utf8)) ?? ""
    return all.split(separator: "\n").filter { $0.contains(folder.path) }.joined(separator: "\n")
  }

  func killStoreLeader() throws {
    let endpoints = storePorts.map { "http://127.0.0.1:\($0)" }
    for (position, endpoint) in endpoints.enumerated() {
      let status = try Peers.etcdctl!.run(
        ["--endpoints", endpoint, "endpoint", "status"], environment: ["ETCDCTL_API": "3"])
      guard status.output.split(separator: ",").dropFirst(4).first?.contains("true") == true else {
        continue
      }
      let directory = self.directory + "/store/m\(position + 1)"
      for name in try FileManager.default.contentsOfDirectory(atPath: "/proc") {
        guard let pid = Int32(name),
          let data = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline")
        else { continue }
        let words = data.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        if words.contains("store"), words.contains(directory) {
          kill(pid, SIGKILL)
          return
        }
      }
    }
    throw ProgramError("no store member says that it leads")
  }
}
