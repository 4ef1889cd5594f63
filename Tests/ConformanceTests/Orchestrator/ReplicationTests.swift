import Foundation
import TestKit
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Two API servers on one store, two schedulers and two controller processes, one of each on either server:
/// whichever dies, the system goes on.
@Suite(
  "A control plane of two of each", .serialized,
  .enabled(
    if: Peers.martlet != nil && Peers.kubectl != nil,
    "needs the release build (swift build -c release --product martlet) and kubectl"))
struct ReplicationTests {
  @Test("goes on when an API server, the leading scheduler and the leading controllers are killed")
  func survives() throws {
    let plane = try ReplicatedControlPlane()
    try plane.addNode()
    try plane.kubectl(
      "create", "deployment", "web", "--image=registry.example/web:1", "--replicas=2")
    try plane.waitUntilBound(2, "the pods of a new Deployment")

    // An API server dies, and with it the connections of one scheduler and one controller process.
    plane.kill("apiserver-0")
    try plane.kubectl("scale", "deployment/web", "--replicas=4")
    try plane.waitUntilBound(4, "with one API server")
    try plane.start("apiserver-0")

    for component in ["scheduler", "controllers"] {
      let leader = try plane.leader(of: component)
      plane.kill(leader)
      let wanted = component == "scheduler" ? 6 : 8
      try plane.kubectl("scale", "deployment/web", "--replicas=\(wanted)")
      try plane.waitUntilBound(wanted, "without \(leader)")
      #expect(try plane.leader(of: component) != leader)
    }
  }

  @Test("refuses times of an election that can't work, and says which")
  func flags() throws {
    let outcome = try Peers.martlet!.run([
      "scheduler", "--kubeconfig", "none", "--leader-elect-renew-deadline", "20s",
    ])
    #expect(outcome.status == 2)
    #expect(outcome.errors.contains("leaseDuration must be greater than renewDeadline"))
    let typo = try Peers.martlet!.run([
      "controllers", "--kubeconfig", "none", "--leader-elect-retry-period", "2 seconds",
    ])
    #expect(typo.status == 2)
    #expect(typo.errors.contains("--leader-elect-retry-period '2 seconds' is no duration"))
  }
}

/// The processes of such a control plane. All are killed with the last reference.
private final class ReplicatedControlPlane {
  private let folder = TestFolder()
  private let store: StoreCluster
  private let ports: [Int]
  private var processes: [String: RunningProgram] = [:]
  /// Times that make a test short, in the proportion of the defaults.
  private let election = [
    "--leader-elect", "--leader-elect-lease-duration=3s", "--leader-elect-renew-deadline=2s",
    "--leader-elect-retry-period=400ms",
  ]

  init() throws {
    store = try StoreCluster(.martlet)
    ports = [try Loopback.freePort(), try Loopback.freePort()]
    try start("apiserver-0")
    // Both show certificates of one authority.
    try FileManager.default.createDirectory(
      atPath: folder.path + "/api-1", withIntermediateDirectories: true)
    try FileManager.default.copyItem(
      atPath: folder.path + "/api-0/pki", toPath: folder.path + "/api-1/pki")
    try start("apiserver-1")
    for index in 0..<2 {
      try start("scheduler-\(index)")
      try start("controllers-\(index)")
    }
  }

  /// Starts a part; an API server is ready when this returns.
  func start(_ name: String) throws {
    let index = name.hasSuffix("0") ? 0 : 1
    let data = "\(folder.path)/api-\(index)"
    let arguments: [String]
    switch name.prefix(while: { $0 != "-" }) {
    case "apiserver":
      arguments = [
        "apiserver", "--etcd-servers", "http://\(store.members[0].endpoint)", "--data-dir", data,
        "--secure-port", "\(ports[index])",
      ]
    case "scheduler":
      arguments = ["scheduler", "--kubeconfig", data + "/scheduler.kubeconfig"] + election
    default:
      arguments = ["controllers", "--kubeconfig", data + "/controller-manager.kubeconfig"] + election
    }
    let process = try Peers.martlet!.start(arguments)
    processes[name] = process
    guard name.hasPrefix("apiserver") else { return }
    let isReady = waitUntil(seconds: 60, every: 0.1) {
      let outcome = try? Peers.kubectl!.run(
        ["--kubeconfig", data + "/kubeconfig", "get", "--raw", "/readyz"])
      return outcome?.output == "ok" || !process.isRunning
    }
    guard isReady, process.isRunning else {
      throw ProgramError("\(name) did not become ready: \(process.output)\(process.errors)")
    }
  }

  func kill(_ name: String) {
    processes[name]?.kill()
    processes[name] = nil
  }

  @discardableResult
  func kubectl(_ arguments: String..., input: String = "") throws -> String {
    let alive = processes["apiserver-0"] == nil ? 1 : 0
    let outcome = try Peers.kubectl!.run(
      ["--kubeconfig", "\(folder.path)/api-\(alive)/kubeconfig"] + arguments, input: input)
    guard outcome.status == 0 else {
      throw ProgramError(
        "kubectl \(arguments.joined(separator: " ")): \(outcome.output)\(outcome.errors)")
    }
    return outcome.output
  }

  /// A node that takes pods and runs none. It counts as lost only after 40 seconds of silence.
  func addNode() throws {
    try kubectl(
      "create", "-f", "-",
      input: """
        {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "node"},
         "status": {"allocatable": {"cpu": "8", "memory": "16Gi", "pods": "110"},
                    "conditions": [{"type": "Ready", "status": "True"}]}}
        """)
  }

  func waitUntilBound(_ count: Int, _ when: String) throws {
    let isThere = try waitUntil(seconds: 60, every: 0.2) {
      try kubectl(
        "get", "pods", "--field-selector=spec.nodeName=node", "-o", "name"
      ).split(separator: "\n").count == count
    }
    guard isThere else {
      throw ProgramError(
        "\(count) pods were not bound \(when):\n"
          + (try kubectl("get", "deployments,replicasets,pods,events", "-o", "wide"))
          + processes.map { "\($0.key): \($0.value.errors)" }.joined(separator: "\n"))
    }
  }

  /// The process that holds a component's lease.
  func leader(of component: String) throws -> String {
    let lease = component == "scheduler" ? "kube-scheduler" : "kube-controller-manager"
    let holder = try kubectl(
      "get", "lease", lease, "-n", "kube-system", "-o", "jsonpath={.spec.holderIdentity}")
    // host_process_moment; a host's name may have underscores.
    let process = holder.split(separator: "_").dropLast().last.flatMap { Int32($0) }
    guard
      let name = processes.first(where: {
        $0.key.hasPrefix(component) && $0.value.processID == process
      })?.key
    else { throw ProgramError("none of ours holds \(lease): \(holder)") }
    return name
  }
}
