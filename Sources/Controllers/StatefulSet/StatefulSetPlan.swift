import KubeAPI

/// What a StatefulSet's controller does next.
///
/// Pods have numbers and keep their names. In order (`OrderedReady`), each waits until those before it are
/// ready, and they go in the reverse order, one at a time; in `Parallel` none waits. A rolling update replaces
/// one pod at a time, from the highest number down to the partition.
/// Source: Kubernetes, "StatefulSets".
public struct StatefulSetPlan: Sendable, Equatable {
  /// Numbers of pods to make, and whether each is of the new template.
  public var create: [Creation] = []
  public var delete: [String] = []
  /// Failed pods among those to delete, which are made anew.
  public var recreate: [String] = []
  public var status: Value = [:]
  public var checkAgainAfter: Int64?

  public struct Creation: Sendable, Equatable {
    public var ordinal: Int64
    public var isNew: Bool
  }

  static let podNameLabel = "statefulset.kubernetes.io/pod-name"
  static let podIndexLabel = "apps.kubernetes.io/pod-index"

  /// - Parameters:
  ///   - pods: those that the StatefulSet controls.
  ///   - update: the name of the template's revision.
  public static func decide(
    _ set: AnyObjectView, pods: [PodView], update: String, now: Timestamp
  ) -> StatefulSetPlan {
    var decision = Decision(set, pods, update, now)
    if !set.isBeingDeleted { decision.run() }
    decision.writeStatus()
    return decision.plan
  }

  /// The number in a pod's name; nil for a name that isn't the set's.
  static func ordinal(of name: String, in set: String) -> Int64? {
    guard name.hasPrefix(set + "-") else { return nil }
    let digits = name.dropFirst(set.count + 1)
    guard let number = Int64(digits), number >= 0, String(number) == digits else { return nil }
    return number
  }

