import KubeAPI

/// What a Job's controller does next.
///
/// ## The problem
/// A Job counts pods that have ended. A pod may be deleted right after it has ended, and a status may be
/// written without its writer hearing of it; yet each pod must be counted once and only once.
///
/// ## The design
/// Each pod carries a finalizer, which keeps it until it is counted. Counting takes three steps, of which
/// each can be repeated: the uid of a pod that has ended is noted in the status
/// (`uncountedTerminatedPods`); its finalizer is taken away; what is noted and has no finalizer any more goes
/// over into the counts. A Job that is to end first says so (`FailureTarget`, `SuccessCriteriaMet`), ends its
/// pods, and is `Failed` or `Complete` once all of them are counted.
///
/// A pod that is deleted counts as failed, unless the controller itself spared it (a pause, fewer in parallel).
///
/// `decide` is pure; what it asks for is carried out in this order: status, finalizers, deletions,
/// creations. Source: Kubernetes, "Jobs", "Pod failure policy", "Backoff limit per index".
public struct JobPlan: Sendable, Equatable {
  public var status: Value
  /// Pods whose finalizer is to be taken away, once the status is written.
  public var release: [String] = []
  /// Pods to delete that count as failed: the Job has failed, and they with it.
  public var delete: [String] = []
  /// Pods to delete that count for nothing: their finalizer goes first.
  public var drop: [String] = []
  /// Pods to make: their indexes, or nil for a Job without.
  public var create: [Int64?] = []
  /// What to tell: type, reason, message.
  public var events: [Event] = []
  /// Seconds until time alone may change something.
  public var checkAgainAfter: Int64?

  public struct Event: Sendable, Equatable {
    public var isWarning = false
    public var reason: String
    public var message: String
  }

  static let finalizer = "batch.kubernetes.io/job-tracking"
  static let indexKey = "batch.kubernetes.io/job-completion-index"
  /// Pods made in one step.
  static let mostPerStep = 500
  /// Pods noted as uncounted in one write of the status.
  static let mostUncounted = 500
  /// The wait after a pod failed: doubled with each in a row. Source: Kubernetes, "Pod backoff failure policy".
  static let firstBackoff: Int64 = 10
  static let lastBackoff: Int64 = 360

  /// - Parameter pods: those that the Job controls.
  public static func decide(_ job: JobView, pods: [PodView], now: Timestamp) -> JobPlan {
    var decision = JobDecision(job, pods, now)
    decision.run()
    return decision.plan
  }
}

public struct JobView: ObjectView {
  public let object: Value
  public init(_ object: Value) { self.object = object }

  private var spec: Value { object["spec"] }
  public var parallelism: Int64 { spec["parallelism"].integer ?? 1 }
  /// Nil for a Job that is a queue of work: it is done when one pod has succeeded and none runs.
  public var completions: Int64? { spec["completions"].integer }
  public var isIndexed: Bool { spec["completionMode"] == "Indexed" }
  public var backoffLimit: Int64 { spec["backoffLimit"].integer ?? 6 }
  public var backoffLimitPerIndex: Int64? { spec["backoffLimitPerIndex"].integer }
  public var isSuspended: Bool { spec["suspend"] == true }
  public var startTime: Timestamp? { object["status"]["startTime"].timestamp }
  /// When it became `Complete` or `Failed`; nil before.
  public var finishTime: Timestamp? {
    ["Complete", "Failed"].lazy.compactMap { condition($0) }
      .first { $0["status"] == "True" }?["lastTransitionTime"].timestamp
  }
  public var isFinished: Bool {
    ["Complete", "Failed"].contains { condition($0)?["status"] == "True" }
  }
}

/// One decision in the making.
struct JobDecision {
  let job: JobView
  let now: Timestamp
  let pods: [PodView]
  var plan: JobPlan
  /// The status in the making, in an object so that conditions can be set.
  var object: Value
  var succeededIndexes: JobIndexes
  var failedIndexes: JobIndexes
  /// Uids noted as ended whose pods still have the finalizer.
  var uncounted: (succeeded: [String], failed: [String]) = ([], [])

  init(_ job: JobView, _ pods: [PodView], _ now: Timestamp) {
    self.job = job
    self.pods = pods
    self.now = now
    plan = JobPlan(status: job.object["status"])
    object = ["status": job.object["status"].isNull ? [:] : job.object["status"]]
    let limit = job.completions ?? 0
    let status = job.object["status"]
    succeededIndexes = JobIndexes(status["completedIndexes"].string ?? "", below: limit)
    failedIndexes = JobIndexes(status["failedIndexes"].string ?? "", below: limit)
  }

  mutating func run() {
    guard !job.isFinished else { return releaseAll() }
    if job.isBeingDeleted {
      releaseAll()
      return
    }
    count()
    start()
    judge()
    if target?["type"] == "FailureTarget" {
      plan.delete = active.map(\.name)
    } else if target != nil || job.isSuspended {
      plan.drop = active.map(\.name)
    } else {
      scale()
    }
    finish()
    writeCounts()
    plan.status = object["status"]
  }

