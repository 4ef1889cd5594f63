import KubeAPI
import TestKit
import Testing

@testable import Controllers

/// DaemonSets and StatefulSets: decisions carried out on a small world of nodes and pods. The language:
///
/// - `daemonset` or `statefulset` has the spec as JSON in its input, without selector; `image=X` changes the template.
/// - `node NAME label=KEY:VALUE taint=KEY:EFFECT` makes or replaces a node.
/// - `run` decides and carries out until nothing changes; with `ready`, pods become ready as they come.
/// - `ready POD...|all`, `unready POD...`, `fail POD...` change pods; `wait SECONDS` moves the clock.
/// - `pods` prints the pods, `status` the status, `pod NAME` one pod's spec.
@Suite("Sets of pods")
struct SetTranscripts {
  private static let runner = GoldenRunner(folder: "Golden/Sets")

  @Test(arguments: Self.runner.files)
  func transcript(file: String) throws {
    var world = SetWorld()
    try Self.runner.run(file) { try world.perform($0) }
  }
}

private struct SetWorld {
  var set: Value = nil
  var nodes: [Value] = []
  var pods: [Value] = []
  var revisions: [Value] = []
  var now = Timestamp(secondsSinceEpoch: 1_767_225_600)
  var made = 0

  mutating func perform(_ command: GoldenCommand) throws -> String {
    switch command.name {
    case "daemonset": try define("DaemonSet", command)
    case "statefulset": try define("StatefulSet", command)
    case "node": addNode(command)
    case "run": return run(makesReady: command.has("ready"))
    case "wait": now = now.adding(.seconds(Int64(command.arguments.first ?? "") ?? 0))
    case "ready":
      for index in pods.indices where isMeant(pods[index], command) { setReady(index, true) }
    case "unready":
      for index in pods.indices where isMeant(pods[index], command) { setReady(index, false) }
    case "fail":
      for index in pods.indices where isMeant(pods[index], command) {
        pods[index]["status"] = ["phase": "Failed"]
      }
    case "status":
      return set["status"].members.filter { $0.key != "observedGeneration" }
        .map { "\($0.key)=\($0.value.string ?? $0.value.jsonString)" }.joined(separator: " ")
    case "pods":
      return pods.map { object in
        let pod = PodView(object)
        let image = pod.containers[0]["image"].string ?? ""
        return "\(pod.name) \(image) on \(DaemonSetPlan.node(of: pod) ?? "?")"
          + (pod.isReady ? " ready" : "")
      }.joined(separator: "\n")
    case "pod":
      return pods.first { AnyObjectView($0).name == command.arguments[0] }?.jsonString ?? "none"
    case "revisions":
      return revisions.map { "\(AnyObjectView($0).name) \(RevisionPlan.number($0))" }
        .joined(separator: "\n")
    default: throw GoldenError(message: "unknown command \(command.name)")
    }
    return ""
  }

  private func isMeant(_ pod: Value, _ command: GoldenCommand) -> Bool {
    command.arguments.contains("all") || command.arguments.contains(AnyObjectView(pod).name)
  }

  private mutating func setReady(_ index: Int, _ isReady: Bool) {
    pods[index]["status"] = [
      "phase": "Running",
      "conditions": [
        [
          "type": "Ready", "status": isReady ? "True" : "False", "lastTransitionTime": Value(now),
        ]
      ],
    ]
  }

  private mutating func define(_ kind: String, _ command: GoldenCommand) throws {
    var spec = command.input.isEmpty ? set["spec"] : try Value(json: Array(command.input.utf8))
    if spec["template"].isNull { spec["template"] = set["spec"]["template"] }
    spec["template"]["metadata"]["labels"] = ["app": "set"]
    spec["template"]["spec"]["containers"] = [
      ["name": "main", "image": Value(command.value("image") ?? "v1")]
    ]
    spec["selector"] = ["matchLabels": ["app": "set"]]
    let generation = (set["metadata"]["generation"].integer ?? 0) + 1
    let status = set["status"]
    set = [
      "kind": Value(kind), "apiVersion": "apps/v1",
      "metadata": [
        "name": "set", "namespace": "default", "uid": "set", "generation": Value(generation),
      ],
      "spec": spec, "status": status.isNull ? [:] : status,
    ]
  }

