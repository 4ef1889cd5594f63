import KubeAPI
import TestKit
import Testing

@testable import NodeAgent

/// A pod, a runtime that does as told, and a clock that moves when told.
///
/// | command | effect |
/// |---|---|
/// | `pod a b init=i restart=Never …` | a new pod; input lines are further members, `path=json` |
/// | `settle` | decides and performs until nothing is left to do, and prints it all |
/// | `probe a liveness fail times=3` | results of a probe: `ok` or `fail` (`liveness=a` in `pod` asks for it) |
/// | `exit a code=1 [reason=R] [message=M]` | a container's process ends |
/// | `missing a` / `found a` | its image can't, can be had |
/// | `broken volumes` / `whole volumes` | volumes can't, can be filled |
/// | `lose sandbox` | the sandbox's shim dies with all its containers |
/// | `restart agent` | the lifecycle's memory is lost |
/// | `advance 10s` | the clock |
/// | `delete grace=30` | the API marks the pod |
/// | `status` | the whole status as JSON |
struct LifecycleWorld {
  var lifecycle = LifecycleWorld.newLifecycle
  var pod: Value = .null
  var sandboxes: [SandboxStatus] = []
  var now = try! Timestamp("2026-11-23T12:00:00Z")
  var missingImages: Set<String> = []
  var hasBrokenVolumes = false
  var isInAPI = true

  static var newLifecycle: PodLifecycle { PodLifecycle(node: .init(addresses: ["192.0.2.1"])) }

  mutating func perform(_ command: GoldenCommand) throws -> String {
    switch command.name {
    case "pod": makePod(command)
    case "settle": return settle()
    case "exit": try exit(command)
    case "probe": return try probe(command)
    case "missing": missingImages.insert(command.arguments[0])
    case "found": missingImages.remove(command.arguments[0])
    case "broken": hasBrokenVolumes = true
    case "whole": hasBrokenVolumes = false
    case "lose": loseSandbox()
    case "restart": lifecycle = Self.newLifecycle
    case "advance":
      now = now.adding(.seconds(Int(command.arguments[0].dropLast()) ?? 0))
    case "delete":
      pod["metadata"]["deletionTimestamp"] = Value(
        now.adding(.seconds(command.integer("grace") ?? 30)))
      pod["metadata"]["deletionGracePeriodSeconds"] = Value(command.integer("grace") ?? 30)
    case "status": return pod["status"].indentedJSON()
    default: throw GoldenError(message: "unknown command \(command.name)")
    }
    return ""
  }

  private mutating func makePod(_ command: GoldenCommand) {
    self = LifecycleWorld()
    var spec: Value = [
      "restartPolicy": Value(command.value("restart") ?? "Always"),
      "terminationGracePeriodSeconds": 30,
    ]
    func container(_ name: String, _ extra: [(String, Value)] = []) -> Value {
      var value: Value = ["name": Value(name), "image": "busybox"]
      for (key, member) in extra { value[key] = member }
      return value
    }
    let policy = command.value("pull").map { [("imagePullPolicy", Value($0))] } ?? []
    spec["containers"] = .array(command.bareArguments.map { container($0, policy) })
    if let names = command.value("init") {
      spec["initContainers"] = .array(names.split(separator: ",").map { container(String($0)) })
    }
    if let name = command.value("sidecar") {
      spec["initContainers"].append(container(name, [("restartPolicy", "Always")]))
    }
    for kind in ProbeKind.allCases {
      guard let name = command.value(kind.rawValue) else { continue }
      for key in ["containers", "initContainers"] {
        var list = spec[key].elements
        for index in list.indices where list[index]["name"].string == name {
          list[index]["\(kind.rawValue)Probe"] = ["exec": ["command": ["true"]]]
        }
        if !list.isEmpty { spec[key] = .array(list) }
      }
    }
    if let seconds = command.integer("deadline") { spec["activeDeadlineSeconds"] = Value(seconds) }
    pod = [
      "apiVersion": "v1", "kind": "Pod",
      "metadata": ["name": "web", "namespace": "default", "uid": "u1"], "spec": spec,
      "status": ["phase": "Pending"],
    ]
  }

  // MARK: Deciding and performing

  private mutating func settle() -> String {
    var lines: [String] = []
    for _ in 0..<50 {
      let decision = lifecycle.decide(PodManifest(pod), sandboxes, now: now)
      for event in decision.announcements {
        lines.append(
          "event \(event.isWarning ? "Warning" : "Normal") \(event.reason): \(event.message)")
      }
      if let status = decision.status {
        let before = summary()
        merge(status)
        let after = summary()
        if before != after { lines.append(after) }
      }
      if decision.actions.isEmpty {
        if let time = decision.wakeAt { lines.append("wake after \(time.since(now))") }
        return lines.joined(separator: "\n")
      }
      for action in decision.actions { lines.append("> " + perform(action)) }
    }
    return (lines + ["never settles"]).joined(separator: "\n")
  }

  /// As a JSON merge patch.
  private mutating func merge(_ status: Value) {
    for member in status.members { pod["status"][member.key] = member.value }
  }

