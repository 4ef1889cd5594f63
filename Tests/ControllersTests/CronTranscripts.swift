import KubeAPI
import TestKit
import Testing

@testable import Controllers

/// CronJobs. The language:
///
/// - `cron` has the spec as JSON in its input; it was made at the first `at`.
/// - `at TIME` decides at a moment and carries it out; `finish JOB [failed]` ends a Job.
/// - `next SCHEDULE from=TIME [zone=HOURS]` prints the schedule's next three times.
@Suite("CronJobs")
struct CronTranscripts {
  private static let runner = GoldenRunner(folder: "Golden/Cron")

  @Test(arguments: Self.runner.files)
  func transcript(file: String) throws {
    var cron: Value = nil
    var jobs: [Value] = []
    try Self.runner.run(file) { command in
      switch command.name {
      case "cron":
        cron = [
          "metadata": ["name": "tick", "namespace": "default", "uid": "cron"],
          "spec": try Value(json: Array(command.input.utf8)),
        ]
        jobs = []
        return ""
      case "finish":
        let name = command.arguments[0]
        for index in jobs.indices where AnyObjectView(jobs[index]).name == name {
          let end = command.has("failed") ? "Failed" : "Complete"
          jobs[index]["status"]["conditions"] = [["type": Value(end), "status": "True"]]
        }
        return ""
      case "at": return try Self.decide(&cron, &jobs, try Timestamp(command.arguments[0]))
      case "next": return try Self.next(command)
      default: throw GoldenError(message: "unknown command \(command.name)")
      }
    }
  }

  private static func decide(
    _ cron: inout Value, _ jobs: inout [Value], _ now: Timestamp
  ) throws -> String {
    cron["metadata"].setDefault("creationTimestamp", to: Value(now))
    let plan = CronJobPlan.decide(AnyObjectView(cron), jobs: jobs.map(JobView.init), now: now) {
      zone, _ in
      switch zone {
      case nil, "Etc/UTC": 0
      case "Asia/Tokyo": 9 * 3600
      default: nil
      }
    }
    cron["status"] = plan.status
    var lines = plan.events.map { "\($0.reason): \($0.message)" }
    for name in plan.delete { lines.append("forget \(name)") }
    for name in plan.replace { lines.append("replace \(name)") }
    jobs.removeAll { (plan.delete + plan.replace).contains(AnyObjectView($0).name) }
    if var job = plan.create {
      lines.append(
        "start \(AnyObjectView(job).name) for \(AnyObjectView(job).annotations[CronJobPlan.scheduledKey].string ?? "")"
      )
      job["metadata"]["uid"] = Value("uid-\(AnyObjectView(job).name)")
      job["status"] = ["startTime": Value(now)]
      jobs.append(job)
    }
    if let seconds = plan.checkAgainAfter { lines.append("again after \(seconds) s") }
    return lines.joined(separator: "\n")
  }

  private static func next(_ command: GoldenCommand) throws -> String {
    let schedule: CronSchedule
    do { schedule = try CronSchedule(command.arguments[0]) } catch { return "\(error)" }
    var time = try Timestamp(command.value("from") ?? "")
    let offset = (command.integer("zone").map { Int64($0) } ?? 0) * 3600
    var lines: [String] = []
    for _ in 0..<3 {
      guard let next = schedule.next(after: time, offset: { _ in offset }) else {
        lines.append("never")
        break
      }
      lines.append("\(next)")
      time = next
    }
    return lines.joined(separator: "\n")
  }
}

@Suite("Disruptions and taints")
struct DisruptionTests {
  private let now = Timestamp(secondsSinceEpoch: 1_000)

