import KubeAPI
import TestKit

@testable import Controllers

/// A tiny world in which one Deployment is rolled out: its ReplicaSets, their pods and a clock.
///
/// It does what API server, ReplicaSet controller and nodes would do, and holds every step to the promise of
/// a rolling update: never more pods than `replicas + maxSurge`, never fewer available ones than
/// `replicas - maxUnavailable`, once that was so.
struct RolloutWorld {
  struct Pod {
    var name: String
    var set: String
    var labels: Value
    var created: Int64
    var readySince: Int64?
    /// Asked to end; gone when the nodes are next heard of.
    var isEnding = false
  }

  private(set) var deployment: Value = nil
  private(set) var sets: [String: Value] = [:]
  private(set) var pods: [Pod] = []
  private(set) var clock: Int64 = 1_000_000
  private var made = 0
  /// Whether the promise's two halves held when last looked at.
  private var keepsMaximum = false
  private var keepsMinimum = false
  /// ReplicaSets whose status was made for another `minReadySeconds`.
  private var outdated: Set<String> = []
  /// Whether the ReplicaSets' controller follows every step at once; if not, only their sizes are held to
  /// the maximum, for pods that are to go may still be there.
  var isInStep = true
  /// What broke the promise.
  private(set) var violations: [String] = []

  var view: DeploymentView { DeploymentView(deployment) }
  var now: Timestamp { Timestamp(secondsSinceEpoch: clock) }

  // MARK: The user

  /// Applies `replicas=`, `image=`, `surge=`, `unavailable=`, `min-ready=`, `deadline=`, `history=`,
  /// `annotation=key=value`, `recreate`, `rolling`, `pause` and `resume`.
  mutating func apply(_ command: GoldenCommand) {
    if deployment.isNull {
      deployment = [
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": ["name": "web", "namespace": "default", "uid": "d", "generation": 0],
        "spec": [
          "replicas": 1, "selector": ["matchLabels": ["app": "web"]],
          "template": [
            "metadata": ["labels": ["app": "web"]],
            "spec": ["containers": [["name": "main", "image": "a"]]],
          ],
          "strategy": [
            "type": "RollingUpdate",
            "rollingUpdate": ["maxSurge": "25%", "maxUnavailable": "25%"],
          ],
        ],
      ]
    }
    let before = deployment["spec"]
    for (word, field) in [
      ("replicas", "replicas"), ("min-ready", "minReadySeconds"),
      ("deadline", "progressDeadlineSeconds"), ("history", "revisionHistoryLimit"),
    ] {
      if let number = command.integer(word) { deployment["spec"][field] = Value(number) }
    }
    if let image = command.value("image") {
      deployment["spec"]["template"]["spec"]["containers"][0]["image"] = Value(image)
    }
    for (word, field) in [("surge", "maxSurge"), ("unavailable", "maxUnavailable")] {
      if let text = command.value(word) {
        deployment["spec"]["strategy"]["rollingUpdate"][field] =
          Int64(text).map { Value($0) } ?? Value(text)
      }
    }
    if command.has("recreate") { deployment["spec"]["strategy"] = ["type": "Recreate"] }
    if command.has("pause") { deployment["spec"]["paused"] = true }
    if command.has("resume") { deployment["spec"].remove("paused") }
    if let annotation = command.value("annotation") {
      let parts = annotation.split(separator: "=", maxSplits: 1).map(String.init)
      deployment["metadata"]["annotations"][parts[0]] = Value(parts[1])
    }
    if deployment["spec"] != before {
      deployment["metadata"]["generation"] = Value(view.generation + 1)
    }
    keepsMaximum = false
    keepsMinimum = false
    check("")
  }

  mutating func wait(_ seconds: Int64) { clock += seconds }

  // MARK: The nodes

  /// Lets the oldest pods that aren't ready become so; nil for all of them.
  ///
  /// - Returns: how many did.
  @discardableResult
  mutating func makeReady(_ count: Int?, set: String? = nil) -> Int {
    var left = count ?? .max
    var done = 0
    for index in pods.indices where left > 0 && !pods[index].isEnding {
      guard pods[index].readySince == nil, set == nil || image(of: pods[index].set) == set,
        image(of: pods[index].set) != "broken"
      else { continue }
      pods[index].readySince = clock
      left -= 1
      done += 1
    }
    return done
  }

  mutating func fail(_ count: Int) {
    keepsMinimum = false
    var left = count
    for index in pods.indices where left > 0 && pods[index].readySince != nil {
      pods[index].readySince = nil
      left -= 1
    }
  }

  /// - Returns: how many pods that were asked to end have ended.
  @discardableResult
  mutating func endPods() -> Int {
    let before = pods.count
    pods.removeAll(where: \.isEnding)
    return before - pods.count
  }

