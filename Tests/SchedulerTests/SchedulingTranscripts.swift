import KubeAPI
import TestKit
import Testing

@testable import Scheduler

/// Scheduling decisions as transcripts. The language:
///
/// - `node NAME cpu=2 memory=4Gi pods=10 label=zone=a taint=key=value:NoSchedule cordoned notready`
///   adds a node or changes it; `remove-node NAME` removes it.
/// - `schedule NAME cpu=500m memory=1Gi selector=zone=a affinity="zone In a,b" node=NAME port=80/UDP`
///   `address=10.0.0.1 init-cpu=1 sidecar-cpu=1 toleration=key=value:NoSchedule` decides for a pod, prints
///   every node's verdict and the outcome, and counts the pod where it goes.
///   Its labels, priority and rules about neighbours can stand as JSON in its input: `{"labels", "spec"}`.
/// - `preempt NAME ...` prints which pods would make room, and for that `budget app=web` protects pods.
/// - `nominate NAME NODE ...` keeps room on a node.
/// - `explain NAME ...` prints what `martlet explain` prints, and counts the pod nowhere.
/// - `finish NAME` takes a pod away; `show` prints what each node carries.
@Suite("Scheduling")
struct SchedulingTranscripts {
  @Test(arguments: GoldenRunner().files)
  func transcript(file: String) throws {
    var world = World()
    try GoldenRunner().run(file) { try world.perform($0) }
  }
}

private struct World {
  var snapshot = ClusterSnapshot()
  var budgets: [Value] = []

  mutating func perform(_ command: GoldenCommand) throws -> String {
    let name = command.arguments.first ?? ""
    switch command.name {
    case "node":
      snapshot.set(node: NodeView(Self.node(command)))
      return ""
    case "remove-node":
      snapshot.remove(node: name)
      return ""
    case "finish":
      snapshot.remove(pod: name)
      return ""
    case "schedule":
      return schedule(PodView(try Self.wholePod(command)))
    case "explain":
      let pod = PodView(try Self.wholePod(command))
      let explanation = Explanation(pod, snapshot, budgets: budgets)
      let decision = Decision.decide(pod, snapshot)
      guard explanation.outcome == decision.outcome else {
        throw GoldenError(message: "the explanation tells of another decision")
      }
      return explanation.text
    case "budget":
      let parts = name.split(separator: "=").map(String.init)
      budgets.append([
        "spec": ["selector": ["matchLabels": [parts[0]: Value(parts[1])]]],
        "status": ["disruptionsAllowed": 0],
      ])
      return ""
    case "nominate":
      snapshot.nominate(PodView(try Self.wholePod(command)), for: command.arguments[1])
      return ""
    case "preempt":
      guard
        let plan = Preemption.decide(
          PodView(try Self.wholePod(command)), snapshot, budgets: budgets)
      else { return "nobody" }
      return "on \(plan.node): " + plan.victims.map(\.name).joined(separator: " ")
    case "show":
      return snapshot.nodes.sorted { $0.key < $1.key }.map { name, node in
        let amounts = node.requested.amounts.filter { !$0.amount.isZero }
          .map { "\($0.name)=\($0.amount)" }.sorted()
        return ([name + ":"] + amounts + node.pods.keys.sorted()).joined(separator: " ")
      }.joined(separator: "\n")
    default:
      throw GoldenError(message: "unknown command \(command.name)")
    }
  }

  private mutating func schedule(_ pod: PodView) -> String {
    let decision = Decision.decide(pod, snapshot)
    var lines = decision.verdicts.map { verdict in
      "  \(verdict.node): "
        + (verdict.reasons.isEmpty
          ? "score \(verdict.score)" : verdict.reasons.joined(separator: "; "))
    }
    switch decision.outcome {
    case .bind(let node):
      snapshot.place(pod, on: node)
      lines.append("\(pod.name) -> \(node)")
    case .unschedulable(let message): lines.append(message)
    }
    return lines.joined(separator: "\n")
  }

  // MARK: Objects

