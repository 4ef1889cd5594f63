import KubeAPI

/// What a Deployment's controller does next: one step of a rollout, and the status to show.
///
/// ## The problem
/// A Deployment owns a ReplicaSet for each version of its pod template. Going from one version to the next
/// must keep at least `replicas - maxUnavailable` pods available and at most `replicas + maxSurge` alive,
/// whatever happens meanwhile: a new template in the middle of a rollout, pods that never become ready, a
/// change of `replicas`, a pause.
///
/// ## The design
/// `decide` looks only at the objects as they are now and returns the next step; when its effect shows in
/// the cache it is called again. There is no memory between two calls, so a restart in the middle changes
/// nothing. Each step is safe by itself: it never goes below the minimum or above the maximum, counting
/// pods that exist but aren't available as unavailable.
///
/// ## Example
/// Three replicas, surge 1, unavailable 0 (25 % of 3, rounded down), template changed:
///
///     old 3/3 ─ create new with 1 ─▶ old 3, new 1/0 ─ (new pod ready) ─▶ old 2, new 1/1
///      ─▶ old 2, new 2/1 ─▶ old 1, new 2/2 ─▶ ... ─▶ old 0, new 3/3
///
/// Source: Kubernetes, "Deployments".
public struct DeploymentPlan: Sendable, Equatable {
  public enum Step: Sendable, Equatable {
    /// Create this ReplicaSet.
    case create(Value)
    /// Set a ReplicaSet's number of replicas and its annotations about the Deployment.
    case scale(name: String, replicas: Int64, desired: Int64, maximum: Int64)
    /// Set annotations of the new ReplicaSet, its revision among them, and how long its pods must have been
    /// ready (nil: as it is).
    case align(name: String, annotations: Value, minReadySeconds: Int64?)
    /// Delete a ReplicaSet that the history has no room for.
    case delete(name: String, uid: String)
  }

  public var steps: [Step] = []
  /// The revision annotation that the Deployment should carry; nil if it is right.
  public var revision: String?
  public var status: Value
  /// Seconds until time alone may change the status; nil if only events can.
  public var checkAgainAfter: Int64?

  static let revisionKey = "deployment.kubernetes.io/revision"
  static let desiredKey = "deployment.kubernetes.io/desired-replicas"
  static let maximumKey = "deployment.kubernetes.io/max-replicas"
  static let hashLabel = "pod-template-hash"
  /// Annotations of a Deployment that speak of itself alone; all others are copied to its new ReplicaSet
  /// (`kubernetes.io/change-cause`, which `kubectl rollout history` shows, is one).
  static let ownAnnotations: Set<String> = [
    "kubectl.kubernetes.io/last-applied-configuration", revisionKey, desiredKey, maximumKey,
  ]
}

extension DeploymentPlan {
  /// Decides the next step.
  ///
  /// - Parameters:
  ///   - deployment: as it is in the cache.
  ///   - replicaSets: those that it controls.
  ///   - runningOldPods: whether a pod of an old ReplicaSet still exists, which `Recreate` waits for.
  public static func decide(
    _ deployment: DeploymentView, replicaSets: [ReplicaSetView], runningOldPods: Bool,
    now: Timestamp
  ) -> DeploymentPlan {
    let rollout = Rollout(deployment, replicaSets)
    var plan = DeploymentPlan(status: .null)
    if !deployment.isBeingDeleted {
      if rollout.isScalingEvent {
        plan.steps = rollout.scaleAll()
      } else if deployment.isPaused {
        plan.steps = rollout.cleanUp()
      } else {
        plan.revision = rollout.revisionToSet
        if deployment.isRecreate {
          plan.steps = rollout.recreate(runningOldPods: runningOldPods)
        } else {
          plan.steps = rollout.roll()
        }
        if plan.steps.isEmpty { plan.steps = rollout.cleanUp() }
      }
    }
    (plan.status, plan.checkAgainAfter) = rollout.status(steps: plan.steps, now: now)
    return plan
  }
}

/// The ReplicaSets of a Deployment, sorted out.
struct Rollout {
  let deployment: DeploymentView
  /// Sorted by creation, oldest first.
  let all: [ReplicaSetView]
  /// The one whose template is the Deployment's.
  let new: ReplicaSetView?
  let old: [ReplicaSetView]

  init(_ deployment: DeploymentView, _ replicaSets: [ReplicaSetView]) {
    self.deployment = deployment
    let sorted = replicaSets.sorted {
      ($0.creationTime ?? .distantPast, $0.name) < ($1.creationTime ?? .distantPast, $1.name)
    }
    all = sorted
    let wanted = Rollout.comparable(deployment.template)
    let new = sorted.first { Rollout.comparable($0.template) == wanted }
    self.new = new
    old = sorted.filter { $0.uid != new?.uid }
  }

