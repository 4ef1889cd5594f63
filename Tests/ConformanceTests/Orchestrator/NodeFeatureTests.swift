import Foundation
import TestKit
import Testing

/// Host ports, static pods, `kubectl top`, and a machine that joins: what a node does beside the API's pods.
@Suite(
  .serialized,
  .enabled(if: localClusterObstacle == nil, Comment(rawValue: localClusterObstacle ?? "")))
struct NodeFeatureTests {
  private static func server(_ name: String, _ text: String, _ more: String = "") -> String {
    """
    apiVersion: v1
    kind: Pod
    metadata: {name: \(name), labels: {app: \(name)}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: busybox
        imagePullPolicy: IfNotPresent
        command: [sh, -c, "mkdir /www; echo \(text) > /www/index.html; exec httpd -f -p 8080 -h /www"]
    \(more)

    """
  }

  @Test func aNodeDoesWhatItsFilesAndItsPodsAskFor() throws {
    let folder = TestFolder()
    let manifests = folder.path + "/manifests"
    try FileManager.default.createDirectory(atPath: manifests, withIntermediateDirectories: true)
    try Self.server("static", "first").write(
      toFile: manifests + "/static.yaml", atomically: true, encoding: .utf8)
    let cluster = try LocalClusterFixture(extra: [
      "node.pod-manifest-path=\(manifests)", "node.housekeeping-interval=1s",
    ])
    defer { cluster.stop() }
    func field(_ object: String, _ path: String) throws -> String {
      try cluster.kubectl("get", object, "-o", "jsonpath={\(path)}")
    }
    func get(_ place: String) throws -> String {
      try Program(path: "/usr/bin/curl").run(["-s", "-m", "5", "http://\(place)/"]).output
    }
    let node = try field("node/test-node", ".status.addresses[0].address")

    // A port of the node leads to the pod, from outside and from the pod itself.
    try cluster.apply(
      Self.server("open", "opened", "    ports: [{containerPort: 8080, hostPort: 18080}]"))
    try cluster.kubectl("wait", "--for=condition=Ready", "pod/open", "--timeout=60s")
    #expect(try get("\(node):18080") == "opened\n")
    #expect(
      try cluster.outcome(
        ["exec", "open", "--", "wget", "-qO-", "http://\(node):18080/"], [:]).output == "opened\n")
    // Another pod that wants the same port has no node to go to.
    try cluster.apply(
      Self.server("late", "late", "    ports: [{containerPort: 8080, hostPort: 18080}]"))
    try cluster.eventually("the scheduler says why the other pod waits") {
      try cluster.kubectl("describe", "pod", "late").contains("didn't have free ports")
    }
    try cluster.kubectl("delete", "pod", "open", "--timeout=30s")
    try cluster.eventually("the port is the next pod's") { try get("\(node):18080") == "late\n" }

    // A file on the node is a pod, which the API shows and can't take away.
    let mirror = "static-test-node"
    try cluster.eventually("the file's pod is shown") {
      try !cluster.kubectl("get", "pod", mirror, "--ignore-not-found").isEmpty
    }
    try cluster.kubectl("wait", "--for=condition=Ready", "pod/\(mirror)", "--timeout=60s")
    let first = try field("pod/\(mirror)", ".metadata.uid")
    let address = try field("pod/\(mirror)", ".status.podIP")
    #expect(try get("\(address):8080") == "first\n")
    #expect(try field("pod/\(mirror)", ".metadata.ownerReferences[0].kind") == "Node")
    try cluster.kubectl("delete", "pod", mirror, "--wait=false")
    try cluster.eventually("the mirror comes back") {
      let now = try cluster.kubectl(
        "get", "pod", mirror, "--ignore-not-found", "-o",
        "jsonpath={.metadata.uid} {.status.phase}")
      return now.hasSuffix(" Running") && !now.hasPrefix(first)
    }
    #expect(try get("\(address):8080") == "first\n")
    #expect(try field("pod/\(mirror)", ".status.podIP") == address)
    try Self.server("static", "second").write(
      toFile: manifests + "/static.yaml", atomically: true, encoding: .utf8)
    try cluster.eventually("the changed file is another pod") {
      let address = try cluster.kubectl(
        "get", "pod", mirror, "--ignore-not-found", "-o", "jsonpath={.status.podIP}")
      return try !address.isEmpty && get("\(address):8080") == "second\n"
    }
    #expect(try cluster.kubectl("logs", mirror).isEmpty)
    try FileManager.default.removeItem(atPath: manifests + "/static.yaml")
    try cluster.eventually("without the file there is no pod") {
      try cluster.kubectl("get", "pod", mirror, "--ignore-not-found").isEmpty
    }

