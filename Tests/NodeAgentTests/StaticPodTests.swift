import Foundation
import KubeAPI
import Testing

@testable import NodeAgent

/// Pods from files, and the mirrors that show them.
@Suite("Static pods")
struct StaticPodTests {
  private let now = Timestamp(secondsSinceEpoch: 1_767_225_600)
  private let text = """
    apiVersion: v1
    kind: Pod
    metadata: {name: web, labels: {app: web}}
    spec:
      containers: [{name: main, image: busybox}]
    """

  private func manifest(_ text: String, path: String = "/m/web.yaml") throws -> StaticManifest {
    try StaticManifest(Array(text.utf8), path: path, nodeName: "node-1", seenAt: now)
  }

  @Test("a manifest becomes a pod of this node, defaulted as the API server would")
  func pod() throws {
    let pod = try manifest(text).object
    #expect(pod["metadata"]["name"] == "web-node-1")
    #expect(pod["metadata"]["namespace"] == "default")
    #expect(pod["metadata"]["annotations"]["kubernetes.io/config.source"] == "file")
    #expect(
      pod["metadata"]["annotations"]["kubernetes.io/config.hash"] == pod["metadata"]["uid"])
    #expect(pod["spec"]["nodeName"] == "node-1")
    #expect(pod["spec"]["restartPolicy"] == "Always")
    #expect(pod["spec"]["tolerations"] == [["operator": "Exists", "effect": "NoExecute"]])
  }

  @Test("what the file says, where it lies and the node make the uid")
  func identity() throws {
    let uid = try manifest(text).uid
    #expect(uid.utf8.count == 32)
    #expect(try manifest(text).uid == uid)
    #expect(try manifest(text + "\n# changed").uid != uid)
    #expect(try manifest(text, path: "/m/other.yaml").uid != uid)
  }

  @Test(
    "what is no pod is refused with the reason",
    arguments: [
      ("kind: Service\napiVersion: v1", "it is no v1 Pod"),
      ("kind: Pod\napiVersion: v1\nspec: {containers: [{name: a, image: b}]}", "it has no metadata.name"),
      ("kind: Pod\napiVersion: v1\nmetadata: {name: a}\nspec: {containers: []}", "spec.containers"),
      ("kind: Pod\napiVersion: v1\nmetadata: {name: A}\nspec: {containers: [{name: a, image: b}]}", "metadata.name"),
      ("{", "yaml"),
    ])
  func refusals(text: String, why: String) {
    do {
      _ = try manifest(text)
      Issue.record("it was taken")
    } catch { #expect("\(error)".contains(why), "\(error)") }
  }

  @Test("a directory is read in order, hidden files and doubles apart")
  func directory() throws {
    let folder = NSTemporaryDirectory() + "/static-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for (name, content) in [
      ("a.yaml", text), ("b.yaml", text), (".hidden.yaml", "nonsense"), ("c.json", "[1]"),
      ("d.yaml", text.replacing("name: web", with: "name: other")),
    ] { try content.write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8) }
    let (pods, problems) = StaticManifest.read(folder, nodeName: "n", seenAt: now)
    #expect(pods.map(\.key) == ["default/web-n", "default/other-n"])
    #expect(Set(problems.keys) == ["\(folder)/b.yaml", "\(folder)/c.json"])
    #expect(problems["\(folder)/b.yaml"] == "another manifest has the pod default/web-n")
  }

  @Test("a mirror names the pod that it shows, and belongs to the node")
  func mirror() throws {
    let pod = try manifest(text)
    let mirror = MirrorPods.mirror(of: pod.object, node: ["metadata": ["name": "n", "uid": "u"]])
    #expect(mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"].string == pod.uid)
    #expect(mirror["metadata"]["uid"].isNull && mirror["status"].isNull)
    #expect(mirror["metadata"]["ownerReferences"][0]["uid"] == "u")
  }
}

