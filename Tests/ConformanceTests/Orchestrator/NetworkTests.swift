import Foundation
import TestKit
import Testing

/// Pods of two nodes, and services in front of them.
@Suite(
  .serialized,
  .enabled(if: localClusterObstacle == nil, Comment(rawValue: localClusterObstacle ?? "")))
struct NetworkTests {
  private func manifest(_ name: String, node: Int) -> String {
    """
    apiVersion: v1
    kind: Pod
    metadata: {name: \(name)}
    spec:
      nodeName: test-node-\(node)
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: busybox
        imagePullPolicy: IfNotPresent
        command: [sh, -c, "mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www"]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
    ---

    """
  }

  private func slice(_ name: String, _ port: Int, _ endpoints: [(pod: String, address: String)]) -> String {
    let list = endpoints.map {
      "{addresses: [\($0.address)], conditions: {ready: true}, nodeName: test-node-\($0.pod == "a" ? 1 : 2)}"
    }
    return """
      apiVersion: discovery.k8s.io/v1
      kind: EndpointSlice
      metadata: {name: \(name), labels: {kubernetes.io/service-name: \(name)}}
      addressType: IPv4
      ports: [{port: \(port), protocol: TCP}]
      endpoints: [\(list.joined(separator: ", "))]
      """
  }

  private func service(_ name: String, _ port: Int, _ more: String = "") -> String {
    """
    apiVersion: v1
    kind: Service
    metadata: {name: \(name)}
    spec: {ports: [{port: \(port)}]\(more)}
    """
  }

  @Test func servicesReachThePodsOfAllNodes() throws {
    let cluster = try LocalClusterFixture(nodes: 2)
    defer { cluster.stop() }
    try cluster.apply(manifest("a", node: 1) + manifest("b", node: 2))
    try cluster.kubectl("wait", "--for=condition=Ready", "pod/a", "pod/b", "--timeout=60s")
    func field(_ object: String, _ path: String) throws -> String {
      try cluster.kubectl("get", object, "-o", "jsonpath={\(path)}")
    }
    let a = try field("pod/a", ".status.podIP")
    let b = try field("pod/b", ".status.podIP")
    /// What a pod gets from an address.
    func get(_ pod: String, _ place: String) throws -> String {
      try cluster.kubectl("exec", pod, "-c", "main", "--", "wget", "-qO-", "http://\(place)/")
    }
    func fromHere(_ place: String) throws -> String {
      try Program(path: "/usr/bin/curl").run(["-s", "-m", "5", "http://\(place)/"]).output
    }

    // Every pod has an address of its own that every other one reaches.
    #expect(a != b)
    #expect(try get("a", "\(b):8080") == "b\n")
    #expect(try get("b", "\(a):8080") == "a\n")

    try cluster.apply(service("web", 80, ", type: NodePort"))
    let address = try field("service/web", ".spec.clusterIP")
    let nodePort = try field("service/web", ".spec.ports[0].nodePort")
    let node = try field("node/test-node-1", ".status.addresses[0].address")

    // Without endpoints a connection is refused at once.
    try cluster.eventually("the service without endpoints refuses") {
      let began = Date()
      let outcome = try cluster.outcome(
        ["exec", "a", "-c", "main", "--", "wget", "-qO-", "http://\(address)/"], [:])
      return outcome.errors.contains("refused") && Date().timeIntervalSince(began) < 1.5
    }

    // Both pods serve it: to pods of both nodes, to themselves, and to the outside by any node's port.
    try cluster.apply(slice("web", 8080, [("a", a), ("b", b)]))
    var seen: Set<String> = []
    try cluster.eventually("both pods answer pod a") {
      for _ in 0..<6 { seen.insert(try get("a", address)) }
      return seen.isSuperset(of: ["a\n", "b\n"])
    }
    seen = []
    for _ in 0..<12 { seen.insert(try fromHere("\(node):\(nodePort)")) }
    #expect(seen == ["a\n", "b\n"])
    #expect(["a\n", "b\n"].contains(try fromHere(address)))

    // With affinity a client keeps its pod.
    try cluster.kubectl("patch", "service", "web", "-p", #"{"spec":{"sessionAffinity":"ClientIP"}}"#)
    try cluster.eventually("pod b stays with one pod") {
      try Set((0..<8).map { _ in try get("b", address) }).count == 1
    }

    // The API itself is a service that pods reach.
    #expect(
      try cluster.outcome(
        ["exec", "b", "-c", "main", "--", "nc", "-w", "2", "10.96.0.1", "443"], [:], input: ""
      ).status == 0)
  }
}

extension LocalClusterFixture {
  func apply(_ manifest: String) throws {
    let outcome = try outcome(["apply", "-f", "-"], [:], input: manifest)
    guard outcome.status == 0 else { throw ProgramError("kubectl apply: \(outcome.errors)") }
  }
}