  /// Pods of a Job that is over are held by nothing.
  private mutating func releaseAll() {
    plan.release = pods.filter { $0.finalizers.contains(JobPlan.finalizer) }.map(\.name)
  }

  // MARK: The pods

  var active: [PodView] { pods.filter { !$0.isFinished && !$0.isBeingDeleted } }
  /// Deleted and not ended yet.
  private var terminating: [PodView] { pods.filter { !$0.isFinished && $0.isBeingDeleted } }

  static func index(of pod: PodView) -> Int64? {
    pod.annotations[JobPlan.indexKey].string.flatMap { Int64($0) }
  }

  private func isNoted(_ pod: PodView) -> Bool {
    uncounted.succeeded.contains(pod.uid) || uncounted.failed.contains(pod.uid)
  }

  // MARK: Counting

  private mutating func count() {
    let noted = job.object["status"]["uncountedTerminatedPods"]
    let held = Dictionary(
      pods.filter { $0.finalizers.contains(JobPlan.finalizer) }.map { ($0.uid, $0) },
      uniquingKeysWith: { first, _ in first })
    for (list, field) in [("succeeded", "succeeded"), ("failed", "failed")] {
      var waiting: [String] = []
      var counted: Int64 = 0
      for uid in noted[list].strings {
        if held[uid] == nil { counted += 1 } else { waiting.append(uid) }
      }
      if list == "succeeded" { uncounted.succeeded = waiting } else { uncounted.failed = waiting }
      if counted > 0, !(job.isIndexed && field == "succeeded") {
        object["status"][field] = Value((object["status"][field].integer ?? 0) + counted)
      }
    }
    var room = JobPlan.mostUncounted - uncounted.succeeded.count - uncounted.failed.count
    for pod in pods where held[pod.uid] != nil {
      guard pod.isFinished || isFailed(pod) else { continue }
      if !isNoted(pod), room > 0 {
        note(pod)
        room -= 1
      }
      if isNoted(pod) || isIgnored(pod) || isIndexCounted(pod) { plan.release.append(pod.name) }
    }
    object["status"]["completedIndexes"] =
      job.isIndexed && succeededIndexes.count > 0 ? Value("\(succeededIndexes)") : .null
    if job.backoffLimitPerIndex != nil {
      object["status"]["failedIndexes"] = Value("\(failedIndexes)")
    }
    if job.isIndexed {
      object["status"]["succeeded"] =
        succeededIndexes.count > 0 ? Value(succeededIndexes.count) : .null
    }
  }

  /// Failed, or deleted, where that is as good.
  func isFailed(_ pod: PodView) -> Bool {
    if pod.phase == .failed { return true }
    // One that was deleted before it had a node has nothing that could end.
    if pod.isBeingDeleted, pod.nodeName.isEmpty { return true }
    return pod.isBeingDeleted && pod.phase != .succeeded
      && job.object["spec"]["podReplacementPolicy"] != "Failed"
  }

  private func isIndexCounted(_ pod: PodView) -> Bool {
    guard job.isIndexed, pod.phase == .succeeded else { return false }
    return Self.index(of: pod).map { succeededIndexes.contains($0) } ?? true
  }

  private func isIgnored(_ pod: PodView) -> Bool {
    pod.phase == .failed && JobFailurePolicy.verdict(job, pod) == .ignore
  }

  private mutating func note(_ pod: PodView) {
    if pod.phase == .succeeded {
      if job.isIndexed {
        // An index counts once, however many pods of it succeed; its set is count enough.
        guard let index = Self.index(of: pod), index < job.completions ?? 0 else { return }
        succeededIndexes.insert(index)
      } else {
        uncounted.succeeded.append(pod.uid)
      }
      return
    }
    switch JobFailurePolicy.verdict(job, pod) {
    case .ignore: return
    case .failIndex:
      if let index = Self.index(of: pod) { failedIndexes.insert(index) }
    case .count, .failJob:
      if let limit = job.backoffLimitPerIndex, let index = Self.index(of: pod),
        JobPods.failures(ofIndexIn: pod) >= limit
      {
        failedIndexes.insert(index)
      }
    }
    uncounted.failed.append(pod.uid)
  }

  /// Failures and successes, those that are only noted yet included.
  var failures: Int64 {
    (object["status"]["failed"].integer ?? 0) + Int64(uncounted.failed.count)
  }
  var successes: Int64 {
    job.isIndexed
      ? succeededIndexes.count
      : (object["status"]["succeeded"].integer ?? 0) + Int64(uncounted.succeeded.count)
  }

  private mutating func writeCounts() {
    let ready = active.filter(\.isReady).count
    object["status"]["active"] = active.isEmpty ? .null : Value(active.count)
    object["status"]["ready"] = Value(ready)
    object["status"]["terminating"] = Value(terminating.count)
    var noted: Value = [:]
    if !uncounted.succeeded.isEmpty { noted["succeeded"] = Value(uncounted.succeeded) }
    if !uncounted.failed.isEmpty { noted["failed"] = Value(uncounted.failed) }
    object["status"]["uncountedTerminatedPods"] = noted
  }
}
