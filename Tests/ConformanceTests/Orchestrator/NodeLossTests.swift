import Foundation
import TestKit
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Nodes that go: by drain, and by falling silent. All times are Kubernetes' flags, set short.
@Suite(
  .serialized,
  .enabled(if: localClusterObstacle == nil, Comment(rawValue: localClusterObstacle ?? "")))
struct NodeLossTests {
  private static let manifest = """
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web}
    spec:
      replicas: 3
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec:
          terminationGracePeriodSeconds: 1
          topologySpreadConstraints:
          - maxSkew: 1
            topologyKey: kubernetes.io/hostname
            whenUnsatisfiable: ScheduleAnyway
            labelSelector: {matchLabels: {app: web}}
          containers:
          - name: main
            image: busybox
            imagePullPolicy: IfNotPresent
            command: [sh, -c, "exec sleep 100000"]
    ---
    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: {name: web}
    spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}
    ---
    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: everywhere}
    spec:
      selector: {matchLabels: {app: everywhere}}
      template:
        metadata: {labels: {app: everywhere}}
        spec:
          terminationGracePeriodSeconds: 1
          containers:
          - {name: main, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "100000"]}

    """

  @Test func podsLeaveNodesThatAreDrainedAndNodesThatAreLost() throws {
    let cluster = try LocalClusterFixture(
      nodes: 3,
      extra: [
        "controllers.node-monitor-period=500ms", "controllers.node-monitor-grace-period=4s",
        "node.node-lease-duration-seconds=4",
        "apiserver.default-unreachable-toleration-seconds=2",
        "apiserver.default-not-ready-toleration-seconds=2",
      ])
    defer { cluster.stop() }
    try cluster.apply(Self.manifest)
    try cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    try cluster.kubectl("rollout", "status", "daemonset/everywhere", "--timeout=60s")
    /// The nodes of an app's pods that are ready and stay.
    func nodes(_ app: String) throws -> [String] {
      let text = try cluster.kubectl(
        "get", "pods", "-l", "app=\(app)", "-o",
        #"jsonpath={range .items[*]}{.metadata.deletionTimestamp}|{.status.conditions[?(@.type=="Ready")].status}|{.spec.nodeName}{"\n"}{end}"#
      )
      return text.split(separator: "\n").compactMap { line in
        let parts = line.split(separator: "|", omittingEmptySubsequences: false)
        return parts.count == 3 && parts[0].isEmpty && parts[1] == "True" ? String(parts[2]) : nil
      }.sorted()
    }
    #expect(try Set(nodes("web")) == ["test-node-1", "test-node-2", "test-node-3"])

    // A cordoned node takes nothing new; a drained one keeps only what belongs on every node.
    try cluster.kubectl("cordon", "test-node-3")
    #expect(try cluster.kubectl("get", "node", "test-node-3").contains("Ready,SchedulingDisabled"))
    try cluster.kubectl("scale", "deployment/web", "--replicas=4")
    try cluster.eventually("the fourth pod is elsewhere") {
      let nodes = try nodes("web")
      return nodes.count == 4 && nodes.filter { $0 == "test-node-3" }.count == 1
    }
    let drained = try cluster.kubectl("drain", "test-node-3", "--ignore-daemonsets", "--timeout=60s")
    #expect(drained.contains("node/test-node-3 drained"))
    try cluster.eventually("four pods are on the other two nodes") {
      let nodes = try nodes("web")
      return nodes.count == 4 && !nodes.contains("test-node-3")
    }
    #expect(try nodes("everywhere").contains("test-node-3"))
    try cluster.kubectl("uncordon", "test-node-3")
    try cluster.kubectl("scale", "deployment/web", "--replicas=3")
    try cluster.eventually("three pods are left") { try nodes("web").count == 3 }

    // A node whose agent is stopped, as if its machine had hung: nobody says goodbye.
    let agent = try #require(cluster.process(["node", "--node-name", "test-node-2"]))
    let began = Date()
    kill(agent, SIGSTOP)
    defer { kill(agent, SIGCONT) }
    try cluster.eventually("the node is lost") {
      try cluster.kubectl("get", "node", "test-node-2").contains("NotReady")
    }
    #expect(Date().timeIntervalSince(began) >= 3)
    let taints = try cluster.kubectl("get", "node", "test-node-2", "-o", "jsonpath={.spec.taints}")
    #expect(taints.contains("node.kubernetes.io/unreachable"))
    try cluster.eventually("its pods run elsewhere") {
      let nodes = try nodes("web")
      return nodes.count == 3 && !nodes.contains("test-node-2")
    }
    let duration = Date().timeIntervalSince(began)
    #expect(duration < 40, "4 s until it is lost, 2 s of toleration; \(duration) s")
    // Its old pods can't be said to be gone before it says so itself.
    #expect(
      try cluster.kubectl("get", "pods", "-l", "app=everywhere", "-o", "wide").contains("test-node-2"))

    // It comes back: what was to leave leaves, and it is a node like before.
    kill(agent, SIGCONT)
    try cluster.eventually("the node is ready again, without taints") {
      let taints = try cluster.kubectl(
        "get", "node", "test-node-2", "-o", "jsonpath={.spec.taints}")
      return try taints.isEmpty && cluster.kubectl("get", "node", "test-node-2").contains(" Ready ")
    }
    try cluster.eventually("exactly the wanted pods are left") {
      let pods = try cluster.kubectl("get", "pods", "-l", "app=web", "-o", "name")
      return try pods.split(separator: "\n").count == 3 && Set(nodes("everywhere")).count == 3
    }
  }
}

extension LocalClusterFixture {
  /// The process of this cluster whose command line has these words one after the other.
  func process(_ words: [String]) -> pid_t? {
    (try? FileManager.default.contentsOfDirectory(atPath: "/proc"))?.compactMap { Int32($0) }.first { pid in
      guard let data = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else {
        return false
      }
      let line = data.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
      guard line.contains(where: { $0.hasPrefix(directory) }), line.count > 1, line[1] == words[0]
      else { return false }
      return words.dropFirst().allSatisfy(line.contains)
    }
  }
}