  /// A template without the label that tells ReplicaSets apart.
  private static func comparable(_ template: Value) -> Value {
    var template = template
    template["metadata"]["labels"].remove(DeploymentPlan.hashLabel)
    if template["metadata"]["labels"].isEmpty { template["metadata"].remove("labels") }
    template["metadata"].remove("creationTimestamp")
    if template["metadata"].isEmpty { template.remove("metadata") }
    return template
  }

  var replicas: Int64 { deployment.replicas }
  /// The most pods that may be alive; both counts have 32 bits by the API's rules.
  var maximum: Int64 {
    min(replicas, Int64(Int32.max)) + min(deployment.maxSurge, Int64(Int32.max))
  }
  var totalReplicas: Int64 { all.reduce(0) { $0 + $1.replicas } }

  // MARK: Revisions

  private static func revision(_ object: Value) -> Int64 {
    object["metadata"]["annotations"][DeploymentPlan.revisionKey].string.flatMap { Int64($0) } ?? 0
  }

  /// The revision that the current template has or gets: above all others'.
  private var newRevision: Int64 {
    let highest = old.map { Rollout.revision($0.object) }.max() ?? 0
    if let new, Rollout.revision(new.object) > highest { return Rollout.revision(new.object) }
    return highest + 1
  }

  var revisionToSet: String? {
    let wanted = "\(newRevision)"
    return deployment.annotations[DeploymentPlan.revisionKey].string == wanted ? nil : wanted
  }

  /// Brings the new ReplicaSet in line with what doesn't make a new one: annotations, its revision (where a
  /// rollback has made an old one new again) and `minReadySeconds`.
  private var alignStep: [DeploymentPlan.Step] {
    guard let new else { return [] }
    let wanted = copiedAnnotations.members.filter { new.annotations[$0.key] != $0.value }
    let minReady = new.minReadySeconds == deployment.minReadySeconds
    guard !wanted.isEmpty || !minReady else { return [] }
    return [
      .align(
        name: new.name, annotations: .object(Value.Object(wanted.map { ($0.key, $0.value) })),
        minReadySeconds: minReady ? nil : deployment.minReadySeconds)
    ]
  }

  /// What the new ReplicaSet's annotations must hold, counts apart.
  private var copiedAnnotations: Value {
    var annotations: Value = [:]
    for member in deployment.annotations.members
    where !DeploymentPlan.ownAnnotations.contains(member.key) {
      annotations[member.key] = member.value
    }
    annotations[DeploymentPlan.revisionKey] = Value("\(newRevision)")
    return annotations
  }

  // MARK: Steps

  private func scale(_ set: ReplicaSetView, to count: Int64) -> DeploymentPlan.Step {
    .scale(name: set.name, replicas: count, desired: replicas, maximum: maximum)
  }

  /// Whether `replicas` was changed since the ReplicaSets were last scaled.
  var isScalingEvent: Bool {
    all.contains { set in
      guard set.replicas > 0,
        let desired = set.annotations[DeploymentPlan.desiredKey].string.flatMap({ Int64($0) })
      else { return false }
      return desired != replicas
    }
  }

  /// Spreads a changed number of replicas over the ReplicaSets, in proportion to their sizes.
  func scaleAll() -> [DeploymentPlan.Step] {
    let active = all.filter { $0.replicas > 0 }
    if active.count <= 1 {
      guard let only = active.first ?? new ?? all.last else { return [] }
      return [scale(only, to: replicas)]
    }
    if let new, new.replicas == replicas,
      (new.object["status"]["availableReplicas"].integer ?? 0) == replicas
    {
      return old.filter { $0.replicas > 0 }.map { scale($0, to: 0) }
    }
    // The strategy was changed in the middle of a rolling update.
    guard !deployment.isRecreate else { return recreate(runningOldPods: true) }
    let allowed = replicas > 0 ? maximum : 0
    var left = allowed - totalReplicas
    // The largest first; of equals, growth serves the newer and shrinking the older first.
    let ordered = active.enumerated().sorted {
      let (first, second) = ($0.element.replicas, $1.element.replicas)
      if first != second { return first > second }
      return left > 0 ? $0.offset > $1.offset : $0.offset < $1.offset
    }.map(\.element)
    var sizes: [(set: ReplicaSetView, size: Int64)] = ordered.map { set in
      guard left != 0 else { return (set, set.replicas) }
      var change = share(of: set, allowed: allowed) - set.replicas
      change = left > 0 ? min(max(change, 0), left) : max(min(change, 0), left)
      left -= change
      return (set, set.replicas + change)
    }
    if left != 0 { sizes[0].size = max(0, sizes[0].size + left) }
    return sizes.map { scale($0.set, to: $0.size) }
  }

  /// A ReplicaSet's part of `allowed` pods, as large as its part was of the maximum before, rounded.
  private func share(of set: ReplicaSetView, allowed: Int64) -> Int64 {
    let noted = set.annotations[DeploymentPlan.maximumKey].string.flatMap { Int64($0) }
    // Annotations are anybody's text.
    let before = min(noted ?? totalReplicas, 2 * Int64(Int32.max))
    guard before > 0 else { return set.replicas }
    let (product, overflow) = set.replicas.multipliedReportingOverflow(by: 2 * allowed)
    let (sum, sumOverflow) = product.addingReportingOverflow(before)
    return overflow || sumOverflow ? set.replicas : sum / (2 * before)
  }

