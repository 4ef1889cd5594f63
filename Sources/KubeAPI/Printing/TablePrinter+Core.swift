extension TablePrinter {
  static let configMap = TablePrinter(columns: [
    .name, Column("Data", type: "integer", description: "The number of entries."), .age,
  ]) { object, now in
    [
      Cell.name(object),
      Value(object["data"].members.count + object["binaryData"].members.count),
      Cell.age(object, now),
    ]
  }

  static let secret = TablePrinter(columns: [
    .name, Column("Type", description: "What the secret is for."),
    Column("Data", type: "integer", description: "The number of entries."), .age,
  ]) { object, now in
    [
      Cell.name(object), Cell.text(object["type"]), Value(object["data"].members.count),
      Cell.age(object, now),
    ]
  }

  static let serviceAccount = TablePrinter(columns: [
    .name, Column("Secrets", type: "integer", description: "The number of secrets."), .age,
  ]) { object, now in
    [Cell.name(object), Value(object["secrets"].elements.count), Cell.age(object, now)]
  }

  static let namespace = TablePrinter(columns: [
    .name, Column("Status", description: "Active, or Terminating while it is being deleted."), .age,
  ]) { object, now in
    [Cell.name(object), Cell.text(object["status"]["phase"]), Cell.age(object, now)]
  }

  static let node = TablePrinter(columns: [
    .name,
    Column("Status", description: "Whether the node is ready and takes pods."),
    Column("Roles", description: "From the labels node-role.kubernetes.io/ROLE."),
    .age,
    Column("Version", description: "The version of the node's agent."),
    Column("Internal-IP", isWide: true, description: "The node's address inside the cluster."),
    Column("External-IP", isWide: true, description: "The node's address outside the cluster."),
    Column("OS-Image", isWide: true, description: "The node's operating system."),
    Column("Kernel-Version", isWide: true, description: "The node's kernel."),
    Column("Container-Runtime", isWide: true, description: "What runs the node's containers."),
  ]) { node, now in
    let ready = node["status"]["conditions"].elements.first { $0["type"] == "Ready" }
    var status = ready.map { $0["status"] == "True" ? "Ready" : "NotReady" } ?? "Unknown"
    if node["spec"]["unschedulable"] == true { status += ",SchedulingDisabled" }
    var roles: Set<String> = []
    let prefix = "node-role.kubernetes.io/"
    for label in node["metadata"]["labels"].members {
      if label.key.hasPrefix(prefix), label.key.utf8.count > prefix.utf8.count {
        roles.insert(String(label.key.dropFirst(prefix.count)))
      } else if label.key == "kubernetes.io/role", let role = label.value.string, !role.isEmpty {
        roles.insert(role)
      }
    }
    func address(_ type: Value) -> Value {
      let match = node["status"]["addresses"].elements.first { $0["type"] == type }
      return Cell.text(match?["address"] ?? .null, default: "<none>")
    }
    let info = node["status"]["nodeInfo"]
    return [
      Cell.name(node), .string(status),
      .string(roles.isEmpty ? "<none>" : roles.sorted().joined(separator: ",")),
      Cell.age(node, now), Cell.text(info["kubeletVersion"]), address("InternalIP"),
      address("ExternalIP"), Cell.text(info["osImage"], default: "<unknown>"),
      Cell.text(info["kernelVersion"], default: "<unknown>"),
      Cell.text(info["containerRuntimeVersion"], default: "<unknown>"),
    ]
  }

  static let event = eventPrinter(
    message: "message", object: "involvedObject", component: "reportingComponent", source: "source",
    first: "firstTimestamp", last: "lastTimestamp", count: "count")
  static let regardingEvent = eventPrinter(
    message: "note", object: "regarding", component: "reportingController",
    source: "deprecatedSource", first: "deprecatedFirstTimestamp",
    last: "deprecatedLastTimestamp", count: "deprecatedCount")

  private static func eventPrinter(
    message: String, object: String, component: String, source: String, first: String, last: String,
    count: String
  ) -> TablePrinter {
    TablePrinter(columns: [
      Column("Last Seen", description: "Time since it happened last."),
      Column("Type", description: "Normal or Warning."),
      Column("Reason", description: "Why, in a word."),
      Column("Object", description: "What it is about."),
      Column("Subobject", isWide: true, description: "The part of the object."),
      Column("Source", isWide: true, description: "Who reports it."),
      Column("Message", description: "What happened."),
      Column("First Seen", isWide: true, description: "Time since it happened first."),
      Column("Count", isWide: true, description: "How often it happened."),
      Column("Name", format: "name", isWide: true, description: "The event's own name."),
    ]) { event, now in
      let firstTime = event[first].isNull ? event["eventTime"] : event[first]
      var lastTime = event[last].isNull ? firstTime : event[last]
      var times = event[count].integer ?? 0
      if !event["series"].isNull {
        if !event["series"]["lastObservedTime"].isNull {
          lastTime = event["series"]["lastObservedTime"]
        }
        times = event["series"]["count"].integer ?? times
      } else if times == 0 {
        times = 1
      }
      let regarding = event[object]
      var reporter = [event[source]["component"], event[source]["host"]].compactMap(\.string)
        .filter { !$0.isEmpty }
      if reporter.isEmpty {
        reporter = [event[component], event["reportingInstance"]].compactMap(\.string)
          .filter { !$0.isEmpty }
      }
      let name = regarding["name"].string ?? ""
      let kind = (regarding["kind"].string ?? "").lowercased()
      return [
        Cell.since(lastTime, now), Cell.text(event["type"]), Cell.text(event["reason"]),
        .string(name.isEmpty ? kind : "\(kind)/\(name)"), Cell.text(regarding["fieldPath"]),
        .string(reporter.joined(separator: ", ")),
        .string((event[message].string ?? "").trimmedOfSpace), Cell.since(firstTime, now),
        .integer(times), Cell.name(event),
      ]
    }
  }

  static let lease = TablePrinter(columns: [
    .name, Column("Holder", description: "Who holds the lease."), .age,
  ]) { object, now in
    [Cell.name(object), Cell.text(object["spec"]["holderIdentity"]), Cell.age(object, now)]
  }

  static let priorityClass = TablePrinter(columns: [
    .name, Column("Value", type: "integer", description: "The priority; higher ones go first."),
    Column(
      "Global-Default", type: "boolean", description: "Whether pods without a class get this one."),
    .age, Column("PreemptionPolicy", description: "Whether pods of the class evict others."),
  ]) { object, now in
    [
      Cell.name(object), Cell.number(object["value"]), .bool(object["globalDefault"].bool ?? false),
      Cell.age(object, now), Cell.text(object["preemptionPolicy"]),
    ]
  }
}

extension String {
  var trimmedOfSpace: String {
    let isSpace = { (c: Character) in c == " " || c == "\n" || c == "\t" || c == "\r" }
    var rest = self[...].drop(while: isSpace)
    while let last = rest.last, isSpace(last) { rest.removeLast() }
    return String(rest)
  }
}