  /// A pod of a template.
  static func pod(
    of set: AnyObjectView, _ ordinal: Int64, template: Value, hash: String
  ) -> Value {
    let name = "\(set.name)-\(ordinal)"
    var metadata: Value = ["name": Value(name), "namespace": Value(set.namespace)]
    for part in ["labels", "annotations", "finalizers"] where !template["metadata"][part].isEmpty {
      metadata[part] = template["metadata"][part]
    }
    metadata["labels"][podNameLabel] = Value(name)
    metadata["labels"][podIndexLabel] = Value("\(ordinal)")
    metadata["labels"][RevisionPlan.hashLabel] = Value(hash)
    metadata["ownerReferences"] = [OwnerReference(controller: set.object).value]
    var spec = template["spec"]
    spec["hostname"] = Value(name)
    if let service = set.object["spec"]["serviceName"].string, !service.isEmpty {
      spec["subdomain"] = Value(service)
    }
    for claim in set.object["spec"]["volumeClaimTemplates"].elements {
      let volume = claim["metadata"]["name"].string ?? ""
      var volumes = spec["volumes"].elements.filter { $0["name"].string != volume }
      volumes.append([
        "name": Value(volume),
        "persistentVolumeClaim": ["claimName": Value("\(volume)-\(name)")],
      ])
      spec["volumes"] = .array(volumes)
    }
    return ["apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec]
  }
}

extension StatefulSetPlan {
  /// One decision in the making.
  fileprivate struct Decision {
    let set: AnyObjectView
    let update: String
    let current: String
    let now: Timestamp
    let minReadySeconds: Int64
    let start: Int64
    let replicas: Int64
    /// By number, lowest first.
    let pods: [(ordinal: Int64, pod: PodView)]
    var plan = StatefulSetPlan()

    init(_ set: AnyObjectView, _ pods: [PodView], _ update: String, _ now: Timestamp) {
      self.set = set
      self.update = update
      self.now = now
      let known = set.object["status"]["currentRevision"].string ?? ""
      current = known.isEmpty ? update : known
      minReadySeconds = set.object["spec"]["minReadySeconds"].integer ?? 0
      start = set.object["spec"]["ordinals"]["start"].integer ?? 0
      replicas = set.object["spec"]["replicas"].integer ?? 1
      self.pods = pods.compactMap { pod in
        StatefulSetPlan.ordinal(of: pod.name, in: set.name).map { ($0, pod) }
      }.sorted { $0.ordinal < $1.ordinal }
    }

    private var isOrdered: Bool { self.set.object["spec"]["podManagementPolicy"] != "Parallel" }
    private var updateHash: String { RevisionPlan.hash(of: update, owner: set.name) }
    private var currentHash: String { RevisionPlan.hash(of: current, owner: set.name) }
    private func hasTemplate(_ pod: PodView, _ hash: String) -> Bool {
      pod.labels[RevisionPlan.hashLabel].string == hash
    }
    private func isHealthy(_ pod: PodView) -> Bool {
      !pod.isBeingDeleted && pod.phase == .running && pod.isReady
    }
    private func isAvailable(_ pod: PodView) -> Bool {
      isHealthy(pod) && pod.isAvailable(minReadySeconds: minReadySeconds, now: now)
    }
    private func isWanted(_ ordinal: Int64) -> Bool {
      ordinal >= start && ordinal - start < replicas
    }
    private var isOnDelete: Bool {
      self.set.object["spec"]["updateStrategy"]["type"] == "OnDelete"
    }
    private var partition: Int64 {
      self.set.object["spec"]["updateStrategy"]["rollingUpdate"]["partition"].integer ?? 0
    }

    mutating func run() {
      guard fill(), shrink(), !isOnDelete else { return }
      roll()
    }

    /// Makes what is missing.
    ///
    /// - Returns: whether all is there and (in order) ready, so that more may be done.
    private mutating func fill() -> Bool {
      let known = Dictionary(
        pods.map { ($0.ordinal, $0.pod) }, uniquingKeysWith: { first, _ in first })
      var isComplete = true
      for ordinal in start..<(start + max(0, min(replicas, Int64(Int32.max)))) {
        guard let pod = known[ordinal] else {
          // Below the partition pods stay with the old template.
          let isNew = isOnDelete || ordinal >= start + partition
          plan.create.append(Creation(ordinal: ordinal, isNew: isNew))
          isComplete = false
          if isOrdered || plan.create.count >= 500 { return false }
          continue
        }
        if pod.isFinished, !pod.isBeingDeleted {
          plan.delete.append(pod.name)
          plan.recreate.append(pod.name)
          isComplete = false
          if isOrdered { return false }
          continue
        }
        if isOrdered, !isAvailable(pod) {
          noteWait(pod)
          return false
        }
        if pod.isBeingDeleted { isComplete = false }
      }
      return isComplete || !isOrdered
    }

    private mutating func noteWait(_ pod: PodView) {
      guard pod.isReady, let since = pod.condition("Ready")?["lastTransitionTime"].timestamp else {
        return
      }
      let left = minReadySeconds - now.since(since).components.seconds
      if left > 0 { plan.checkAgainAfter = min(plan.checkAgainAfter ?? left, left) }
    }

    /// Deletes what is too many, the highest first.
    private mutating func shrink() -> Bool {
      let condemned = pods.filter { !isWanted($0.ordinal) }.reversed()
      for (_, pod) in condemned {
        if pod.isBeingDeleted {
          if isOrdered { return false }
          continue
        }
        plan.delete.append(pod.name)
        if isOrdered { return false }
      }
      return condemned.isEmpty || !isOrdered
    }

    /// Replaces one pod of the old template.
    private mutating func roll() {
      for (ordinal, pod) in pods.reversed() where isWanted(ordinal) && ordinal >= start + partition
      {
        if !hasTemplate(pod, updateHash), !pod.isBeingDeleted {
          if !plan.delete.contains(pod.name) { plan.delete.append(pod.name) }
          return
        }
        // One after the other: a pod that isn't well holds up those before it.
        if !isAvailable(pod) { return noteWait(pod) }
      }
    }

    mutating func writeStatus() {
      let standing = pods.filter { !$0.pod.isFinished }
      let ready = standing.filter { $0.pod.isReady && $0.pod.phase == .running }
      let updated = standing.filter {
        hasTemplate($0.pod, updateHash) && !$0.pod.isBeingDeleted
      }.count
      var currentCount = standing.filter {
        hasTemplate($0.pod, currentHash) && !$0.pod.isBeingDeleted
      }.count
      var currentName = current
      let isComplete =
        !isOnDelete && Int64(updated) == replicas && Int64(ready.count) == replicas
        && standing.count == updated
      if isComplete {
        currentName = update
        currentCount = updated
      }
      plan.status["observedGeneration"] = Value(set.generation)
      plan.status["replicas"] = Value(standing.count)
      for (name, count) in [
        ("readyReplicas", ready.count), ("currentReplicas", currentCount),
        ("updatedReplicas", updated),
      ] where count > 0 { plan.status[name] = Value(count) }
      plan.status["currentRevision"] = Value(currentName)
      plan.status["updateRevision"] = Value(update)
      plan.status["collisionCount"] = Value(
        set.object["status"]["collisionCount"].integer ?? 0)
      plan.status["availableReplicas"] = Value(standing.filter { isAvailable($0.pod) }.count)
      if !set.object["status"]["conditions"].isNull {
        plan.status["conditions"] = set.object["status"]["conditions"]
      }
    }
  }
}