  // MARK: The controllers

  /// One call of the Deployment controller; its steps as text.
  mutating func stepDeployment() -> (lines: [String], checkAgain: Int64?) {
    let plan = DeploymentPlan.decide(
      view, replicaSets: sets.values.map { ReplicaSetView($0) },
      runningOldPods: Rollout(view, sets.values.map { ReplicaSetView($0) }).old.contains { set in
        pods.contains { $0.set == set.name }
      }, now: now)
    var lines: [String] = []
    for step in plan.steps {
      lines.append(carryOut(step))
      check(lines.last!)
    }
    if let revision = plan.revision {
      deployment["metadata"]["annotations"][DeploymentPlan.revisionKey] = Value(revision)
    }
    deployment["status"] = plan.status
    return (lines, plan.checkAgainAfter)
  }

  private mutating func carryOut(_ step: DeploymentPlan.Step) -> String {
    switch step {
    case .create(var set):
      let name = ReplicaSetView(set).name
      set["metadata"]["uid"] = Value("uid-\(name)")
      set["metadata"]["generation"] = 1
      made += 1
      set["metadata"]["creationTimestamp"] = Value(
        Timestamp(secondsSinceEpoch: clock - 10_000 + Int64(made)))
      sets[name] = set
      return "create \(label(name)) with \(ReplicaSetView(set).replicas)"
    case .scale(let name, let replicas, let desired, let maximum):
      let before = ReplicaSetView(sets[name]!).replicas
      sets[name]!["spec"]["replicas"] = Value(replicas)
      sets[name]!["metadata"]["annotations"][DeploymentPlan.desiredKey] = Value("\(desired)")
      sets[name]!["metadata"]["annotations"][DeploymentPlan.maximumKey] = Value("\(maximum)")
      sets[name]!["metadata"]["generation"] = Value(ReplicaSetView(sets[name]!).generation + 1)
      return "scale \(label(name)) from \(before) to \(replicas)"
    case .align(let name, let annotations, let minReadySeconds):
      for member in annotations.members {
        sets[name]!["metadata"]["annotations"][member.key] = member.value
      }
      if let minReadySeconds {
        sets[name]!["spec"]["minReadySeconds"] = Value(minReadySeconds)
        // Pods that were available may not be any longer, which the status doesn't say yet.
        keepsMinimum = false
        outdated.insert(name)
      }
      let texts = annotations.members.map { "\($0.key)=\($0.value.string ?? "")" }
      return
        (["align \(label(name))"] + texts
        + (minReadySeconds.map { ["minReadySeconds=\($0)"] } ?? [])).joined(separator: " ")
    case .delete(let name, _):
      defer { sets[name] = nil }
      return "delete \(label(name))"
    }
  }

  /// One call of the ReplicaSet controller for each ReplicaSet.
  mutating func stepReplicaSets() {
    for name in sets.keys.sorted() { stepReplicaSet(name) }
  }

  mutating func stepReplicaSet(_ name: String) {
    guard let object = sets[name] else { return }
    let set = ReplicaSetView(object)
    let plan = ReplicaSetPlan.decide(set, pods: pods.map { podView($0) }, now: now)
    for _ in 0..<plan.create {
      made += 1
      pods.append(
        Pod(
          name: "\(name)-\(made)", set: name,
          labels: ReplicaSetPlan.pod(of: set)["metadata"]["labels"], created: clock))
    }
    for gone in plan.delete {
      pods[pods.firstIndex { $0.name == gone }!].isEnding = true
    }
    sets[name]!["status"] = plan.status
    outdated.remove(name)
    check("pods of \(label(name))")
  }

  private func podView(_ pod: Pod) -> PodView {
    var object: Value = [
      "metadata": [
        "name": Value(pod.name), "uid": Value(pod.name), "labels": pod.labels,
        "creationTimestamp": Value(Timestamp(secondsSinceEpoch: pod.created)),
        "ownerReferences": [OwnerReference(controller: sets[pod.set] ?? nil).value],
      ],
      "spec": ["nodeName": "node"], "status": ["phase": "Running"],
    ]
    if pod.isEnding { object["metadata"]["deletionTimestamp"] = Value(now) }
    if let since = pod.readySince {
      object["status"]["conditions"] = [
        [
          "type": "Ready", "status": "True",
          "lastTransitionTime": Value(Timestamp(secondsSinceEpoch: since)),
        ]
      ]
    }
    return PodView(object)
  }

  // MARK: The promise

  private func isAvailable(_ pod: Pod) -> Bool {
    guard let since = pod.readySince, !pod.isEnding, let set = sets[pod.set] else { return false }
    return clock - since >= ReplicaSetView(set).minReadySeconds
  }

