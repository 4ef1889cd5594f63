import KubeAPI
import TestKit
import Testing

@testable import Controllers

/// Which pods serve a Service, as EndpointSlices and as Endpoints. The language:
///
/// - `service` has the Service's YAML-like JSON as its input; `endpoints` those of a Service without selector.
/// - `pod NAME ip=IP` adds or replaces a pod of `app=web`: `app=LABEL`, `phase=`, `ready`, `ending`,
///   `node=NAME`, `port=NAME:NUMBER`, `host=HOSTNAME.SUBDOMAIN`; `pods COUNT` adds that many; `gone NAME`
///   takes one away.
/// - `slices` brings the slices in line and prints what that took; `show` prints them.
/// - `old` brings the Endpoints in line and prints them; `mirror` copies them into slices.
@Suite("Endpoints")
struct EndpointTranscripts {
  private static let runner = GoldenRunner(folder: "Golden/Endpoints")

  @Test(arguments: Self.runner.files)
  func transcript(file: String) throws {
    var world = World()
    try Self.runner.run(file) { try world.perform($0) }
  }

  private struct World {
    var service: Value = nil
    var pods: [(name: String, object: Value)] = []
    var slices: [Value] = []
    var endpoints: Value?
    var made = 0

    mutating func perform(_ command: GoldenCommand) throws -> String {
      switch command.name {
      case "service":
        service = try Value(json: Array(command.input.utf8))
        return ""
      case "endpoints":
        endpoints = try Value(json: Array(command.input.utf8))
        return ""
      case "pod":
        set(command.arguments[0], command)
        return ""
      case "pods":
        for number in 0..<(Int(command.arguments[0]) ?? 0) {
          let name = "p\(number)"
          pods.append((name, World.pod(name, ip: "10.1.\(number / 250).\(number % 250 + 1)")))
        }
        return ""
      case "gone":
        pods.removeAll { $0.name == command.arguments[0] }
        return ""
      case "slices":
        return apply(
          EndpointSliceController.decide(
            ServiceView(service), pods: pods.map { PodView($0.object) }, slices: slices
          ) { $0 == "node-1" ? "east" : nil })
      case "mirror":
        return apply(
          EndpointSliceMirroringController.decide(
            ServiceView(service), endpoints: endpoints ?? nil, slices: slices))
      case "show": return slices.map(World.text).joined(separator: "\n")
      case "old":
        guard
          let wanted = EndpointsController.decide(
            ServiceView(service), pods: pods.map { PodView($0.object) }, current: endpoints)
        else { return "as it was" }
        endpoints = wanted
        return wanted["subsets"].elements.map { subset in
          ["addresses", "notReadyAddresses", "ports"].filter { !subset[$0].isNull }
            .map { "\($0) \(subset[$0].jsonString)" }.joined(separator: "\n")
        }.joined(separator: "\n")
      default: throw GoldenError(message: "unknown command \(command.name)")
      }
    }

    private mutating func set(_ name: String, _ command: GoldenCommand) {
      pods.removeAll { $0.name == name }
      var pod = World.pod(name, ip: command.value("ip") ?? "", app: command.value("app") ?? "web")
      pod["status"]["phase"] = Value(command.value("phase") ?? "Running")
      if !command.has("ready") { pod["status"].remove("conditions") }
      if command.has("ending") { pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z" }
      pod["spec"]["nodeName"] = Value(command.value("node"))
      if let port = command.value("port")?.split(separator: ":"), port.count == 2 {
        pod["spec"]["containers"] = [
          [
            "name": "main",
            "ports": [
              ["name": Value(String(port[0])), "containerPort": Value(Int64(port[1]) ?? 0)]
            ],
          ]
        ]
      }
      if let host = command.value("host")?.split(separator: "."), host.count == 2 {
        pod["spec"]["hostname"] = Value(String(host[0]))
        pod["spec"]["subdomain"] = Value(String(host[1]))
      }
      pods.append((name, pod))
    }

    private static func pod(_ name: String, ip: String, app: String = "web") -> Value {
      [
        "metadata": [
          "name": Value(name), "namespace": "default", "uid": Value("uid-\(name)"),
          "labels": ["app": Value(app)],
        ],
        "spec": ["nodeName": "node-2"],
        "status": [
          "phase": "Running", "podIP": Value(ip),
          "conditions": [["type": "Ready", "status": "True"]],
        ],
      ]
    }

    private mutating func apply(_ plan: EndpointSlices) -> String {
      var lines: [String] = []
      for slice in plan.create {
        made += 1
        var slice = slice
        slice["metadata"]["name"] = Value("slice-\(made)")
        slices.append(slice)
        lines.append("create slice-\(made) with \(slice["endpoints"].elements.count)")
      }
      for slice in plan.update {
        let name = AnyObjectView(slice).name
        guard let index = slices.firstIndex(where: { AnyObjectView($0).name == name }) else {
          continue
        }
        slices[index] = slice
        lines.append("update \(name) with \(slice["endpoints"].elements.count)")
      }
      for name in plan.delete {
        slices.removeAll { AnyObjectView($0).name == name }
        lines.append("delete \(name)")
      }
      return lines.joined(separator: "\n")
    }

    private static func text(_ slice: Value) -> String {
      let name = AnyObjectView(slice).name
      let labels = AnyObjectView(slice).labels.jsonString
      let endpoints = slice["endpoints"].elements
      let shown = endpoints.prefix(3).map { "  \($0.jsonString)" }
      let rest = endpoints.count > 3 ? ["  and \(endpoints.count - 3) more"] : []
      return
        ([
          "\(name) \(slice["addressType"].string ?? "") ports \(slice["ports"].jsonString) \(labels)"
        ]
        + shown + rest).joined(separator: "\n")
    }
  }
}
