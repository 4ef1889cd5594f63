import KubeAPI
import TestKit
import Testing

@testable import Controllers

/// Jobs as transcripts: the controller's decisions carried out on a small world of pods. The language:
///
/// - `job` has a Job's spec as JSON in its input (`pod` stands for a plain template); a later `job` changes it.
/// - `run` decides and carries out until nothing changes, and prints every step; `run steps=1` one step only.
/// - `succeed POD...`, `fail POD... [code=N]`, `start POD...`, `restart POD count=N` change pods; `end POD...` lets
///   a deleted pod end; `remove POD...` deletes one, as a user does.
/// - `wait SECONDS` moves the clock; `status` prints the Job's status; `pods` the pods; `pod NAME` one whole.
@Suite("Jobs")
struct JobTranscripts {
  private static let runner = GoldenRunner(folder: "Golden/Jobs")

  @Test(arguments: Self.runner.files)
  func transcript(file: String) throws {
    var world = JobWorld()
    try Self.runner.run(file) { try world.perform($0) }
  }

  @Test("Indexes read and write Kubernetes' form", arguments: ["", "0", "0,1", "0-2,5,7,8", "3-9"])
  func indexes(_ text: String) {
    #expect("\(JobIndexes(text, below: 10))" == text)
  }

  @Test("What is no list of indexes counts for nothing")
  func badIndexes() {
    #expect("\(JobIndexes("4-2,x,-1,7-,9-12,1", below: 10))" == "1,7")
  }
}

private struct JobWorld {
  var job: Value = nil
  var pods: [(name: String, object: Value)] = []
  var now = Timestamp(secondsSinceEpoch: 1_767_225_600)
  var made = 0

  mutating func perform(_ command: GoldenCommand) throws -> String {
    switch command.name {
    case "job":
      var spec = try Value(json: Array(command.input.utf8))
      if spec["template"] == "pod" || spec["template"].isNull {
        spec["template"] = [
          "metadata": ["labels": ["job-name": "work"]],
          "spec": ["restartPolicy": "Never", "containers": [["name": "main"]]],
        ]
      }
      if job.isNull {
        job = ["metadata": ["name": "work", "namespace": "default", "uid": "job"], "status": [:]]
      }
      job["spec"] = spec
      return ""
    case "run": return run(steps: command.integer("steps") ?? 100)
    case "wait":
      now = now.adding(.seconds(Int64(command.arguments.first ?? "") ?? 0))
      return ""
    case "status": return status
    case "pods":
      return pods.map { pod in
        let view = PodView(pod.object)
        let finalizer = view.finalizers.isEmpty ? "" : " held"
        return
          "\(pod.name) \(view.phase.rawValue)\(view.isBeingDeleted ? " ending" : "")\(finalizer)"
      }.joined(separator: "\n")
    case "pod":
      var pod = pods.first { $0.name == command.arguments[0] }?.object ?? nil
      pod.remove("status")
      return pod.jsonString
    case "succeed": return change(command) { $0["status"]["phase"] = "Succeeded" }
    case "start": return change(command) { $0["status"]["phase"] = "Running" }
    case "restart":
      let count = command.integer("count") ?? 1
      return change(command) {
        $0["status"]["containerStatuses"] = [["name": "main", "restartCount": Value(count)]]
      }
    case "fail":
      let code = command.integer("code") ?? 1
      let finished = Value(now)
      return change(command) {
        $0["status"]["phase"] = "Failed"
        $0["status"]["containerStatuses"] = [
          [
            "name": "main",
            "state": ["terminated": ["exitCode": Value(code), "finishedAt": finished]],
          ]
        ]
      }
    case "remove":
      let time = Value(now)
      return change(command) { $0["metadata"]["deletionTimestamp"] = time }
    case "end":
      return change(command) { $0["status"]["phase"] = "Failed" }
    default: throw GoldenError(message: "unknown command \(command.name)")
    }
  }

  private mutating func change(
    _ command: GoldenCommand, _ body: (inout Value) -> Void
  ) -> String {
    for name in command.arguments where !name.contains("=") {
      guard let index = pods.firstIndex(where: { $0.name == name }) else {
        return "no pod \(name)"
      }
      body(&pods[index].object)
    }
    return ""
  }

  private var status: String {
    var lines: [String] = []
    for member in job["status"].members where member.key != "conditions" {
      lines.append("\(member.key): \(member.value.jsonString)")
    }
    for condition in job["status"]["conditions"].elements {
      lines.append(
        "\(condition["type"].string ?? "")=\(condition["status"].string ?? "") "
          + "\(condition["reason"].string ?? ""): \(condition["message"].string ?? "")")
    }
    return lines.joined(separator: "\n")
  }

  private mutating func run(steps: Int) -> String {
    var lines: [String] = []
    for _ in 0..<steps {
      let plan = JobPlan.decide(JobView(job), pods: pods.map { PodView($0.object) }, now: now)
      let isQuiet =
        plan.status == job["status"] && plan.release.isEmpty && plan.delete.isEmpty
        && plan.drop.isEmpty && plan.create.isEmpty
      job["status"] = plan.status
      lines += carryOut(plan)
      if isQuiet {
        if let seconds = plan.checkAgainAfter { lines.append("again after \(seconds) s") }
        break
      }
    }
    return lines.joined(separator: "\n")
  }

  private mutating func carryOut(_ plan: JobPlan) -> [String] {
    var lines: [String] = []
    for event in plan.events { lines.append("\(event.reason): \(event.message)") }
    for name in plan.release + plan.drop {
      guard let index = pods.firstIndex(where: { $0.name == name }) else { continue }
      pods[index].object["metadata"].remove("finalizers")
      if plan.release.contains(name) { lines.append("release \(name)") }
    }
    for (names, verb) in [(plan.delete, "delete"), (plan.drop, "drop")] where !names.isEmpty {
      lines.append("\(verb) \(names.joined(separator: " "))")
      for name in names {
        guard let index = pods.firstIndex(where: { $0.name == name }) else { continue }
        pods[index].object["metadata"]["deletionTimestamp"] = Value(now)
      }
    }
    var created: [String] = []
    for index in plan.create {
      made += 1
      var pod = JobPods.pod(of: JobView(job), index: index, pods: pods.map { PodView($0.object) })
      let name = "\(pod["metadata"]["generateName"].string ?? "")\(made)"
      pod["metadata"]["name"] = Value(name)
      pod["metadata"]["uid"] = Value("uid-\(made)")
      pod["metadata"]["creationTimestamp"] = Value(now)
      pod["spec"]["nodeName"] = "node"
      pod["status"] = ["phase": "Pending"]
      pods.append((name, pod))
      created.append(name)
    }
    if !created.isEmpty { lines.append("create \(created.joined(separator: " "))") }
    // What nothing holds is gone once it has ended.
    pods.removeAll { pod in
      let view = PodView(pod.object)
      return view.isBeingDeleted && view.finalizers.isEmpty
    }
    return lines
  }
}
