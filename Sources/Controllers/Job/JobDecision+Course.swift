import KubeAPI

/// Beginning, pausing and ending.
extension JobDecision {
  /// What the Job has been decided to become, in its interim condition.
  var target: Value? {
    ["FailureTarget", "SuccessCriteriaMet"].lazy.compactMap { AnyObjectView(object).condition($0) }
      .first { $0["status"] == "True" }
  }

  /// Notes when the Job began, and pauses.
  mutating func start() {
    let known = job.condition("Suspended")
    if job.isSuspended {
      if known?["status"] != "True" {
        object.setCondition(
          "Suspended", status: "True", reason: "JobSuspended", message: "Job suspended", now: now,
          extra: ["lastProbeTime": Value(now)])
        plan.events.append(JobPlan.Event(reason: "Suspended", message: "Job suspended"))
      }
      // The time of a pause doesn't count against the deadline.
      object["status"].remove("startTime")
      return
    }
    if known?["status"] == "True" {
      object.setCondition(
        "Suspended", status: "False", reason: "JobResumed", message: "Job resumed", now: now,
        extra: ["lastProbeTime": Value(now)])
      plan.events.append(JobPlan.Event(reason: "Resumed", message: "Job resumed"))
    }
    if job.startTime == nil { object["status"]["startTime"] = Value(now) }
  }

  // MARK: The end

  /// Decides whether the Job has come to its end, and which.
  mutating func judge() {
    guard target == nil else { return }
    if let failure = failure {
      return set("FailureTarget", failure.reason, failure.message)
    }
    guard !job.isSuspended || job.completions.map({ successes >= $0 }) ?? false else { return }
    if let success = SuccessPolicy.reached(job, succeededIndexes) {
      return set("SuccessCriteriaMet", "SuccessPolicy", success)
    }
    let isComplete: Bool
    if let completions = job.completions {
      let failed = job.backoffLimitPerIndex == nil ? 0 : failedIndexes.count
      if failed > 0, successes + failed >= completions, active.isEmpty {
        return set("FailureTarget", "FailedIndexes", "Job has failed indexes")
      }
      isComplete = successes >= completions
    } else {
      isComplete = successes > 0 && active.isEmpty
    }
    if isComplete {
      set(
        "SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods")
    }
  }

  private mutating func set(_ type: String, _ reason: String, _ message: String) {
    object.setCondition(
      type, status: "True", reason: reason, message: message, now: now,
      extra: ["lastProbeTime": Value(now)])
  }

  private var failure: (reason: String, message: String)? {
    for pod in pods where pod.phase == .failed {
      if case .failJob = JobFailurePolicy.verdict(job, pod) {
        return ("PodFailurePolicy", JobFailurePolicy.message(job, pod))
      }
    }
    if failures > job.backoffLimit || restarts {
      return ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    }
    if let seconds = job.object["spec"]["activeDeadlineSeconds"].integer, !job.isSuspended,
      let start = job.startTime, now.since(start) >= .seconds(seconds)
    {
      return ("DeadlineExceeded", "Job was active longer than specified deadline")
    }
    if let most = job.object["spec"]["maxFailedIndexes"].integer, failedIndexes.count > most {
      return (
        "MaxFailedIndexesExceeded",
        "Job has exceeded the specified maximal number of failed indexes"
      )
    }
    return nil
  }

  /// Whether containers that are restarted in place have failed too often.
  private var restarts: Bool {
    guard job.object["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure" else {
      return false
    }
    var count: Int64 = 0
    for pod in pods where pod.phase == .running || pod.phase == .pending {
      for list in ["initContainerStatuses", "containerStatuses"] {
        for status in pod.object["status"][list].elements {
          count += status["restartCount"].integer ?? 0
        }
      }
    }
    return job.backoffLimit == 0 ? count > 0 : count >= job.backoffLimit
  }

  /// Turns the decision into the final condition once every pod has ended and is counted.
  mutating func finish() {
    guard let target else {
      if let seconds = job.object["spec"]["activeDeadlineSeconds"].integer, !job.isSuspended {
        let begun = job.startTime ?? now
        wait(seconds - now.since(begun).components.seconds)
      }
      return
    }
    let isQuiet =
      plan.delete.isEmpty && plan.drop.isEmpty && uncounted.succeeded.isEmpty
      && uncounted.failed.isEmpty
      && pods.allSatisfy(\.isFinished)
    guard isQuiet else { return }
    let isFailure = target["type"] == "FailureTarget"
    let reason = target["reason"].string ?? ""
    let message = target["message"].string ?? ""
    object.setCondition(
      isFailure ? "Failed" : "Complete", status: "True", reason: reason, message: message,
      now: now, extra: ["lastProbeTime": Value(now)])
    if isFailure {
      plan.events.append(JobPlan.Event(isWarning: true, reason: reason, message: message))
    } else {
      object["status"]["completionTime"] = Value(now)
      plan.events.append(JobPlan.Event(reason: "Completed", message: "Job completed"))
    }
  }

  mutating func wait(_ seconds: Int64) {
    guard seconds > 0 else { return }
    plan.checkAgainAfter = min(plan.checkAgainAfter ?? seconds, seconds)
  }
}

/// When an Indexed Job has succeeded though not all its indexes have. Source: Kubernetes, "Success policy".
enum SuccessPolicy {
  static func reached(_ job: JobView, _ succeeded: JobIndexes) -> String? {
    for (number, rule) in job.object["spec"]["successPolicy"]["rules"].elements.enumerated() {
      let count = rule["succeededCount"].integer
      var relevant = succeeded.members
      var needed = count
      if let text = rule["succeededIndexes"].string {
        let wanted = JobIndexes(text, below: job.completions ?? 0)
        relevant.formIntersection(wanted.members)
        needed = count ?? wanted.count
      }
      if let needed, Int64(relevant.count) >= needed, needed > 0 {
        return "Matched rules at index \(number)"
      }
    }
    return nil
  }
}
