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
        volumeMounts:
        - {name: usr, mountPath: /usr, readOnly: true}
        - {name: lib, mountPath: /lib, readOnly: true}
        - {name: lib64, mountPath: /lib64, readOnly: true}
      # This machine's Python: busybox speaks no UDP.
      volumes:
      - {name: usr, hostPath: {path: /usr}}
      - {name: lib, hostPath: {path: /lib}}
      - {name: lib64, hostPath: {path: /lib64}}
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
    /// What a pod gets from an address; by busybox's wget, not by that of the mounted /usr.
    func get(_ pod: String, _ place: String) throws -> String {
      try cluster.kubectl("exec", pod, "-c", "main", "--", "busybox", "wget", "-qO-", "http://\(place)/")
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
        ["exec", "a", "-c", "main", "--", "busybox", "wget", "-qO-", "http://\(address)/"], [:])
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

    try connectionsOutlastOtherServicesChanges(cluster, a: a, b: b)
    try datagramsFollowTheTargets(cluster, a: a, b: b)

    // The API itself is a service that pods reach.
    #expect(
      try cluster.outcome(
        ["exec", "b", "-c", "main", "--", "busybox", "nc", "-w", "2", "10.96.0.1", "443"], [:], input: ""
      ).status == 0)
  }

  /// A connection that talks all the time, while services around it come, change and go.
  private func connectionsOutlastOtherServicesChanges(
    _ cluster: LocalClusterFixture, a: String, b: String
  ) throws {
    func inside(_ pod: String, _ command: String) throws -> Program.Outcome {
      try cluster.outcome(["exec", pod, "-c", "main", "--", "sh", "-c", command], [:])
    }
    _ = try inside("b", "busybox nc -ll -p 9000 -e cat >/dev/null 2>&1 &")
    try cluster.apply(service("echo", 9000))
    try cluster.apply(slice("echo", 9000, [("b", b)]))
    let address = try cluster.kubectl("get", "service", "echo", "-o", "jsonpath={.spec.clusterIP}")
    // What is sent comes back through the one connection; its end is written down.
    let talk = "i=0; while :; do echo $((i=i+1)); sleep 0.1; done"
    try cluster.eventually("the connection talks") {
      _ = try inside("a", "[ -s /tmp/talk ] || { (\(talk)) | busybox nc \(address) 9000 >/tmp/talk 2>&1; echo ended >>/tmp/talk; } >/dev/null 2>&1 &")
      return try inside("a", "sleep 0.5; cat /tmp/talk").output.contains("3\n")
    }
    for round in 0..<4 {
      try cluster.apply(service("other-\(round)", 81, round == 1 ? ", type: NodePort" : ""))
      try cluster.apply(slice("other-\(round)", 8080, [("a", a), ("b", b)]))
      if round == 2 { try cluster.kubectl("delete", "service", "other-0") }
    }
    try cluster.apply(slice("other-1", 8080, []))
    let before = try inside("a", "wc -l </tmp/talk").output
    try cluster.eventually("the connection still talks") {
      let now = try inside("a", "wc -l </tmp/talk; grep ended /tmp/talk").output
      return !now.contains("ended")
        && Int(now.filter(\.isNumber)) ?? 0 > (Int(before.filter(\.isNumber)) ?? 0) + 5
    }
    let text = try inside("a", "cat /tmp/talk").output
    let numbers = text.split(separator: "\n").map(String.init)
    #expect(numbers == (1...numbers.count).map(String.init), "nothing is lost, nothing comes twice")
  }

  /// A client that sends from one port all the time: without a look at the kernel's table of flows it would go on
  /// sending to a pod that isn't a target any more.
  private func datagramsFollowTheTargets(
    _ cluster: LocalClusterFixture, a: String, b: String
  ) throws {
    func inside(_ pod: String, _ command: String) throws -> Program.Outcome {
      try cluster.outcome(["exec", pod, "-c", "main", "--", "sh", "-c", command], [:])
    }
    let server = """
      import socket
      own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
      own.bind(("", 5353))
      while True:
          own.sendto(socket.gethostname().encode(), own.recvfrom(64)[1])
      """
    let client = """
      import socket, sys, time
      own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
      own.bind(("", 4000))
      own.settimeout(0.3)
      while True:
          try:
              own.sendto(b"who", (sys.argv[1], 53))
              open("/tmp/name", "wb").write(own.recv(64))
          except OSError:
              pass
          time.sleep(0.05)
      """
    func python(_ pod: String, _ program: String, _ argument: String = "") throws {
      let outcome = try cluster.outcome(
        ["exec", "-i", pod, "-c", "main", "--", "sh", "-c",
          "cat >/tmp/program; cp /tmp/program /tmp/$$; python3 /tmp/$$ \(argument) >/dev/null 2>/tmp/errors &"],
        [:], input: program)
      #expect(outcome.status == 0, "\(outcome)")
    }
    for pod in ["a", "b"] { try python(pod, server) }
    func target(_ pod: String, _ address: String) -> String {
      slice("names", 5353, [(pod, address)]).replacingOccurrences(of: "protocol: TCP", with: "protocol: UDP")
    }
    try cluster.apply(
      service("names", 53).replacingOccurrences(of: "{port: 53}", with: "{port: 53, protocol: UDP}"))
    try cluster.apply(target("b", b))
    let address = try cluster.kubectl("get", "service", "names", "-o", "jsonpath={.spec.clusterIP}")
    try python("a", client, address)
    try cluster.eventually("pod b answers") { try inside("a", "cat /tmp/name").output == "b" }
    try cluster.apply(target("a", a))
    try cluster.eventually("pod a answers the same client") {
      try inside("a", "cat /tmp/name").output == "a"
    }
  }
}

extension LocalClusterFixture {
  func apply(_ manifest: String) throws {
    let outcome = try outcome(["apply", "-f", "-"], [:], input: manifest)
    guard outcome.status == 0 else { throw ProgramError("kubectl apply: \(outcome.errors)") }
  }
}
