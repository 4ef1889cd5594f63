import KubeAPI

extension Rollout {
  private static func sum(_ sets: [ReplicaSetView], _ field: String) -> Int64 {
    sets.reduce(0) { $0 + ($1.object["status"][field].integer ?? 0) }
  }

  /// The status to write, and after how many seconds the progress deadline will have passed.
  func status(
    steps: [DeploymentPlan.Step], now: Timestamp
  ) -> (status: Value, checkAgainAfter: Int64?) {
    let before = deployment.object["status"]
    let total = Rollout.sum(all, "replicas")
    let updated = new.map { Rollout.sum([$0], "replicas") } ?? 0
    let ready = Rollout.sum(all, "readyReplicas")
    let available = Rollout.sum(all, "availableReplicas")
    var object: Value = ["status": [:]]
    object["status"]["observedGeneration"] = Value(deployment.generation)
    // Kubernetes leaves counts of zero out.
    for (name, count) in [
      ("replicas", total), ("updatedReplicas", updated), ("readyReplicas", ready),
      ("availableReplicas", available), ("unavailableReplicas", max(0, totalReplicas - available)),
    ] where count > 0 {
      object["status"][name] = Value(count)
    }
    if let collisions = before["collisionCount"].integer {
      object["status"]["collisionCount"] = Value(collisions)
    }
    object["status"]["conditions"] = before["conditions"].isNull ? [] : before["conditions"]

    // Recreate tolerates none that is missing, though it makes all go.
    let tolerated = deployment.isRecreate ? 0 : deployment.maxUnavailable
    let isEnough = available >= replicas - tolerated
    setCondition(
      &object, "Available", isEnough ? "True" : "False",
      isEnough ? "MinimumReplicasAvailable" : "MinimumReplicasUnavailable",
      isEnough
        ? "Deployment has minimum availability."
        : "Deployment does not have minimum availability.", hasProgressed: false, now)
    let deadline = progress(
      &object, steps: steps, before: before,
      counts: (total: total, updated: updated, ready: ready, available: available), now: now)
    return (object["status"], deadline)
  }

  /// Sets the Progressing condition, which `kubectl rollout status` reads.
  private func progress(
    _ object: inout Value, steps: [DeploymentPlan.Step], before: Value,
    counts: (total: Int64, updated: Int64, ready: Int64, available: Int64), now: Timestamp
  ) -> Int64? {
    let condition = deployment.condition("Progressing")
    let reason = condition?["reason"].string
    guard deployment.progressDeadlineSeconds < Int64(Int32.max) else {
      // No deadline: no judgement on progress.
      let others = object["status"]["conditions"].elements.filter { $0["type"] != "Progressing" }
      object["status"]["conditions"] = .array(others)
      return nil
    }
    if deployment.isPaused {
      // A pause doesn't excuse a rollout that was stuck before.
      if reason != "ProgressDeadlineExceeded" {
        setCondition(
          &object, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused",
          hasProgressed: false, now)
      }
      return nil
    }
    for case .create(let set) in steps {
      setCondition(
        &object, "Progressing", "True", "NewReplicaSetCreated",
        "Created new replica set \"\(AnyObjectView(set).name)\"", hasProgressed: true, now)
      return deployment.progressDeadlineSeconds
    }
    guard let new else { return nil }
    // A rollout that is over stays over, whatever becomes of its pods.
    if reason == "NewReplicaSetAvailable", counts.total == counts.updated, counts.total > 0 {
      return nil
    }
    let isComplete =
      counts.updated == replicas && counts.total == replicas && counts.available == replicas
    if isComplete {
      setCondition(
        &object, "Progressing", "True", "NewReplicaSetAvailable",
        "ReplicaSet \"\(new.name)\" has successfully progressed.", hasProgressed: false, now)
      return nil
    }
    func past(_ field: String) -> Int64 { before[field].integer ?? 0 }
    let hasProgressed =
      counts.updated > past("updatedReplicas")
      || counts.total - counts.updated < past("replicas") - past("updatedReplicas")
      || counts.ready > past("readyReplicas") || counts.available > past("availableReplicas")
    // The condition speaks of one ReplicaSet, or of none (a pause): another one's time begins anew.
    let isBeginning =
      reason == "NewReplicaSetAvailable"
      || condition?["message"].string?.contains("\"\(new.name)\"") != true
    let since = condition?["lastUpdateTime"].timestamp ?? now
    let waited = isBeginning || hasProgressed ? 0 : now.since(since).components.seconds
    if !hasProgressed, !isBeginning,
      reason == "ProgressDeadlineExceeded" || waited >= deployment.progressDeadlineSeconds
    {
      setCondition(
        &object, "Progressing", "False", "ProgressDeadlineExceeded",
        "ReplicaSet \"\(new.name)\" has timed out progressing.", hasProgressed: false, now)
      return nil
    }
    // Waiting is nothing new to say.
    if !hasProgressed, !isBeginning { return max(1, deployment.progressDeadlineSeconds - waited) }
    setCondition(
      &object, "Progressing", "True", "ReplicaSetUpdated",
      "ReplicaSet \"\(new.name)\" is progressing.", hasProgressed: hasProgressed, now)
    return deployment.progressDeadlineSeconds
  }

  /// Sets a condition; its update time moves when it says something new or the rollout came further.
  private func setCondition(
    _ object: inout Value, _ type: String, _ status: String, _ reason: String, _ message: String,
    hasProgressed: Bool, _ now: Timestamp
  ) {
    let before = deployment.condition(type)
    let isSame =
      before?["status"].string == status && before?["reason"].string == reason
      && before?["message"].string == message
    let updated = isSame && !hasProgressed ? before!["lastUpdateTime"] : Value(now)
    object.setCondition(
      type, status: status, reason: reason, message: message, now: now,
      extra: ["lastUpdateTime": updated])
  }
}
