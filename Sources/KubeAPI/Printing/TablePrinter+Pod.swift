extension TablePrinter {
  static let pod = TablePrinter(columns: [
    .name,
    Column("Ready", description: "Containers that are ready, of all."),
    Column("Status", description: "The pod's phase, or why it isn't running."),
    Column("Restarts", description: "How often containers were restarted, and when last."),
    .age,
    Column("IP", isWide: true, description: "The pod's first address."),
    Column("Node", isWide: true, description: "The node that the pod is bound to."),
    Column(
      "Nominated Node", isWide: true, description: "The node where room is being made for the pod."),
    Column(
      "Readiness Gates", isWide: true, description: "Readiness gates that are true, of all."),
  ]) { pod, now in
    let summary = PodSummary(pod)
    var restarts = "\(summary.restarts)"
    if summary.restarts != 0, let last = summary.lastRestart {
      restarts += " (\(humanDuration(now.since(last))) ago)"
    }
    let gates = pod["spec"]["readinessGates"].elements
    let open = gates.filter { gate in
      pod["status"]["conditions"].elements.contains {
        $0["type"] == gate["conditionType"] && $0["status"] == "True"
      }
    }
    return [
      Cell.name(pod),
      .string("\(summary.ready)/\(summary.containers)"),
      .string(summary.reason),
      .string(restarts),
      Cell.age(pod, now),
      Cell.text(
        pod["status"]["podIPs"][0]["ip"].isNull
          ? pod["status"]["podIP"] : pod["status"]["podIPs"][0]["ip"], default: "<none>"),
      Cell.text(pod["spec"]["nodeName"], default: "<none>"),
      Cell.text(pod["status"]["nominatedNodeName"], default: "<none>"),
      .string(gates.isEmpty ? "<none>" : "\(open.count)/\(gates.count)"),
    ]
  }
}

/// What `kubectl get pods` says of a pod in a word, and its counts.
///
/// The word is the phase, unless something more telling is known, in this order: the pod's own
/// reason, an initialisation that isn't through (`Init:0/1`, `Init:Error`), what a container waits
/// for or ended with (the first container's counts most), and `Terminating` above all.
public struct PodSummary: Sendable {
  public private(set) var ready = 0
  public private(set) var containers: Int
  public private(set) var restarts: Int64 = 0
  public private(set) var lastRestart: Timestamp?
  public private(set) var reason: String

  public init(_ pod: Value) {
    let spec = pod["spec"]
    let status = pod["status"]
    containers = spec["containers"].elements.count
    let phase = status["phase"].string ?? ""
    reason = phase
    if let own = status["reason"].string, !own.isEmpty { reason = own }
    for condition in status["conditions"].elements
    where condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated" {
      reason = "SchedulingGated"
    }

    let sidecars = Set(
      spec["initContainers"].elements.filter { $0["restartPolicy"] == "Always" }
        .compactMap { $0["name"].string })
    containers += sidecars.count
    var sidecarRestarts: Int64 = 0
    var lastSidecarRestart: Timestamp?
    var isInitialising = false
    let initStatuses = status["initContainerStatuses"].elements
    for (index, container) in initStatuses.enumerated() {
      countRestarts(container)
      let isSidecar = sidecars.contains(container["name"].string ?? "")
      if isSidecar {
        sidecarRestarts = PodSummary.add(sidecarRestarts, container["restartCount"].integer)
        let finished = container["lastState"]["terminated"]["finishedAt"].timestamp
        lastSidecarRestart = PodSummary.later(lastSidecarRestart, finished)
      }
      let terminated = container["state"]["terminated"]
      let waiting = container["state"]["waiting"]["reason"].string ?? ""
      if !terminated.isNull, terminated["exitCode"].integer ?? 0 == 0 { continue }
      if isSidecar, container["started"] == true {
        if container["ready"] == true { ready += 1 }
        continue
      }
      isInitialising = true
      if !terminated.isNull {
        reason = "Init:" + PodSummary.ending(terminated)
      } else if !waiting.isEmpty, waiting != "PodInitializing" {
        reason = "Init:" + waiting
      } else {
        reason = "Init:\(index)/\(spec["initContainers"].elements.count)"
      }
      break
    }

    let isInitialised = status["conditions"].elements.contains {
      $0["type"] == "Initialized" && $0["status"] == "True"
    }
    if !isInitialising || isInitialised {
      restarts = sidecarRestarts
      lastRestart = lastSidecarRestart
      var hasRunning = false
      for container in status["containerStatuses"].elements.reversed() {
        countRestarts(container)
        let terminated = container["state"]["terminated"]
        let waiting = container["state"]["waiting"]["reason"].string ?? ""
        if !waiting.isEmpty {
          reason = waiting
        } else if !terminated.isNull {
          reason = PodSummary.ending(terminated)
        } else if container["ready"] == true, !container["state"]["running"].isNull {
          hasRunning = true
          ready += 1
        }
      }
      if reason == "Completed", hasRunning {
        let isReady = status["conditions"].elements.contains {
          $0["type"] == "Ready" && $0["status"] == "True"
        }
        reason = isReady ? "Running" : "NotReady"
      }
    }

    if !pod["metadata"]["deletionTimestamp"].isNull {
      if status["reason"] == "NodeLost" {
        reason = "Unknown"
      } else if phase != "Succeeded" && phase != "Failed" {
        reason = "Terminating"
      }
    }
  }

  private mutating func countRestarts(_ container: Value) {
    restarts = PodSummary.add(restarts, container["restartCount"].integer)
    lastRestart = PodSummary.later(
      lastRestart, container["lastState"]["terminated"]["finishedAt"].timestamp)
  }

  private static func add(_ a: Int64, _ b: Int64?) -> Int64 {
    let (sum, overflow) = a.addingReportingOverflow(b ?? 0)
    return overflow ? .max : sum
  }

  private static func later(_ a: Timestamp?, _ b: Timestamp?) -> Timestamp? {
    guard let a, let b else { return a ?? b }
    return max(a, b)
  }

  private static func ending(_ terminated: Value) -> String {
    if let reason = terminated["reason"].string, !reason.isEmpty { return reason }
    if let signal = terminated["signal"].integer, signal != 0 { return "Signal:\(signal)" }
    return "ExitCode:\(terminated["exitCode"].integer ?? 0)"
  }
}
