extension TablePrinter {
  private static let containers = Column(
    "Containers", isWide: true, description: "The names of the containers.")
  private static let images = Column(
    "Images", isWide: true, description: "The images of the containers.")
  private static let selector = Column(
    "Selector", isWide: true, description: "The labels by which pods are found.")

  private static func wide(_ object: Value, selector: Bool = true) -> [Value] {
    let spec = object["spec"]["template"]["spec"]
    let cells = [Cell.containers(spec), Cell.images(spec)]
    return selector ? cells + [Cell.selector(object["spec"]["selector"])] : cells
  }

  static let deployment = TablePrinter(columns: [
    .name,
    Column("Ready", description: "Pods that are ready, of those wanted."),
    Column("Up-to-date", type: "integer", description: "Pods of the newest template."),
    Column("Available", type: "integer", description: "Pods ready for long enough."),
    .age, containers, images, selector,
  ]) { object, now in
    let status = object["status"]
    let wanted = object["spec"]["replicas"].integer ?? 0
    return [
      Cell.name(object), .string("\(status["readyReplicas"].integer ?? 0)/\(wanted)"),
      Cell.number(status["updatedReplicas"]), Cell.number(status["availableReplicas"]),
      Cell.age(object, now),
    ] + wide(object)
  }

  static let controllerRevision = TablePrinter(columns: [
    .name, Column("Controller", description: "The object that this is a version of."),
    Column("Revision", type: "integer", description: "Its number; the newest is the highest."),
    .age,
  ]) { object, now in
    let owner = AnyObjectView(object).controller
    let group = owner.map { $0.apiVersion.split(separator: "/").dropLast().joined() } ?? ""
    let text = owner.map { "\($0.kind.lowercased())\(group.isEmpty ? "" : ".\(group)")/\($0.name)" }
    return [
      Cell.name(object), .string(text ?? "<none>"), Cell.number(object["revision"]),
      Cell.age(object, now),
    ]
  }

  static let replicaSet = TablePrinter(columns: [
    .name,
    Column("Desired", type: "integer", description: "Pods wanted."),
    Column("Current", type: "integer", description: "Pods that exist."),
    Column("Ready", type: "integer", description: "Pods that are ready."),
    .age, containers, images, selector,
  ]) { object, now in
    [
      Cell.name(object), Cell.number(object["spec"]["replicas"]),
      Cell.number(object["status"]["replicas"]), Cell.number(object["status"]["readyReplicas"]),
      Cell.age(object, now),
    ] + wide(object)
  }

  static let statefulSet = TablePrinter(columns: [
    .name, Column("Ready", description: "Pods that are ready, of those wanted."), .age, containers,
    images,
  ]) { object, now in
    let ready = object["status"]["readyReplicas"].integer ?? 0
    return [
      Cell.name(object), .string("\(ready)/\(object["spec"]["replicas"].integer ?? 0)"),
      Cell.age(object, now),
    ] + wide(object, selector: false)
  }

  static let daemonSet = TablePrinter(columns: [
    .name,
    Column("Desired", type: "integer", description: "Nodes that should run the pod."),
    Column("Current", type: "integer", description: "Nodes that run it and should."),
    Column("Ready", type: "integer", description: "Nodes on which it is ready."),
    Column("Up-to-date", type: "integer", description: "Nodes that run the newest template."),
    Column(
      "Available", type: "integer", description: "Nodes on which it is ready for long enough."),
    Column("Node Selector", description: "The labels of the nodes."),
    .age, containers, images, selector,
  ]) { object, now in
    let status = object["status"]
    return [
      Cell.name(object), Cell.number(status["desiredNumberScheduled"]),
      Cell.number(status["currentNumberScheduled"]), Cell.number(status["numberReady"]),
      Cell.number(status["updatedNumberScheduled"]), Cell.number(status["numberAvailable"]),
      Cell.labels(object["spec"]["template"]["spec"]["nodeSelector"]), Cell.age(object, now),
    ] + wide(object)
  }

  static let job = TablePrinter(columns: [
    .name,
    Column("Status", description: "Where the job stands."),
    Column("Completions", description: "Pods that succeeded, of those wanted."),
    Column("Duration", description: "How long the job took, or runs."),
    .age, containers, images, selector,
  ]) { job, now in
    let status = job["status"]
    let succeeded = status["succeeded"].integer ?? 0
    let completions: String
    if let wanted = job["spec"]["completions"].integer {
      completions = "\(succeeded)/\(wanted)"
    } else {
      let parallelism = job["spec"]["parallelism"].integer ?? 0
      completions = parallelism > 1 ? "\(succeeded)/1 of \(parallelism)" : "\(succeeded)/1"
    }
    var duration = ""
    if let start = status["startTime"].timestamp {
      duration = humanDuration((status["completionTime"].timestamp ?? now).since(start))
    }
    func has(_ condition: Value) -> Bool {
      status["conditions"].elements.contains { $0["type"] == condition && $0["status"] == "True" }
    }
    let state =
      has("Complete")
      ? "Complete"
      : has("Failed")
        ? "Failed"
        : !job["metadata"]["deletionTimestamp"].isNull
          ? "Terminating"
          : has("Suspended")
            ? "Suspended"
            : has("FailureTarget")
              ? "FailureTarget" : has("SuccessCriteriaMet") ? "SuccessCriteriaMet" : "Running"
    return [
      Cell.name(job), .string(state), .string(completions), .string(duration), Cell.age(job, now),
    ] + wide(job)
  }

  static let cronJob = TablePrinter(columns: [
    .name,
    Column("Schedule", description: "When jobs start, in cron's notation."),
    Column("Timezone", description: "The time zone of the schedule."),
    Column("Suspend", type: "boolean", description: "Whether no further jobs start."),
    Column("Active", type: "integer", description: "Jobs that run now."),
    Column("Last Schedule", description: "Time since the last job was started."),
    .age, containers, images, selector,
  ]) { object, now in
    let last = object["status"]["lastScheduleTime"]
    let suspended = object["spec"]["suspend"].bool.map { $0 ? "True" : "False" } ?? "<unset>"
    return [
      Cell.name(object), Cell.text(object["spec"]["schedule"]),
      Cell.text(object["spec"]["timeZone"], default: "<none>"),
      .string(suspended), Value(object["status"]["active"].elements.count),
      last.isNull ? "<none>" : Cell.since(last, now), Cell.age(object, now),
    ] + wide(object["spec"]["jobTemplate"])
  }

  static let podDisruptionBudget = TablePrinter(columns: [
    .name,
    Column("Min Available", description: "Pods that must stay available."),
    Column("Max Unavailable", description: "Pods that may be unavailable."),
    Column("Allowed Disruptions", type: "integer", description: "Pods that may be evicted now."),
    .age,
  ]) { object, now in
    func amount(_ value: Value) -> Value {
      .string(value.string ?? value.integer.map { String($0) } ?? "N/A")
    }
    return [
      Cell.name(object), amount(object["spec"]["minAvailable"]),
      amount(object["spec"]["maxUnavailable"]), Cell.number(object["status"]["disruptionsAllowed"]),
      Cell.age(object, now),
    ]
  }
}