  private mutating func addNode(_ command: GoldenCommand) {
    let name = command.arguments[0]
    var node: Value = ["metadata": ["name": Value(name)]]
    for word in command.arguments.dropFirst() {
      let parts = word.split(separator: "=")[1].split(separator: ":").map(String.init)
      if word.hasPrefix("label=") {
        node["metadata"]["labels"][parts[0]] = Value(parts[1])
      } else {
        node["spec"]["taints"].append(["key": Value(parts[0]), "effect": Value(parts[1])])
      }
    }
    nodes.removeAll { AnyObjectView($0).name == name }
    if !command.has("gone") { nodes.append(node) }
  }

  private mutating func run(makesReady: Bool) -> String {
    var lines: [String] = []
    for _ in 0..<200 {
      let history = RevisionPlan.decide(
        AnyObjectView(set), revisions: revisions,
        used: Set(
          pods.compactMap {
            $0["metadata"]["labels"][RevisionPlan.hashLabel].string.map { "set-\($0)" }
          }))
      if let create = history.create { revisions.append(create) }
      if let renumber = history.renumber {
        for index in revisions.indices where AnyObjectView(revisions[index]).name == renumber.name {
          revisions[index]["revision"] = Value(renumber.number)
        }
      }
      let (deleted, created, status, wait) = decide(history.currentName)
      var isQuiet = deleted.isEmpty && created.isEmpty && status == set["status"]
      set["status"] = status
      if !deleted.isEmpty { lines.append("delete \(deleted.joined(separator: " "))") }
      pods.removeAll { deleted.contains(AnyObjectView($0).name) }
      if !created.isEmpty {
        lines.append("create " + created.map(describe).joined(separator: " "))
        pods += created
      }
      if makesReady {
        for index in pods.indices where pods[index]["status"]["phase"] == "Pending" {
          setReady(index, true)
          isQuiet = false
        }
      }
      if isQuiet {
        if let wait { lines.append("again after \(wait) s") }
        break
      }
    }
    return lines.joined(separator: "\n")
  }

  private func describe(_ pod: Value) -> String {
    let view = PodView(pod)
    let image = view.containers[0]["image"].string ?? ""
    return "\(view.name)(\(image)\(DaemonSetPlan.node(of: view).map { " on \($0)" } ?? ""))"
  }

  private mutating func decide(
    _ revision: String
  ) -> (deleted: [String], created: [Value], status: Value, wait: Int64?) {
    let view = AnyObjectView(set)
    let hash = RevisionPlan.hash(of: revision, owner: "set")
    var created: [Value] = []
    func finish(_ pod: Value, _ name: String) -> Value {
      var pod = pod
      pod["metadata"]["name"] = Value(name)
      pod["metadata"]["uid"] = Value("\(name)-\(made)")
      pod["metadata"]["creationTimestamp"] = Value(now)
      pod["status"] = ["phase": "Pending"]
      return pod
    }
    if set["kind"] == "DaemonSet" {
      let plan = DaemonSetPlan.decide(
        view, pods: pods.map(PodView.init), nodes: nodes.map(NodeView.init), hash: hash, now: now)
      for node in plan.create {
        made += 1
        created.append(finish(DaemonSetPlan.pod(of: view, node: node, hash: hash), "set-\(made)"))
      }
      return (plan.delete, created, plan.status, plan.checkAgainAfter)
    }
    let plan = StatefulSetPlan.decide(
      view, pods: pods.map(PodView.init), update: revision, now: now)
    let current = set["status"]["currentRevision"].string ?? ""
    for creation in plan.create {
      made += 1
      let old = revisions.first { AnyObjectView($0).name == current }
      let isNew = creation.isNew || old == nil
      created.append(
        finish(
          StatefulSetPlan.pod(
            of: view, creation.ordinal,
            template: isNew ? set["spec"]["template"] : RevisionPlan.template(in: old!),
            hash: isNew ? hash : RevisionPlan.hash(of: current, owner: "set")),
          "set-\(creation.ordinal)"))
    }
    return (plan.delete, created, plan.status, plan.checkAgainAfter)
  }
}