  private mutating func check(_ step: String) {
    guard !view.isRecreate else { return }
    let alive = pods.filter { !$0.isEnding }.count
    let wanted = sets.values.reduce(0) { $0 + ReplicaSetView($1).replicas }
    let most = view.replicas + view.maxSurge
    if keepsMaximum, isInStep && alive > most || wanted > most {
      violations.append("\(step): \(alive) pods alive, \(wanted) wanted, at most \(most) allowed")
    }
    keepsMaximum = (!isInStep || alive <= most) && wanted <= most
    // What stays available once every ReplicaSet has its size.
    let staying = sets.keys.reduce(0) { sum, name in
      let available = pods.filter { $0.set == name && isAvailable($0) }.count
      return sum + min(available, Int(ReplicaSetView(sets[name]!).replicas))
    }
    let least = Int(view.replicas - view.maxUnavailable)
    if keepsMinimum, staying < least {
      violations.append("\(step): \(staying) pods stay available, at least \(least) promised")
    }
    // The controller can only keep what it has been told of.
    let told = sets.filter { !outdated.contains($0.key) }.values.reduce(0) { sum, set in
      sum + min(set["status"]["availableReplicas"].integer ?? 0, ReplicaSetView(set).replicas)
    }
    keepsMinimum = staying >= least && told >= least
  }

  /// After a change of `replicas`, sizes follow in proportion, which promises nothing.
  mutating func forgetPromise() {
    keepsMaximum = false
    keepsMinimum = false
  }

  // MARK: Text

  func image(of set: String) -> String {
    sets[set]?["spec"]["template"]["spec"]["containers"][0]["image"].string ?? "?"
  }

  private func label(_ set: String) -> String { image(of: set) }

  /// `a 2/3` for each ReplicaSet with pods: available and wanted.
  var summary: String {
    let parts = sets.values.map { ReplicaSetView($0) }
      .sorted { ($0.creationTime!, $0.name) < ($1.creationTime!, $1.name) }
      .compactMap { set -> String? in
        let own = pods.filter { $0.set == set.name }
        guard !own.isEmpty || set.replicas > 0 else { return nil }
        let ending = own.filter(\.isEnding).count
        return "\(label(set.name)) \(own.filter { isAvailable($0) }.count)/\(set.replicas)"
          + (ending > 0 ? " (\(ending) ending)" : "")
      }
    return parts.isEmpty ? "no pods" : parts.joined(separator: ", ")
  }

  /// What `kubectl rollout status` would print, by Kubernetes' documentation of the fields.
  var rolloutStatus: String {
    let status = deployment["status"]
    func count(_ field: String) -> Int64 { status[field].integer ?? 0 }
    guard view.generation <= count("observedGeneration") else {
      return "Waiting for deployment spec update to be observed..."
    }
    if view.condition("Progressing")?["reason"] == "ProgressDeadlineExceeded" {
      return "error: deployment \"web\" exceeded its progress deadline"
    }
    if count("updatedReplicas") < view.replicas {
      return
        "Waiting: \(count("updatedReplicas")) out of \(view.replicas) new replicas have been updated..."
    }
    if count("replicas") > count("updatedReplicas") {
      return
        "Waiting: \(count("replicas") - count("updatedReplicas")) old replicas are pending termination..."
    }
    if count("availableReplicas") < count("updatedReplicas") {
      return
        "Waiting: \(count("availableReplicas")) of \(count("updatedReplicas")) updated replicas are available..."
    }
    return "deployment \"web\" successfully rolled out"
  }

  var conditions: String {
    view.conditions.map { condition in
      let updated = condition["lastUpdateTime"].timestamp.map {
        "\($0.secondsSinceEpoch - 1_000_000)s"
      }
      return "\(condition["type"].string!)=\(condition["status"].string!) "
        + "\(condition["reason"].string!) (updated at \(updated ?? "never"))"
    }.sorted().joined(separator: "\n")
  }

  var history: String {
    sets.values.map { set in
      let view = ReplicaSetView(set)
      let cause = view.annotations["kubernetes.io/change-cause"].string.map { " \($0)" } ?? ""
      return (
        Int64(view.annotations[DeploymentPlan.revisionKey].string ?? "0")!,
        "revision \(view.annotations[DeploymentPlan.revisionKey].string ?? "?"): "
          + "\(label(view.name)) replicas=\(view.replicas)\(cause)"
      )
    }.sorted { $0.0 < $1.0 }.map(\.1).joined(separator: "\n")
      + "\ndeployment is at revision \(view.annotations[DeploymentPlan.revisionKey].string ?? "?")"
  }
}
