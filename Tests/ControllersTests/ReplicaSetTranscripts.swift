import KubeAPI
import KubeClient
import TestKit
import Testing

@testable import Controllers

/// Decisions about one ReplicaSet's pods. The language:
///
/// - `set replicas=3 min-ready=10 ending` is the ReplicaSet, selecting `app=web`.
/// - `pod NAME` adds or replaces a pod: `phase=Pending|Running|Failed` (Running), `ready=SECONDS` ago,
///   `age=SECONDS`, `restarts=N`, `unbound`, `ending`, `app=LABEL` (web), `owner=none|other` (the set).
/// - `decide` prints the plan; pods are forgotten by `clear`.
@Suite("ReplicaSets")
struct ReplicaSetTranscripts {
  private static let runner = GoldenRunner(folder: "Golden/Pods")

  @Test(arguments: Self.runner.files)
  func transcript(file: String) throws {
    var set: Value = nil
    var pods: [(name: String, object: Value)] = []
    try Self.runner.run(file) { command in
      switch command.name {
      case "set":
        set = Self.set(command)
        return ""
      case "pod":
        let name = command.arguments[0]
        pods.removeAll { $0.name == name }
        pods.append((name, Self.pod(command)))
        return ""
      case "clear":
        pods = []
        return ""
      case "decide":
        return Self.text(
          ReplicaSetPlan.decide(
            ReplicaSetView(set), pods: pods.map { PodView($0.object) }, now: Self.now))
      default: throw GoldenError(message: "unknown command \(command.name)")
      }
    }
  }

  private static let now = Timestamp(secondsSinceEpoch: 1_000_000)

  private static func text(_ plan: ReplicaSetPlan) -> String {
    var lines: [String] = []
    if plan.create > 0 { lines.append("create \(plan.create)") }
    for (verb, names) in [
      ("delete", plan.delete), ("adopt", plan.adopt), ("release", plan.release),
    ] where !names.isEmpty {
      lines.append("\(verb) \(names.joined(separator: " "))")
    }
    let counts = plan.status.members.filter { $0.key != "observedGeneration" }
    lines.append(
      "status "
        + counts.map { "\($0.key)=\($0.value.integer ?? 0)" }.joined(separator: " "))
    if let seconds = plan.checkAgainAfter { lines.append("again after \(seconds) s") }
    return lines.joined(separator: "\n")
  }

  private static func set(_ command: GoldenCommand) -> Value {
    var set: Value = [
      "apiVersion": "apps/v1", "kind": "ReplicaSet",
      "metadata": ["name": "web", "uid": "set", "generation": 1],
      "spec": [
        "replicas": Value(command.integer("replicas") ?? 1),
        "minReadySeconds": Value(command.integer("min-ready") ?? 0),
        "selector": ["matchLabels": ["app": "web"]],
        "template": ["metadata": ["labels": ["app": "web"]]],
      ],
    ]
    if command.has("ending") { set["metadata"]["deletionTimestamp"] = Value(now) }
    return set
  }

  private static func pod(_ command: GoldenCommand) -> Value {
    func ago(_ key: String) -> Value? {
      command.integer(key).map { Value(now.adding(.seconds(-$0))) }
    }
    var pod: Value = [
      "metadata": [
        "name": Value(command.arguments[0]), "uid": Value(command.arguments[0]),
        "labels": ["app": Value(command.value("app") ?? "web")],
        "creationTimestamp": ago("age") ?? Value(now),
      ],
      "spec": ["nodeName": command.has("unbound") ? "" : "node"],
      "status": ["phase": Value(command.value("phase") ?? "Running")],
    ]
    if command.has("ending") { pod["metadata"]["deletionTimestamp"] = Value(now) }
    switch command.value("owner") {
    case "none": break
    case let owner:
      let uid = owner == nil ? "set" : "other"
      pod["metadata"]["ownerReferences"] = [
        OwnerReference(apiVersion: "apps/v1", kind: "ReplicaSet", name: "web", uid: uid).value
      ]
    }
    if let since = ago("ready") {
      pod["status"]["conditions"] = [
        ["type": "Ready", "status": "True", "lastTransitionTime": since]
      ]
    }
    if let restarts = command.integer("restarts") {
      pod["status"]["containerStatuses"] = [["restartCount": Value(restarts)]]
    }
    return pod
  }
}

@Suite("What a controller expects of its cache")
struct ExpectationsTests {
  @Test("Made objects are expected until they show, even if they are ending by then")
  func made() {
    let expectations = Expectations()
    let key = ObjectKey(namespace: "default", name: "web")
    expectations.expect(key, made: ["a", "b"])
    #expect(!expectations.areMet(key) { _ in .absent })
    #expect(!expectations.areMet(key) { $0 == "a" ? .alive : .absent })
    // `a` has shown once; that it has gone since doesn't matter.
    #expect(expectations.areMet(key) { $0 == "b" ? .ending : .absent })
    #expect(expectations.areMet(key) { _ in .absent })
  }

  @Test("Deleted objects are expected to end")
  func deleted() {
    let expectations = Expectations()
    let key = ObjectKey(namespace: "default", name: "web")
    expectations.expect(key, deleted: ["a"])
    #expect(!expectations.areMet(key) { _ in .alive })
    #expect(expectations.areMet(key) { _ in .ending })
  }
}