  private func pod(_ name: String, isReady: Bool = true, tolerations: Value = nil) -> PodView {
    PodView([
      "metadata": [
        "name": Value(name), "labels": ["app": "web"],
        "ownerReferences": [
          ["kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true]
        ],
      ],
      "spec": ["tolerations": tolerations],
      "status": [
        "phase": "Running",
        "conditions": [["type": "Ready", "status": isReady ? "True" : "False"]],
      ],
    ])
  }

  private func status(
    _ spec: Value, _ pods: [PodView], granted: Value = nil, wanted: Int64 = 4
  ) -> [Int64] {
    var spec = spec
    spec["selector"] = ["matchLabels": ["app": "web"]]
    let budget = AnyObjectView(["spec": spec, "status": ["disruptedPods": granted]])
    let plan = DisruptionPlan.decide(budget, pods: pods, now: now) { ($0.uid, wanted) }
    return ["expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"]
      .map { plan.status[$0].integer ?? -1 }
  }

  @Test("A budget allows what is healthy beyond what it wants")
  func budgets() {
    let four = ["a", "b", "c", "d"].map { pod($0) }
    #expect(status(["minAvailable": 3], four) == [4, 3, 4, 1])
    #expect(status(["minAvailable": "50%"], four) == [4, 2, 4, 2])
    // Of a workload that wants more than there are, the wanted number counts.
    #expect(status(["maxUnavailable": 1], four, wanted: 6) == [6, 5, 4, 0])
    #expect(status(["maxUnavailable": "25%"], four) == [4, 3, 4, 1])
    #expect(
      status(["minAvailable": 3], four.dropLast() + [pod("d", isReady: false)]) == [4, 3, 3, 0])
    #expect(status(["minAvailable": 1], []) == [0, 1, 0, 0])
  }

  @Test("What was granted doesn't count as healthy until it is done, or two minutes are over")
  func granted() {
    let four = ["a", "b", "c", "d"].map { pod($0) }
    #expect(
      status(["minAvailable": 3], four, granted: ["a": Value(now.adding(.seconds(-10)))])
        == [4, 3, 3, 0])
    #expect(
      status(["minAvailable": 3], four, granted: ["a": Value(now.adding(.seconds(-121)))])
        == [4, 3, 4, 1])
  }

  @Test("A pod leaves a node whose taint it doesn't bear, or no longer")
  func taints() {
    let taint: Value = [
      "key": "k", "effect": "NoExecute", "timeAdded": Value(now.adding(.seconds(-100))),
    ]
    func verdict(_ tolerations: Value) -> TaintEvictionController.Verdict {
      TaintEvictionController.verdict(
        pod("a", tolerations: tolerations), taints: [taint], now: now)
    }
    #expect(verdict([]) == .leaves(inSeconds: 0))
    #expect(verdict([["key": "k", "operator": "Exists"]]) == .stays)
    #expect(
      verdict([["key": "k", "operator": "Exists", "tolerationSeconds": 300]])
        == .leaves(inSeconds: 200))
    #expect(
      verdict([["key": "k", "operator": "Exists", "tolerationSeconds": 60]])
        == .leaves(inSeconds: 0))
    #expect(
      TaintEvictionController.verdict(
        pod("a"), taints: [["key": "k", "effect": "NoSchedule"]], now: now) == .stays)
  }

  @Test("Pods of lost nodes are collected, and the oldest of too many that have ended")
  func garbage() {
    func made(_ name: String, node: String, ended: Bool, age: Int64) -> PodView {
      PodView([
        "metadata": [
          "name": Value(name), "creationTimestamp": Value(now.adding(.seconds(-age))),
        ],
        "spec": ["nodeName": Value(node)], "status": ["phase": ended ? "Failed" : "Running"],
      ])
    }
    let pods = [
      made("lost", node: "gone", ended: false, age: 1),
      made("old", node: "n", ended: true, age: 30), made("new", node: "n", ended: true, age: 10),
      made("runs", node: "n", ended: false, age: 50),
    ]
    let garbage = PodGarbageController.garbage(pods, lostNodes: ["gone"], keeping: 1)
    #expect(garbage.map(\.name) == ["lost", "old"])
  }
}