  /// One step of a rolling update.
  func roll() -> [DeploymentPlan.Step] {
    guard let new else { return [.create(newReplicaSet(replicas: roomForNew(current: 0)))] }
    if new.replicas > replicas { return alignStep + [scale(new, to: replicas)] }
    if new.replicas < replicas {
      let size = roomForNew(current: new.replicas)
      if size > new.replicas { return alignStep + [scale(new, to: size)] }
    }
    return alignStep + scaleDownOld(new)
  }

  /// The size that the new ReplicaSet may have now.
  private func roomForNew(current: Int64) -> Int64 {
    let room = maximum - totalReplicas
    return room <= 0 ? current : current + min(room, replicas - current)
  }

  private func scaleDownOld(_ new: ReplicaSetView) -> [DeploymentPlan.Step] {
    let active = old.filter { $0.replicas > 0 }
    guard !active.isEmpty else { return [] }
    let minimum = replicas - deployment.maxUnavailable
    let newUnavailable = max(
      0, new.replicas - (new.object["status"]["availableReplicas"].integer ?? 0))
    var mayGo = totalReplicas - minimum - newUnavailable
    guard mayGo > 0 else { return [] }
    var sizes: [String: Int64] = [:]
    // First the pods that serve nobody: they cost no availability.
    for set in active where mayGo > 0 {
      let unavailable = set.replicas - (set.object["status"]["availableReplicas"].integer ?? 0)
      let gone = min(max(0, unavailable), mayGo)
      if gone > 0 { sizes[set.name] = set.replicas - gone }
      mayGo -= gone
    }
    // Then available ones, down to the minimum.
    let available = all.reduce(0) { $0 + ($1.object["status"]["availableReplicas"].integer ?? 0) }
    var surplus = min(mayGo, available - minimum)
    for set in active where surplus > 0 {
      let size = sizes[set.name] ?? set.replicas
      let gone = min(size, surplus)
      if gone > 0 { sizes[set.name] = size - gone }
      surplus -= gone
    }
    return active.compactMap { set in sizes[set.name].map { scale(set, to: $0) } }
  }

  /// Recreate: everything old goes before anything new comes.
  func recreate(runningOldPods: Bool) -> [DeploymentPlan.Step] {
    let active = old.filter { $0.replicas > 0 }
    if !active.isEmpty { return active.map { scale($0, to: 0) } }
    if runningOldPods { return [] }
    guard let new else { return [.create(newReplicaSet(replicas: replicas))] }
    return alignStep + (new.replicas == replicas ? [] : [scale(new, to: replicas)])
  }

  /// Deletes old, empty ReplicaSets beyond the history's limit, the oldest first.
  func cleanUp() -> [DeploymentPlan.Step] {
    let empty = old.filter {
      $0.replicas == 0 && ($0.object["status"]["replicas"].integer ?? 0) == 0
        && ($0.object["status"]["observedGeneration"].integer ?? 0) >= $0.generation
        && !$0.isBeingDeleted
    }
    let surplus = Int64(empty.count) - deployment.revisionHistoryLimit
    guard surplus > 0 else { return [] }
    return empty.sorted { Rollout.revision($0.object) < Rollout.revision($1.object) }
      .prefix(Int(surplus)).map { .delete(name: $0.name, uid: $0.uid) }
  }

  // MARK: The new ReplicaSet

  private func newReplicaSet(replicas count: Int64) -> Value {
    let hash = templateHash
    var template = deployment.template
    template["metadata"]["labels"][DeploymentPlan.hashLabel] = Value(hash)
    var selector = deployment.object["spec"]["selector"]
    selector["matchLabels"][DeploymentPlan.hashLabel] = Value(hash)
    var annotations = copiedAnnotations
    annotations[DeploymentPlan.desiredKey] = Value("\(replicas)")
    annotations[DeploymentPlan.maximumKey] = Value("\(maximum)")
    var spec: Value = ["replicas": Value(count), "selector": selector, "template": template]
    if deployment.minReadySeconds > 0 {
      spec["minReadySeconds"] = Value(deployment.minReadySeconds)
    }
    return [
      "apiVersion": "apps/v1", "kind": "ReplicaSet",
      "metadata": [
        "name": Value("\(deployment.name)-\(hash)"), "namespace": Value(deployment.namespace),
        "labels": template["metadata"]["labels"], "annotations": annotations,
        "ownerReferences": [OwnerReference(controller: deployment.object).value],
      ],
      "spec": spec,
    ]
  }

  private var templateHash: String {
    TemplateHash.name(
      of: Rollout.comparable(deployment.template),
      collisions: deployment.object["status"]["collisionCount"].integer ?? 0)
  }
}

extension Timestamp {
  static let distantPast = Timestamp(secondsSinceEpoch: 0)
}
