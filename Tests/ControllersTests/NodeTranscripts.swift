import KubeAPI
import TestKit
import Testing

@testable import Controllers

/// What is decided about nodes. `node ready=True|False|Unknown taint=key:Effect` is a node as it is (without
/// `ready=`, one that never said anything); `heard` and `silent` print what changes.
@Suite("Nodes")
struct NodeTranscripts {
  private static let runner = GoldenRunner(folder: "Golden/Nodes")

  @Test(arguments: Self.runner.files)
  func transcript(file: String) throws {
    var node: Value = nil
    try Self.runner.run(file) { command in
      switch command.name {
      case "node":
        node = Self.node(command)
        return ""
      case "heard", "silent":
        let plan = NodeHealthPlan.decide(
          NodeView(node), isSilent: command.name == "silent",
          now: Timestamp(secondsSinceEpoch: 1_000_000))
        // What was decided is written, so that the next command goes on from there.
        if let status = plan.status { node["status"] = status }
        if let taints = plan.taints { node["spec"]["taints"] = taints }
        return Self.text(plan)
      default: throw GoldenError(message: "unknown command \(command.name)")
      }
    }
  }

  private static func node(_ command: GoldenCommand) -> Value {
    var node: Value = ["metadata": ["name": "n"]]
    if let ready = command.value("ready") {
      node["status"]["conditions"] = [
        [
          "type": "Ready", "status": Value(ready), "reason": "KubeletReady", "message": "posting",
          "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
        ]
      ]
    }
    for word in command.arguments where word.hasPrefix("taint=") {
      let parts = word.dropFirst("taint=".count).split(separator: ":").map(String.init)
      node["spec"]["taints"].append(["key": Value(parts[0]), "effect": Value(parts[1])])
    }
    return node
  }

  private static func text(_ plan: NodeHealthPlan) -> String {
    var lines: [String] = []
    for condition in plan.status?["conditions"].elements ?? [] {
      lines.append(
        "\(condition["type"].string!)=\(condition["status"].string!) "
          + "\(condition["reason"].string!) since \(condition["lastTransitionTime"].string!)")
    }
    if let taints = plan.taints {
      let texts = taints.elements.map { "\($0["key"].string!):\($0["effect"].string!)" }
      lines.append("taints: " + (texts.isEmpty ? "none" : texts.joined(separator: ", ")))
    }
    return lines.isEmpty ? "nothing" : lines.joined(separator: "\n")
  }
}
