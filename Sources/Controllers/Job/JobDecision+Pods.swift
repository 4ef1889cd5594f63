import KubeAPI

/// How many pods there should be.
extension JobDecision {
  mutating func scale() {
    let running = active
    let terminating = pods.filter { !$0.isFinished && $0.isBeingDeleted }
    // Where the policy says so, a pod is replaced only once it has really ended.
    let waitsForEnd = job.object["spec"]["podReplacementPolicy"] == "Failed"
    let standing = Int64(running.count) + (waitsForEnd ? Int64(terminating.count) : 0)
    var wanted: Int64
    if let completions = job.completions {
      wanted = min(job.parallelism, max(0, completions - successes))
    } else {
      // A queue of work that one pod found empty is not refilled.
      wanted = successes > 0 ? min(Int64(running.count), job.parallelism) : job.parallelism
    }
    if job.isIndexed { return scaleIndexed(wanted, running, terminating, waitsForEnd) }
    if Int64(running.count) > wanted {
      plan.drop = spare(running, Int64(running.count) - wanted)
    } else if standing < wanted {
      if let seconds = backoff(pods) { return wait(seconds) }
      wanted = min(wanted - standing, Int64(JobPlan.mostPerStep))
      plan.create = Array(repeating: nil, count: Int(wanted))
    }
  }

  private mutating func scaleIndexed(
    _ wanted: Int64, _ running: [PodView], _ terminating: [PodView], _ waitsForEnd: Bool
  ) {
    let completions = job.completions ?? 0
    var taken: Set<Int64> = []
    var surplus: [String] = []
    for pod in running {
      // Two pods of one index, or one that isn't wanted: somebody else's doing.
      guard let index = Self.index(of: pod), index < completions,
        !succeededIndexes.contains(index), !failedIndexes.contains(index),
        taken.insert(index).inserted
      else {
        surplus.append(pod.name)
        continue
      }
    }
    if waitsForEnd { taken.formUnion(terminating.compactMap(Self.index)) }
    let count = Int64(taken.count)
    if count > wanted {
      // The highest indexes can best be spared.
      let spared = Set(taken.sorted(by: >).prefix(Int(count - wanted)))
      surplus += running.filter { Self.index(of: $0).map(spared.contains) ?? false }.map(\.name)
    }
    plan.drop = surplus
    var left = min(wanted - count, Int64(JobPlan.mostPerStep))
    if left <= 0 { return }
    if job.backoffLimitPerIndex == nil, let seconds = backoff(pods) { return wait(seconds) }
    var index: Int64 = 0
    while index < completions, left > 0 {
      defer { index += 1 }
      if taken.contains(index) || succeededIndexes.contains(index) || failedIndexes.contains(index)
      {
        continue
      }
      if job.backoffLimitPerIndex != nil,
        let seconds = backoff(pods.filter { Self.index(of: $0) == index })
      {
        wait(seconds)
        continue
      }
      plan.create.append(index)
      left -= 1
    }
  }

  private func spare(_ pods: [PodView], _ count: Int64) -> [String] {
    func rank(_ pod: PodView) -> (Int, Int, Int) {
      (pod.nodeName.isEmpty ? 0 : 1, pod.phase == .pending ? 0 : 1, pod.isReady ? 1 : 0)
    }
    return pods.sorted { left, right in
      if rank(left) != rank(right) { return rank(left) < rank(right) }
      if left.creationTime != right.creationTime {
        return (left.creationTime ?? .distantPast) > (right.creationTime ?? .distantPast)
      }
      return left.name < right.name
    }.prefix(Int(count)).map(\.name)
  }

  /// Seconds left of the wait that failures in a row have earned; nil if there is none.
  private func backoff(_ pods: [PodView]) -> Int64? {
    let ended = pods.filter { $0.isFinished || isFailed($0) }.map { ($0, JobPods.endTime($0)) }
      .sorted { $0.1 > $1.1 }
    let inARow = ended.prefix { $0.0.phase != .succeeded }
    guard let last = inARow.first?.1 else { return nil }
    let doublings = min(inARow.count - 1, 10)
    let delay = min(JobPlan.firstBackoff << Int64(doublings), JobPlan.lastBackoff)
    let left = delay - now.since(last).components.seconds
    return left > 0 ? left : nil
  }
}

/// The pods of a Job's template.
enum JobPods {
  private static let failureCountKey = "batch.kubernetes.io/job-index-failure-count"

  /// How often an index had failed before this pod was made for it.
  static func failures(ofIndexIn pod: PodView) -> Int64 {
    pod.annotations[failureCountKey].string.flatMap { Int64($0) } ?? 0
  }

  /// When a pod's last container ended.
  static func endTime(_ pod: PodView) -> Timestamp {
    let ends = pod.object["status"]["containerStatuses"].elements.compactMap {
      $0["state"]["terminated"]["finishedAt"].timestamp
    }
    return ends.max() ?? pod.condition("Ready")?["lastTransitionTime"].timestamp
      ?? pod.deletionTime ?? pod.creationTime ?? .distantPast
  }

  /// A pod for `index`, or for a Job without indexes.
  static func pod(of job: JobView, index: Int64?, pods: [PodView]) -> Value {
    let template = job.object["spec"]["template"]
    var metadata: Value = ["namespace": Value(job.namespace)]
    for part in ["labels", "annotations"] where !template["metadata"][part].isEmpty {
      metadata[part] = template["metadata"][part]
    }
    metadata["finalizers"] = Value(
      template["metadata"]["finalizers"].strings.filter { $0 != JobPlan.finalizer }
        + [JobPlan.finalizer])
    metadata["ownerReferences"] = [OwnerReference(controller: job.object).value]
    var spec = template["spec"]
    if let index {
      metadata["generateName"] = Value("\(job.name)-\(index)-")
      metadata["annotations"][JobPlan.indexKey] = Value("\(index)")
      metadata["labels"][JobPlan.indexKey] = Value("\(index)")
      if job.backoffLimitPerIndex != nil {
        let earlier = pods.filter { JobDecision.index(of: $0) == index && $0.phase == .failed }
        let counted = earlier.filter { JobFailurePolicy.verdict(job, $0) != .ignore }
          .map { failures(ofIndexIn: $0) + 1 }
        metadata["annotations"][failureCountKey] = Value("\(counted.max() ?? 0)")
      }
      spec.setDefault("hostname", to: Value("\(job.name)-\(index)"))
      let variable: Value = [
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": ["fieldRef": ["fieldPath": Value("metadata.labels['\(JobPlan.indexKey)']")]],
      ]
      for list in ["containers", "initContainers"] {
        for number in spec[list].elements.indices
        where !spec[list][number]["env"].elements.contains(where: {
          $0["name"] == "JOB_COMPLETION_INDEX"
        }) {
          spec[list][number]["env"].append(variable)
        }
      }
    } else {
      metadata["generateName"] = Value("\(job.name)-")
    }
    return ["apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec]
  }
}