  private static func node(_ command: GoldenCommand) -> Value {
    var object: Value = [
      "metadata": ["name": Value(command.arguments[0])],
      "status": [
        "conditions": [["type": "Ready", "status": command.has("notready") ? "False" : "True"]]
      ],
    ]
    for resource in ["cpu", "memory", "pods", "example.com/gpu"] {
      if let amount = command.value(resource) {
        object["status"]["allocatable"][resource] = Value(amount)
      }
    }
    for label in values(command, "label") {
      let (key, value) = halves(label, "=")
      object["metadata"]["labels"][key] = Value(value)
    }
    for taint in values(command, "taint") { object["spec"]["taints"].append(effect(taint)) }
    if command.has("cordoned") { object["spec"]["unschedulable"] = true }
    return object
  }

  /// A pod with what its input says besides.
  private static func wholePod(_ command: GoldenCommand) throws -> Value {
    var object = pod(command)
    guard !command.input.isEmpty else { return object }
    let more = try Value(json: Array(command.input.utf8))
    if !more["labels"].isNull { object["metadata"]["labels"] = more["labels"] }
    for member in more["spec"].members { object["spec"][member.key] = member.value }
    return object
  }

  private static func pod(_ command: GoldenCommand) -> Value {
    let name = command.arguments[0]
    var container: Value = ["name": "main"]
    for resource in ["cpu", "memory", "example.com/gpu"] {
      if let amount = command.value(resource) {
        container["resources"]["requests"][resource] = Value(amount)
      }
    }
    for port in values(command, "port") {
      let (number, proto) = halves(port, "/")
      var entry: Value = ["hostPort": Value(Int64(number) ?? 0)]
      if !proto.isEmpty { entry["protocol"] = Value(proto) }
      if let address = command.value("address") { entry["hostIP"] = Value(address) }
      container["ports"].append(entry)
    }
    var object: Value = [
      "metadata": ["name": Value(name), "uid": Value(name)], "spec": ["containers": [container]],
    ]
    for (key, policy) in [("init-cpu", nil), ("sidecar-cpu", "Always")] as [(String, String?)] {
      if let amount = command.value(key) {
        object["spec"]["initContainers"].append([
          "name": Value(key), "restartPolicy": Value(policy),
          "resources": ["requests": ["cpu": Value(amount)]],
        ])
      }
    }
    for label in values(command, "selector") {
      let (key, value) = halves(label, "=")
      object["spec"]["nodeSelector"][key] = Value(value)
    }
    // Each `affinity` is a term; expressions are parted by semicolons.
    for term in values(command, "affinity") {
      let expressions = term.split(separator: ";").map { text -> Value in
        let words = text.split(separator: " ").map(String.init)
        var expression: Value = ["key": Value(words[0]), "operator": Value(words[1])]
        if words.count > 2 {
          expression["values"] = Value(words[2].split(separator: ",").map(String.init))
        }
        return expression
      }
      let isField = term.hasPrefix("metadata.")
      object["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"].append([
          isField ? "matchFields" : "matchExpressions": .array(expressions)
        ])
    }
    for toleration in values(command, "toleration") {
      var value = effect(toleration)
      if value["value"].isNull { value["operator"] = "Exists" }
      if value["effect"] == "*" { value.remove("effect") }
      object["spec"]["tolerations"].append(value)
    }
    if let node = command.value("node") { object["spec"]["nodeName"] = Value(node) }
    return object
  }

  /// `key=value:Effect`.
  private static func effect(_ text: String) -> Value {
    let (rest, effect) = halves(text, ":")
    let (key, value) = halves(rest, "=")
    return [
      "key": Value(key), "value": value.isEmpty ? nil : Value(value), "effect": Value(effect),
    ]
  }

  private static func values(_ command: GoldenCommand, _ key: String) -> [String] {
    command.arguments.filter { $0.hasPrefix(key + "=") }.map { String($0.dropFirst(key.count + 1)) }
  }

  private static func halves(_ text: String, _ separator: Character) -> (String, String) {
    guard
      let index = text.lastIndex(of: separator).map({
        separator == "=" ? text.firstIndex(of: "=")! : $0
      })
    else { return (text, "") }
    return (String(text[..<index]), String(text[text.index(after: index)...]))
  }
}