/// Ports of the node that lead to pods.
@Suite("Host ports")
struct HostPortTests {
  @Test("a manifest's host ports are read, those of pods on the node's network apart")
  func wanted() throws {
    var pod: Value = [
      "spec": [
        "containers": [
          [
            "name": "a",
            "ports": [
              ["containerPort": 80, "hostPort": 8080], ["containerPort": 81],
              ["containerPort": 53, "hostPort": 5353, "protocol": "UDP", "hostIP": "10.0.0.1"],
            ],
          ]
        ]
      ]
    ]
    let ports = HostPort.wanted(PodManifest(pod))
    #expect(
      ports == [
        HostPort(address: nil, port: 8080, containerPort: 80, transport: .tcp),
        HostPort(address: IPv4Address("10.0.0.1"), port: 5353, containerPort: 53, transport: .udp),
      ])
    #expect(ports.compactMap { HostPort(json: $0.json) } == ports)
    pod["spec"]["hostNetwork"] = true
    #expect(HostPort.wanted(PodManifest(pod)).isEmpty)
  }

  @Test("the table is written as a whole, and taken away when nothing is left in it")
  func script() throws {
    let address = try #require(IPv4Address("10.244.0.5"))
    let ports = [HostPort(address: nil, port: 8080, containerPort: 80, transport: .tcp)]
    let script = HostPortTable.script([(address, ports)], bridge: "b0")
    #expect(script.hasPrefix("add table ip martlet-hostports\ndelete table ip martlet-hostports\nadd table"))
    #expect(script.contains("add element ip martlet-hostports anywhere { tcp . 8080 : 10.244.0.5 . 80 }"))
    #expect(
      HostPortTable.script([], bridge: "b0")
        == "add table ip martlet-hostports\ndelete table ip martlet-hostports\n")
  }

  @Test("a table that the kernel refuses opens nothing, and the next one does without it")
  func refusal() async throws {
    let written = Written()
    let table = HostPortTable(bridge: "b0") { script in
      if script.contains(" . 666 ") { throw RuntimeError(.system, "no") }
      await written.add(script)
    }
    let address = try #require(IPv4Address("10.244.0.5"))
    await #expect(throws: RuntimeError.self) {
      try await table.open(
        [HostPort(address: nil, port: 666, containerPort: 80, transport: .tcp)], to: address,
        for: SandboxID(rawValue: "a"))
    }
    try await table.open(
      [HostPort(address: nil, port: 777, containerPort: 80, transport: .tcp)], to: address,
      for: SandboxID(rawValue: "b"))
    await table.close(SandboxID(rawValue: "b"))
    let scripts = await written.scripts
    #expect(scripts.count == 2 && !scripts[0].contains("666") && scripts[0].contains("777"))
    #expect(!scripts[1].contains("777"))
  }

  private actor Written {
    var scripts: [String] = []
    func add(_ script: String) { scripts.append(script) }
  }
}

/// What is told about what pods use.
@Suite("Resource metrics")
struct ResourceMetricsTests {
  private func usage(_ seconds: Int64, cpu: UInt64) -> ResourceUsage {
    ResourceUsage(
      time: Timestamp(secondsSinceEpoch: seconds), cpuNanoseconds: cpu, memoryBytes: 3_000,
      workingSetBytes: 2_048, residentBytes: 1_000, pageFaults: 5, majorPageFaults: 1)
  }

  @Test("a rate is what was used between two looks")
  func rate() {
    #expect(ResourceSampler.rate(from: usage(10, cpu: 0), to: usage(12, cpu: 1_000_000_000)) == 500_000_000)
    #expect(ResourceSampler.rate(from: usage(10, cpu: 5), to: usage(10, cpu: 9)) == nil)
    // A counter that went back is another cgroup's.
    #expect(ResourceSampler.rate(from: usage(10, cpu: 9), to: usage(12, cpu: 5)) == nil)
  }

  private var snapshot: ResourceSampler.Snapshot {
    let sample = ResourceSampler.Sample(
      usage: usage(1_767_225_600, cpu: 1_500_000_000), cpuNanoCores: 250_000_000,
      window: .milliseconds(10_050))
    return ResourceSampler.Snapshot(
      node: sample,
      pods: [
        ResourceSampler.Pod(
          name: "p", namespace: "ns", uid: "u", startedAt: Timestamp(secondsSinceEpoch: 100),
          containers: [
            ResourceSampler.Container(
              name: "c", startedAt: Timestamp(secondsSinceEpoch: 101, nanoseconds: 500_000_000),
              sample: sample)
          ], sample: sample)
      ])
  }

  @Test("Prometheus reads it")
  func prometheus() {
    let lines = ResourceMetrics.text(snapshot).split(separator: "\n")
    #expect(
      lines.contains(
        "container_cpu_usage_seconds_total{container=\"c\",namespace=\"ns\",pod=\"p\"} 1.5 1767225600000"))
    #expect(lines.contains("container_start_time_seconds{container=\"c\",namespace=\"ns\",pod=\"p\"} 101.5"))
    #expect(lines.contains("node_memory_working_set_bytes 2048 1767225600000"))
    #expect(lines.contains("# TYPE pod_memory_working_set_bytes gauge"))
    #expect(lines.last == "resource_scrape_error 0")
  }

  @Test("the summary has it as kubelet's has")
  func summary() {
    let document = StatsSummary.document(
      snapshot, nodeName: "n", memoryBytes: 10_000, files: (total: 100, available: 40),
      bootedAt: Timestamp(secondsSinceEpoch: 0))
    #expect(document["node"]["memory"]["availableBytes"] == 7_952)
    #expect(document["node"]["fs"]["usedBytes"] == 60)
    let container = document["pods"][0]["containers"][0]
    #expect(container["cpu"]["usageNanoCores"] == 250_000_000)
    #expect(container["cpu"]["window"] == "10.050s")
    #expect(container["memory"]["workingSetBytes"] == 2_048)
    #expect(document["pods"][0]["podRef"] == ["name": "p", "namespace": "ns", "uid": "u"])
  }
}
