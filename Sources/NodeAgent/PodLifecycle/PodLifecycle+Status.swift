import KubeAPI

extension PodLifecycle {
  /// The pod's `status`, as Kubernetes words it.
  func status(_ plan: Plan) -> Value {
    let pod = plan.pod
    let previous = pod.object["status"]
    let initStatuses = pod.initContainers.map { containerStatus($0, plan, isInit: true) }
    let statuses = pod.containers.map { containerStatus($0, plan, isInit: false) }
    var (phase, reason, message) = phase(plan, initStatuses, statuses)
    if ["Succeeded", "Failed"].contains(pod.recordedPhase) {
      // A final phase is final.
      phase = pod.recordedPhase
      reason = previous["reason"].string
      message = previous["message"].string
    }

    var status: Value = ["phase": Value(phase)]
    status["conditions"] = conditions(plan, phase, initStatuses, statuses)
    // Explicit nulls take earlier values away: the status is published as a merge patch.
    for (key, text) in [("reason", reason), ("message", message)] {
      if let text {
        status[key] = Value(text)
      } else if !previous[key].isNull {
        status.set(key, to: .null)
      }
    }
    if let address = node.addresses.first {
      status["hostIP"] = Value(address)
      status["hostIPs"] = .array(node.addresses.map { ["ip": Value($0)] })
    }
    let podAddress = pod.usesHostNetwork ? node.addresses.first : plan.sandbox?.address
    if let podAddress, plan.sandbox != nil {
      status["podIP"] = Value(podAddress)
      status["podIPs"] = [["ip": Value(podAddress)]]
    } else if !previous["podIP"].isNull, !plan.isFinal {
      status.set("podIP", to: .null)
      status.set("podIPs", to: .null)
    }
    status["startTime"] = Value(plan.startTime)
    if !initStatuses.isEmpty { status["initContainerStatuses"] = .array(initStatuses) }
    status["containerStatuses"] = .array(statuses)
    status["qosClass"] = Value(PodQuality(pod.object["spec"]).rawValue)
    return status
  }

  // MARK: Containers

  private func containerStatus(
    _ container: PodManifest.Container, _ plan: Plan, isInit: Bool
  ) -> Value {
    let attempts = plan.attempts[container.name] ?? []
    let latest = attempts.first
    var status: Value = ["name": Value(container.name)]
    var isRunning = false
    var last: ContainerStatus?
    if let waiting = plan.waiting[container.name] {
      status["state"]["waiting"]["reason"] = Value(waiting.reason)
      if !waiting.message.isEmpty { status["state"]["waiting"]["message"] = Value(waiting.message) }
      last = attempts.first { Self.hasExited($0) }
    } else {
      switch latest?.state {
      case .running(let since):
        isRunning = true
        status["state"]["running"]["startedAt"] = Value(since)
      case .exited:
        if let latest { status["state"]["terminated"] = Self.terminated(latest) }
      case .created, nil:
        status["state"]["waiting"]["reason"] = Value(
          isInit || plan.pod.initContainers.isEmpty || plan.hasInitialized
            ? "ContainerCreating" : "PodInitializing")
      }
      last = attempts.dropFirst().first { Self.hasExited($0) }
    }
    status["lastState"] = last.map { ["terminated": Self.terminated($0)] } ?? .object([:])
    let hasSucceeded =
      isInit && !container.isSidecar && latest.map { Self.exit($0)?.code == 0 } ?? false
    let isReady = isRunning && (latest.map { probes.isReady($0.id) } ?? false)
    status["ready"] = Value(isReady && (!isInit || container.isSidecar) || hasSucceeded)
    status["restartCount"] = Value(
      latest?.attempt ?? plan.pod.recordedRestarts(container.name, isInit: isInit) ?? 0)
    status["image"] = Value(latest?.imageReference ?? container.image)
    status["imageID"] = Value(latest?.imageID ?? "")
    if let latest { status["containerID"] = Value("crun://\(latest.id)") }
    status["started"] = Value(isRunning && (latest.map { probes.isStarted($0.id) } ?? false))
    return status
  }

  private static func exit(_ container: ContainerStatus) -> ContainerStatus.Exit? {
    if case .exited(let exit) = container.state { exit } else { nil }
  }

  private static func hasExited(_ container: ContainerStatus) -> Bool { exit(container) != nil }

  private static func terminated(_ container: ContainerStatus) -> Value {
    guard let exit = exit(container) else { return .null }
    var value: Value = ["exitCode": Value(exit.code), "reason": Value(exit.reason)]
    if !exit.message.isEmpty { value["message"] = Value(exit.message) }
    value["startedAt"] = Value(exit.startedAt ?? Timestamp(secondsSinceEpoch: 0))
    value["finishedAt"] = Value(exit.finishedAt)
    value["containerID"] = Value("crun://\(container.id)")
    return value
  }

  // MARK: Phase