  private mutating func perform(_ action: PodLifecycle.Action) -> String {
    switch action {
    case .prepareVolumes:
      if hasBrokenVolumes {
        lifecycle.volumesFailed("configmap \"c\" not found", now: now)
        return "prepare volumes: failed"
      }
      lifecycle.volumesPrepared()
      return "prepare volumes"
    case .createSandbox(let attempt):
      sandboxes.append(
        SandboxStatus(
          id: SandboxID(rawValue: "s\(attempt)"), podUID: "u1", podName: "web",
          podNamespace: "default", attempt: attempt, isReady: true, createdAt: now,
          address: "10.244.0.\(attempt + 2)", containers: []))
      lifecycle.sandboxCreated()
      return "create sandbox s\(attempt)"
    case .startContainer(let container, let attempt, let step):
      if missingImages.contains(container.name) {
        let isNever = container.pullPolicy == .never
        lifecycle.startFailed(
          container.name, reason: isNever ? "ErrImageNeverPull" : "ErrImagePull",
          message: "no such image", now: now)
        return "start \(container.name)/\(attempt): no image"
      }
      sandboxes[sandboxes.count - 1].containers.append(
        ContainerStatus(
          id: ContainerID(rawValue: "\(container.name)-\(attempt)"), name: container.name,
          attempt: attempt, backOffStep: step, imageReference: container.image,
          imageID: "busybox@sha256:0", createdAt: now, state: .running(since: now),
          isStopping: false))
      lifecycle.started(container.name)
      return "start \(container.name)/\(attempt) step \(step)"
    case .stopContainer(let id, let name, let grace, let message):
      change(id) { $0.isStopping = true }
      if grace == 0 { end(id, code: 137, reason: "Error") }
      let isUsual = message == "Stopping container \(name)"
      return "stop \(name) within \(grace) s" + (isUsual ? "" : " (\(message))")
    case .removeContainer(let id):
      for index in sandboxes.indices { sandboxes[index].containers.removeAll { $0.id == id } }
      return "remove container \(id)"
    case .stopSandbox(let id):
      for index in sandboxes.indices where sandboxes[index].id == id {
        sandboxes[index].isReady = false
      }
      return "stop sandbox \(id)"
    case .removeSandbox(let id):
      sandboxes.removeAll { $0.id == id }
      return "remove sandbox \(id)"
    case .removeFiles:
      lifecycle.filesRemoved()
      return "remove files"
    case .deleteObject:
      lifecycle.objectDeleted()
      isInAPI = false
      return "delete object"
    }
  }

  private mutating func change(_ id: ContainerID, _ edit: (inout ContainerStatus) -> Void) {
    for sandbox in sandboxes.indices {
      for index in sandboxes[sandbox].containers.indices
      where sandboxes[sandbox].containers[index].id == id {
        edit(&sandboxes[sandbox].containers[index])
      }
    }
  }

  private mutating func end(_ id: ContainerID, code: Int, reason: String, message: String = "") {
    let time = now
    change(id) { container in
      guard case .running(let since) = container.state else { return }
      container.state = .exited(
        .init(code: code, startedAt: since, finishedAt: time, reason: reason, message: message))
    }
  }

  private mutating func exit(_ command: GoldenCommand) throws {
    let name = command.arguments[0]
    let code = command.integer("code") ?? 0
    let running = sandboxes.flatMap(\.containers).filter { $0.name == name }.max {
      $0.attempt < $1.attempt
    }
    guard let running else { throw GoldenError(message: "no container \(name)") }
    end(
      running.id, code: code,
      reason: command.value("reason") ?? (code == 0 ? "Completed" : "Error"),
      message: command.value("message") ?? "")
  }

  private mutating func probe(_ command: GoldenCommand) throws -> String {
    let name = command.arguments[0]
    guard let kind = ProbeKind(rawValue: command.arguments[1]),
      let container = sandboxes.flatMap(\.containers).last(where: { $0.name == name })
    else { throw GoldenError(message: "no such probe") }
    var lines: [String] = []
    for _ in 0..<(command.integer("times") ?? 1) {
      let outcome = command.arguments[2] == "ok" ? ProbeTracker.Outcome.success : .failure("no")
      if let event = lifecycle.probed(kind, container.id, name: name, outcome) {
        lines.append("event \(event.isWarning ? "Warning" : "Normal") \(event.reason): \(event.message)")
      }
    }
    return lines.joined(separator: "\n")
  }

  private mutating func loseSandbox() {
    let last = sandboxes.count - 1
    sandboxes[last].isReady = false
    for container in sandboxes[last].containers {
      end(container.id, code: 137, reason: "ContainerStatusUnknown")
    }
  }

  // MARK: Printing

  /// One line for the pod and one for each container.
  private func summary() -> String {
    let status = pod["status"]
    var line = "pod \(status["phase"].string ?? "")"
    if let reason = status["reason"].string { line += " (\(reason))" }
    for condition in status["conditions"].elements where condition["status"].string == "True" {
      line += " \(condition["type"].string ?? "")"
    }
    var lines = [line]
    for key in ["initContainerStatuses", "containerStatuses"] {
      for container in status[key].elements {
        var line = "  \(container["name"].string ?? ""):"
        for state in container["state"].members {
          line += " \(state.key)"
          if let reason = state.value["reason"].string { line += " \(reason)" }
          if let code = state.value["exitCode"].integer { line += "(\(code))" }
        }
        let last = container["lastState"]["terminated"]
        if let reason = last["reason"].string { line += ", last \(reason)(\(last["exitCode"]))" }
        line += ", restarts \(container["restartCount"])"
        if container["ready"].bool == true { line += ", ready" }
        lines.append(line)
      }
    }
    return lines.joined(separator: "\n")
  }
}

@Suite("Pod lifecycle") struct LifecycleTests {
  @Test(arguments: GoldenRunner().files.filter { $0.hasPrefix("lifecycle") })
  func transcript(file: String) throws {
    var world = LifecycleWorld()
    try GoldenRunner().run(file) { try world.perform($0) }
  }
}