    try topTellsWhatPodsUse(cluster)
    try aMachineJoins(cluster, folder)
  }

  private func topTellsWhatPodsUse(_ cluster: LocalClusterFixture) throws {
    guard FileManager.default.fileExists(atPath: "/sys/fs/cgroup/memory")
      || FileManager.default.fileExists(atPath: "/sys/fs/cgroup/memory.stat")
    else { return }
    try cluster.apply(
      """
      apiVersion: v1
      kind: Pod
      metadata: {name: busy}
      spec:
        terminationGracePeriodSeconds: 0
        containers:
        - name: main
          image: busybox
          imagePullPolicy: IfNotPresent
          command: [sh, -c, "while :; do :; done"]
          resources: {limits: {cpu: 500m}}
      """)
    try cluster.eventually("top shows the busy pod's half CPU") {
      let outcome = try cluster.outcome(["top", "pod", "busy", "--no-headers"], [:])
      let words = outcome.output.split(whereSeparator: \.isWhitespace)
      guard words.count == 3, let milli = Int(words[1].dropLast()) else { return false }
      return (300...700).contains(milli) && words[2].hasSuffix("Mi")
    }
    let node = try cluster.kubectl("top", "node", "--no-headers").split(whereSeparator: \.isWhitespace)
    #expect(node.count == 5 && node[0] == "test-node" && node[1].hasSuffix("m"), "\(node)")
    let text = try cluster.kubectl("get", "--raw", "/api/v1/nodes/test-node/proxy/metrics/resource")
    #expect(text.contains("container_cpu_usage_seconds_total{container=\"main\",namespace=\"default\",pod=\"busy\"} "))
    let summary = try cluster.kubectl("get", "--raw", "/api/v1/nodes/test-node/proxy/stats/summary")
    #expect(summary.contains("\"nodeName\":\"test-node\""))
    try cluster.kubectl("delete", "pod", "busy", "--timeout=30s")
  }

  /// A second node on this machine itself, which knows nothing but what the join command says.
  private func aMachineJoins(_ cluster: LocalClusterFixture, _ folder: TestFolder) throws {
    let martlet = try #require(Peers.martlet)
    let command = try martlet.run(
      ["token", "create", "--kubeconfig", cluster.directory + "/kubeconfig", "--print-join-command"])
    #expect(command.status == 0, "\(command.errors)")
    var words = command.output.split(whereSeparator: \.isWhitespace).map(String.init)
    #expect(words.prefix(2) == ["martlet", "node"])
    words.removeFirst()
    let host = try #require(cluster.server.split(separator: "/").last?.split(separator: ":").first)
    let data = folder.path + "/joined"
    words += [
      "--node-name", "joined", "--data-dir", data, "--address", String(host), "--port", "0",
      "--image-dir", cluster.directory + "/node/images", "--bridge", "mtjoin0",
      "--cgroup-root", "/martlet-joined", "--stop-pods-on-exit",
    ]
    // Somebody in between has another authority.
    var wrong = words
    if let index = wrong.firstIndex(of: "--ca-cert-hash") {
      wrong[index + 1] = "sha256:" + String(repeating: "0", count: 64)
    }
    let refused = try martlet.run(wrong + ["--pod-cidr", "10.244.9.0/24"], seconds: 20)
    #expect(refused.status == 1 && refused.errors.contains("somebody is in between"), "\(refused)")
    // Addresses that another node's pods have.
    let taken = try martlet.run(words + ["--pod-cidr", "10.244.0.0/24"], seconds: 30)
    #expect(taken.status == 1 && taken.errors.contains("give this node others"), "\(taken)")

    let node = try martlet.start(words + ["--pod-cidr", "10.244.9.0/24"])
    defer {
      node.signal(SIGTERM)
      #expect(node.waitUntilExit(seconds: 30))
    }
    try cluster.eventually("the joined node is ready") {
      try cluster.kubectl("get", "nodes").split(separator: "\n").contains {
        $0.hasPrefix("joined ") && $0.contains(" Ready ")
      }
    }
    let requests = try cluster.kubectl("get", "csr")
    #expect(requests.contains("kubernetes.io/kube-apiserver-client-kubelet"))
    #expect(requests.contains("system:bootstrap:") && requests.contains("Approved,Issued"))
    try cluster.apply(Self.server("guest", "guest", "  nodeName: joined"))
    try cluster.kubectl("wait", "--for=condition=Ready", "pod/guest", "--timeout=60s")
    #expect(
      try cluster.outcome(["exec", "guest", "--", "hostname"], [:]).output == "guest\n")
    // A pod of the other node reaches it.
    let address = try cluster.kubectl("get", "pod", "guest", "-o", "jsonpath={.status.podIP}")
    #expect(
      try cluster.outcome(
        ["exec", "late", "--", "wget", "-qO-", "http://\(address):8080/"], [:]).output == "guest\n")
    try cluster.kubectl("delete", "pod", "guest", "--timeout=30s")
    // The token is for joining and nothing else.
    let token = try #require(words.firstIndex(of: "--token").map { words[$0 + 1] })
    let peek = try cluster.outcome(
      ["--kubeconfig", "/dev/null", "--server", cluster.server, "--insecure-skip-tls-verify",
        "--token", token, "get", "secrets", "-A"], [:])
    #expect(peek.status == 1 && peek.errors.contains("Forbidden"), "\(peek)")
  }
}