  /// Kubernetes' rules: Pending until every container has been started once, final once none will be
  /// started again.
  private func phase(
    _ plan: Plan, _ initStatuses: [Value], _ statuses: [Value]
  ) -> (phase: String, reason: String?, message: String?) {
    if plan.isOverdue, !plan.pod.isDeleted, plan.running.isEmpty {
      return (
        "Failed", "DeadlineExceeded",
        "Pod was active on the node longer than the specified deadline"
      )
    }
    let policy = plan.pod.restartPolicy
    if policy == .never, !plan.hasInitialized, plan.isFinal, !plan.pod.isDeleted {
      return ("Failed", nil, nil)
    }
    var isWaiting = !plan.hasInitialized && !initStatuses.isEmpty && !plan.isFinal
    var running = 0
    var stopped = 0
    var succeeded = 0
    for status in statuses {
      let state = status["state"]
      if !state["running"].isNull {
        running += 1
      } else if !state["terminated"].isNull {
        stopped += 1
        let id = state["terminated"]["containerID"].string?.dropFirst("crun://".count) ?? ""
        let wasFailing = probes.failedProbe(ContainerID(rawValue: String(id))) != nil
        if state["terminated"]["exitCode"].integer == 0, policy == .never || !wasFailing {
          succeeded += 1
        }
      } else if !status["lastState"]["terminated"].isNull {
        stopped += 1
      } else {
        isWaiting = true
      }
    }
    if isWaiting { return ("Pending", nil, nil) }
    if running > 0 { return ("Running", nil, nil) }
    if stopped == 0 { return ("Pending", nil, nil) }
    // A sidecar has yet to stop.
    if !plan.running.isEmpty { return ("Running", nil, nil) }
    // A deleted pod's containers will not be restarted, whatever its policy says.
    if policy == .always, !plan.isFinal { return ("Running", nil, nil) }
    if stopped == succeeded { return ("Succeeded", nil, nil) }
    return policy == .never || plan.isFinal ? ("Failed", nil, nil) : ("Running", nil, nil)
  }

  // MARK: Conditions

  private func conditions(
    _ plan: Plan, _ phase: String, _ initStatuses: [Value], _ statuses: [Value]
  ) -> Value {
    let previous = plan.pod.object["status"]["conditions"].elements
    func known(_ type: String) -> Value? { previous.first { $0["type"].string == type } }
    func condition(
      _ type: String, _ isTrue: Bool, reason: String? = nil, message: String? = nil
    ) -> Value {
      let text = isTrue ? "True" : "False"
      let old = known(type)
      var value: Value = ["type": Value(type), "status": Value(text)]
      value.set("lastProbeTime", to: .null)
      value["lastTransitionTime"] =
        old?["status"].string == text
        ? old?["lastTransitionTime"] ?? Value(plan.now) : Value(plan.now)
      if let reason { value["reason"] = Value(reason) }
      if let message { value["message"] = Value(message) }
      return value
    }
    func names(_ statuses: [Value]) -> String {
      "[" + statuses.compactMap { $0["name"].string }.joined(separator: " ") + "]"
    }

    let isFinal = phase == "Succeeded" || phase == "Failed"
    let incomplete = initStatuses.filter { $0["ready"].bool != true }
    let isInitialized = phase == "Succeeded" || plan.hasInitialized || incomplete.isEmpty
    let sidecars = Set(plan.pod.initContainers.filter(\.isSidecar).map(\.name))
    let unready =
      (initStatuses.filter { sidecars.contains($0["name"].string ?? "") } + statuses)
      .filter { $0["ready"].bool != true }
    let notReady: (reason: String, message: String?)? =
      switch phase {
      case "Succeeded": ("PodCompleted", nil)
      case "Failed": ("PodFailed", nil)
      default:
        unready.isEmpty
          ? nil : ("ContainersNotReady", "containers with unready status: \(names(unready))")
      }
    let closedGates = plan.pod.readinessGates.filter { known($0)?["status"].string != "True" }
    let gates: (reason: String, message: String?)? =
      closedGates.isEmpty
      ? nil
      : (
        "ReadinessGatesNotReady",
        closedGates.map {
          "corresponding condition of pod readiness gate \"\($0)\" is not \"True\"."
        }
        .joined(separator: " ")
      )
    let podNotReady = notReady ?? gates

    let own = [
      condition("PodReadyToStartContainers", plan.sandbox != nil && !isFinal),
      isInitialized
        ? condition("Initialized", true, reason: phase == "Succeeded" ? "PodCompleted" : nil)
        : condition(
          "Initialized", false, reason: "ContainersNotInitialized",
          message: "containers with incomplete status: \(names(incomplete))"),
      condition(
        "Ready", podNotReady == nil, reason: podNotReady?.reason, message: podNotReady?.message),
      condition(
        "ContainersReady", notReady == nil, reason: notReady?.reason, message: notReady?.message),
    ]
    // What others set stays; the scheduler's word is only added where it is missing (static pods).
    let types = Set(own.compactMap { $0["type"].string })
    var foreign = previous.filter { !types.contains($0["type"].string ?? "") }
    if known("PodScheduled") == nil { foreign.append(condition("PodScheduled", true)) }
    return .array(own + foreign)
  }
}

/// A pod's class of service, which decides whom the kernel kills first when memory runs out.
enum PodQuality: String {
  case guaranteed = "Guaranteed"
  case burstable = "Burstable"
  case bestEffort = "BestEffort"

  /// Guaranteed: every container has limits for CPU and memory, and requests equal to them. BestEffort:
  /// none has any of these.
  init(_ spec: Value) {
    var hasAny = false
    var isGuaranteed = true
    for container in spec["containers"].elements + spec["initContainers"].elements {
      let resources = container["resources"]
      for name in ["cpu", "memory"] {
        let limit = resources["limits"][name].quantity
        let request = resources["requests"][name].quantity ?? limit
        if let request, !request.isZero { hasAny = true }
        if let limit, !limit.isZero { hasAny = true }
        if let limit, let request, !limit.isZero, request == limit { continue }
        isGuaranteed = false
      }
    }
    self = !hasAny ? .bestEffort : isGuaranteed ? .guaranteed : .burstable
  }
}
