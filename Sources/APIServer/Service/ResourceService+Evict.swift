import EtcdClient
import HTTPServer
import KubeAPI
import Primitives

extension ResourceService {
  /// Deletes a pod unless its disruption budget forbids. Source: Kubernetes, "API-initiated Eviction".
  func evict(_ call: Call) async throws(StatusError) -> HTTPResponse {
    var options = try WriteOptions(call.request, kind: "CreateOptions")
    let answers = try Answers(call.request, now: environment.now, allowsForms: false)
    let kind = GroupVersionKind(group: "policy", version: "v1", kind: "Eviction")
    let eviction = try RequestBody.parse(call.request, kind: kind).value
    let name = eviction["metadata"]["name"].string ?? call.info.name
    if name != call.info.name {
      throw .badRequest("name in URL does not match name in Eviction object")
    }
    let wishes = eviction["deleteOptions"]
    if wishes["dryRun"].strings.contains("All") { options.isDryRun = true }
    guard let pod = try await current(call) else { throw notFound(call) }
    var wish = DeleteOptions()
    wish.gracePeriodSeconds = wishes["gracePeriodSeconds"].integer
    wish.uid = wishes["preconditions"]["uid"].string ?? pod.uid
    if Self.countsForBudgets(pod.value) {
      try await spendBudget(for: pod, options)
      try await noteEviction(of: pod, call.resource, options)
    }
    guard
      try await delete(key: call.key, name: call.info.name, of: call.resource, wish, options) != nil
    else { throw notFound(call) }
    var status = Value.successStatus(name: "", group: "", kind: "", uid: "")
    status["details"] = .null
    status["code"] = 201
    return answers.plain(status, status: 201)
  }

  private static func countsForBudgets(_ pod: Value) -> Bool {
    let phase = pod["status"]["phase"].string ?? ""
    return phase != "Succeeded" && phase != "Failed" && phase != "Pending"
      && pod["metadata"]["deletionTimestamp"].isNull
  }

  /// Says in the pod why it goes.
  private func noteEviction(
    of pod: StoredObject, _ resource: ResourceDefinition, _ options: WriteOptions
  ) async throws(StatusError) {
    for _ in 0..<Limits.writeAttempts {
      let (key, store) = (pod.key, store)
      let record = try await storing { () throws(StoreError) in try await store.get(key).record }
      guard let record else { return }
      let current = try object(record, of: resource)
      guard current.uid == pod.uid else { return }
      var changed = current.value
      changed.setCondition(
        "DisruptionTarget", status: "True", reason: "EvictionByEvictionAPI",
        message: "Eviction API: evicting", now: environment.now())
      if try await replace(current, with: changed, in: resource, subresource: "status", options)
        != nil
      {
        return
      }
    }
  }

  /// Takes one disruption from the pod's budget, if it has one.
  private func spendBudget(
    for pod: StoredObject, _ options: WriteOptions
  ) async throws(StatusError) {
    let policy = GroupVersion(group: "policy", version: "v1")
    guard let resource = scheme().resource(policy, "poddisruptionbudgets") else { return }
    for _ in 0..<Limits.writeAttempts {
      let page = try await page(resource, namespace: pod.namespace, ListOptions())
      let budgets = page.objects.filter { budget in
        guard !budget.value["spec"]["selector"].isNull else { return false }
        let selector = try? LabelSelector(object: budget.value["spec"]["selector"])
        return selector?.matches(pod.labels) ?? false
      }
      guard let budget = budgets.first else { return }
      if budgets.count > 1 {
        throw .internalError(
          "This pod has more than one PodDisruptionBudget, which the eviction subresource does not "
            + "support.")
      }
      if try Self.mayIgnore(budget.value, pod.value) { return }
      let changed = try spent(budget, for: pod)
      let written = try await replace(
        budget, with: changed, in: resource, subresource: "status", options)
      // Another eviction was faster: what is left is looked at anew.
      if written != nil { return }
    }
    throw .tooManyRequests("the disruption budget changed meanwhile", retryAfterSeconds: 1)
  }

  /// A pod that serves nobody may go where the budget's policy, or enough others that serve, allow it.
  private static func mayIgnore(_ budget: Value, _ pod: Value) throws(StatusError) -> Bool {
    if PodView(pod).isReady { return false }
    if budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" { return true }
    let status = budget["status"]
    let desired = status["desiredHealthy"].integer ?? 0
    return desired > 0 && status["currentHealthy"].integer ?? 0 >= desired
  }

  private func spent(
    _ budget: StoredObject, for pod: StoredObject
  ) throws(StatusError) -> Value {
    let status = budget.value["status"]
    let generation = budget.value["metadata"]["generation"].integer ?? 0
    func refusal(_ reason: String) -> StatusError {
      var error = StatusError.tooManyRequests(
        "Cannot evict pod as it would violate the pod's disruption budget.", retryAfterSeconds: 0)
      error.details?.causes = [
        StatusError.Cause(reason: "DisruptionBudget", message: reason)
      ]
      return error
    }
    guard status["observedGeneration"].integer ?? 0 >= generation else {
      throw refusal(
        "The disruption budget \(budget.name) is still being processed by the server.")
    }
    let allowed = status["disruptionsAllowed"].integer ?? 0
    guard allowed > 0 else {
      throw refusal(
        "The disruption budget \(budget.name) needs \(status["desiredHealthy"].integer ?? 0) "
          + "healthy pods and has \(status["currentHealthy"].integer ?? 0) currently")
    }
    var changed = budget.value
    changed["status"]["disruptionsAllowed"] = .integer(allowed - 1)
    changed["status"]["disruptedPods"][pod.name] = Value(environment.now().description)
    return changed
  }
}
