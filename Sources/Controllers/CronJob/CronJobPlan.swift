import KubeAPI

/// What a CronJob's controller does next: the Jobs to start, to end and to forget.
///
/// Source: Kubernetes, "CronJob".
struct CronJobPlan: Equatable {
  var create: Value?
  /// Running Jobs that the new one replaces.
  var replace: [String] = []
  /// Finished Jobs that the history has no room for.
  var delete: [String] = []
  var status: Value = [:]
  var events: [JobPlan.Event] = []
  /// Seconds until the next time of the schedule.
  var checkAgainAfter: Int64?

  static let scheduledKey = "batch.kubernetes.io/cronjob-scheduled-timestamp"
  /// More missed times than these are told of. Source: Kubernetes, "Job delays".
  private static let mostMissed = 100

  /// - Parameters:
  ///   - jobs: those that the CronJob controls.
  ///   - offset: seconds east of Greenwich at a moment in a named zone (nil: the controllers' own).
  static func decide(
    _ cron: AnyObjectView, jobs: [JobView], now: Timestamp,
    offset: (_ zone: String?, Timestamp) -> Int64?
  ) -> CronJobPlan {
    var plan = CronJobPlan(status: cron.object["status"].isNull ? [:] : cron.object["status"])
    plan.observe(cron, jobs)
    plan.forget(cron, jobs)
    guard !cron.isBeingDeleted, cron.object["spec"]["suspend"] != true else { return plan }
    let zone = cron.object["spec"]["timeZone"].string
    guard offset(zone, now) != nil else {
      plan.events.append(
        JobPlan.Event(
          isWarning: true, reason: "UnknownTimeZone",
          message: "invalid timeZone: \(quoted(zone ?? "")): unknown time zone \(zone ?? "")"))
      return plan
    }
    do throws(CronSchedule.Failure) {
      let schedule = try CronSchedule(cron.object["spec"]["schedule"].string ?? "")
      plan.start(cron, jobs, schedule, now) { offset(zone, $0) ?? 0 }
    } catch {
      plan.events.append(
        JobPlan.Event(
          isWarning: true, reason: "UnparseableSchedule",
          message: "unparseable schedule: \(error.description)"))
    }
    return plan
  }

  /// Keeps the list of running Jobs, and when one last succeeded.
  private mutating func observe(_ cron: AnyObjectView, _ jobs: [JobView]) {
    var active: [Value] = []
    for job in jobs {
      let known = cron.object["status"]["active"].elements.first { $0["uid"].string == job.uid }
      if !job.isFinished {
        active.append(known ?? Self.reference(to: job))
        continue
      }
      if known != nil {
        let end = job.condition("Complete")?["status"] == "True" ? "Complete" : "Failed"
        events.append(
          JobPlan.Event(
            reason: "SawCompletedJob", message: "Saw completed job: \(job.name), condition: \(end)")
        )
      }
      if let time = job.object["status"]["completionTime"].timestamp,
        time > status["lastSuccessfulTime"].timestamp ?? .distantPast
      {
        status["lastSuccessfulTime"] = Value(time)
      }
    }
    status["active"] = active.isEmpty ? .null : .array(active)
  }

  private static func reference(to job: JobView) -> Value {
    [
      "kind": "Job", "apiVersion": "batch/v1", "namespace": Value(job.namespace),
      "name": Value(job.name), "uid": Value(job.uid),
      "resourceVersion": Value(job.resourceVersion),
    ]
  }

  private mutating func forget(_ cron: AnyObjectView, _ jobs: [JobView]) {
    for (type, key, standard) in [
      ("Complete", "successfulJobsHistoryLimit", Int64(3)), ("Failed", "failedJobsHistoryLimit", 1),
    ] {
      let limit = cron.object["spec"][key].integer ?? standard
      let ended = jobs.filter { $0.condition(type)?["status"] == "True" && !$0.isBeingDeleted }
        .sorted {
          ($0.startTime ?? .distantPast, $0.name) < ($1.startTime ?? .distantPast, $1.name)
        }
      delete += ended.dropLast(Int(min(limit, Int64(ended.count)))).map(\.name)
    }
  }

  private mutating func start(
    _ cron: AnyObjectView, _ jobs: [JobView], _ schedule: CronSchedule, _ now: Timestamp,
    _ offset: (Timestamp) -> Int64
  ) {
    let (due, missed) = lastTime(cron, schedule, now, offset)
    if let next = schedule.next(after: now, offset: offset) {
      checkAgainAfter = max(1, next.since(now).components.seconds)
    }
    guard let due else { return }
    if missed > Self.mostMissed {
      events.append(
        JobPlan.Event(
          isWarning: true, reason: "TooManyMissedTimes",
          message: "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or "
            + "check clock skew"))
    }
    if let deadline = cron.object["spec"]["startingDeadlineSeconds"].integer,
      now.since(due) > .seconds(deadline)
    {
      events.append(
        JobPlan.Event(
          isWarning: true, reason: "MissSchedule",
          message: "Missed scheduled time to start a job: \(due)"))
      return
    }
    let name = "\(cron.name)-\(due.secondsSinceEpoch / 60)"
    // It was started, and the status that would say so was not written.
    if jobs.contains(where: { $0.name == name }) {
      status["lastScheduleTime"] = Value(due)
      return
    }
    let running = jobs.filter { !$0.isFinished }
    switch cron.object["spec"]["concurrencyPolicy"].string {
    case "Forbid" where !running.isEmpty:
      events.append(
        JobPlan.Event(
          reason: "JobAlreadyActive",
          message: "Not starting job because prior execution is running and concurrency policy is "
            + "Forbid"))
      return
    case "Replace": replace = running.map(\.name)
    default: break
    }
    create = Self.job(of: cron, name: name, due: due)
    status["lastScheduleTime"] = Value(due)
  }

  /// The newest time of the schedule that has come, since the last one that was seen to.
  private func lastTime(
    _ cron: AnyObjectView, _ schedule: CronSchedule, _ now: Timestamp,
    _ offset: (Timestamp) -> Int64
  ) -> (time: Timestamp?, missed: Int) {
    var begin =
      cron.object["status"]["lastScheduleTime"].timestamp ?? cron.creationTime ?? now
    if let deadline = cron.object["spec"]["startingDeadlineSeconds"].integer {
      let earliest = now.adding(.seconds(-min(deadline, 366 * 86_400)))
      if earliest > begin { begin = earliest }
    }
    // After a long sleep only the last day's times are looked at: of all that was missed one counts.
    let window = now.adding(.seconds(-86_400))
    var missed = 0
    if begin < window, let recent = schedule.next(after: window, offset: offset), recent <= now {
      begin = window
      missed = Self.mostMissed + 1
    }
    var last: Timestamp?
    while let next = schedule.next(after: begin, offset: offset), next <= now {
      last = next
      begin = next
      missed += 1
    }
    return (last, missed)
  }

  private static func job(of cron: AnyObjectView, name: String, due: Timestamp) -> Value {
    let template = cron.object["spec"]["jobTemplate"]
    var metadata: Value = ["name": Value(name), "namespace": Value(cron.namespace)]
    for part in ["labels", "annotations"] where !template["metadata"][part].isEmpty {
      metadata[part] = template["metadata"][part]
    }
    metadata["annotations"][scheduledKey] = Value(due)
    metadata["ownerReferences"] = [OwnerReference(controller: cron.object).value]
    return [
      "kind": "Job", "apiVersion": "batch/v1", "metadata": metadata, "spec": template["spec"],
    ]
  }
}

private func quoted(_ text: String) -> String { "\"\(text)\"" }
