import KubeAPI
import TestKit
import Testing

@testable import ServiceProxy

/// A cluster's services and endpoints, and the rules of node `n1`.
///
/// | command | effect |
/// |---|---|
/// | `service web ip=10.96.0.1 ports=http:80:30080,dns:53/udp …` | a service: `name:port[/protocol][:nodePort]`; input lines are members of its spec as JSON |
/// | `slice web ports=http:8080 10.244.0.2@n1 10.244.1.2@n2!` | its only slice; `!` is not ready, `?` ends but serves |
/// | `remove web` | service and slice |
/// | `full` | the whole program |
/// | `change` | what changes since the last `full` or `change` |
struct RuleWorld {
  var services: [String: Value] = [:]
  var slices: [String: [Value]] = [:]
  var written = RuleSet()

  var rules: RuleSet {
    RuleSet.compile(
      services: services.sorted { $0.key < $1.key }.map(\.value), slices: slices, node: "n1")
  }

  mutating func perform(_ command: GoldenCommand) throws -> String {
    let name = command.arguments.first ?? ""
    switch command.name {
    case "service":
      var spec: Value = ["type": Value(command.value("type") ?? "ClusterIP")]
      if let address = command.value("ip") { spec["clusterIP"] = Value(address) }
      for line in command.input.split(separator: "\n") {
        for member in try Value(json: Array(line.utf8)).members { spec[member.key] = member.value }
      }
      spec["ports"] = .array(
        (command.value("ports") ?? "").split(separator: ",").map { text in
          let parts = text.split(separator: ":").map(String.init)
          let number = parts[1].split(separator: "/")
          var port: Value = ["name": Value(parts[0]), "port": Value(Int(number[0]) ?? 0)]
          if number.count > 1 { port["protocol"] = Value(number[1].uppercased()) }
          if parts.count > 2 { port["nodePort"] = Value(Int(parts[2]) ?? 0) }
          return port
        })
      services[name] = ["metadata": ["namespace": "default", "name": Value(name)], "spec": spec]
    case "slice":
      var slice: Value = ["addressType": "IPv4"]
      slice["ports"] = .array(
        (command.value("ports") ?? "").split(separator: ",").map { text in
          let parts = text.split(separator: ":").map(String.init)
          let number = parts[1].split(separator: "/")
          return [
            "name": Value(parts[0]), "port": Value(Int(number[0]) ?? 0),
            "protocol": Value(number.count > 1 ? number[1].uppercased() : "TCP"),
          ]
        })
      slice["endpoints"] = .array(
        command.bareArguments.dropFirst().map { text in
          let parts = text.split(separator: "@")
          let node = parts[1].filter { $0 != "!" && $0 != "?" }
          return [
            "addresses": [Value(String(parts[0]))], "nodeName": Value(node),
            "conditions": [
              "ready": Value(!text.hasSuffix("!") && !text.hasSuffix("?")),
              "serving": Value(!text.hasSuffix("!")), "terminating": Value(text.hasSuffix("?")),
            ],
          ]
        })
      slices["default/\(name)"] = [slice]
    case "remove":
      services[name] = nil
      slices["default/\(name)"] = nil
    case "full":
      written = rules
      return NftScript.full(written, .init(pods: "10.244.0.0/16"))
    case "change":
      let new = rules
      defer { written = new }
      return NftScript.change(from: written, to: new)
    default: throw GoldenError(message: "unknown command \(command.name)")
    }
    return ""
  }
}

@Suite("Service rules") struct RuleTranscripts {
  @Test(arguments: GoldenRunner().files)
  func transcript(file: String) throws {
    var world = RuleWorld()
    try GoldenRunner().run(file) { try world.perform($0) }
  }

  @Test func `no text from the API reaches the kernel's program but addresses`() {
    for address in ["1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.4; drop", "256.1.1.1", "", "::1"] {
      #expect(!RuleSet.isIPv4(address), "\(address)")
    }
    #expect(RuleSet.isIPv4("10.244.0.255"))
  }
}
