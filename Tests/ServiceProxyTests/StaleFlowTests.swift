import Netfilter
import Testing

@testable import ServiceProxy

/// Which UDP flows a change leaves behind.
@Suite("Stale flows")
struct StaleFlowTests {
  private func port(
    _ targets: [String], transport: ServicePort.Transport = .udp, nodePort: Int? = nil
  ) -> ServicePort {
    let targets = targets.map { ServicePort.Target(address: $0, port: 5_353) }
    return ServicePort(
      name: "default/dns", transport: transport, port: 53, clusterAddresses: ["10.96.0.10"],
      externalAddresses: [], nodePort: nodePort, targets: targets, externalTargets: targets,
      keepsSource: false, affinitySeconds: nil)
  }

  private func address(_ text: String) -> UInt32 {
    text.split(separator: ".").reduce(0) { $0 << 8 | UInt32($1)! }
  }

  private func flow(to destination: String, _ port: UInt16, answeredBy answer: String, _ from: UInt16 = 5_353)
    -> ConntrackTable.Flow
  {
    ConntrackTable.Flow(
      source: address("10.244.0.9"), sourcePort: 4_000, destination: address(destination),
      destinationPort: port, replySource: address(answer), replySourcePort: from)
  }

  @Test("flows to a target that went are stale, those to the others are not")
  func removed() {
    let stale = StaleFlows(
      from: RuleSet([port(["10.244.0.2", "10.244.0.3"])]), to: RuleSet([port(["10.244.0.3"])]))
    #expect(stale.contains(flow(to: "10.96.0.10", 53, answeredBy: "10.244.0.2")))
    #expect(!stale.contains(flow(to: "10.96.0.10", 53, answeredBy: "10.244.0.3")))
    #expect(!stale.contains(flow(to: "10.96.0.11", 53, answeredBy: "10.244.0.2")))
  }

  @Test("a flow that went nowhere is stale once there is a target")
  func first() {
    let stale = StaleFlows(from: RuleSet([port([])]), to: RuleSet([port(["10.244.0.2"])]))
    #expect(stale.contains(flow(to: "10.96.0.10", 53, answeredBy: "10.96.0.10", 53)))
  }

  @Test("flows by a node's port count, of whatever address")
  func nodePort() {
    let stale = StaleFlows(
      from: RuleSet([port(["10.244.0.2"], nodePort: 30_053)]), to: RuleSet([port([], nodePort: 30_053)]))
    #expect(stale.contains(flow(to: "172.30.0.11", 30_053, answeredBy: "10.244.0.2")))
    #expect(!stale.contains(flow(to: "172.30.0.11", 30_053, answeredBy: "10.244.7.7")))
  }

  @Test("a new target, TCP, and what didn't change leave nothing behind")
  func nothing() {
    #expect(
      StaleFlows(from: RuleSet([port(["10.244.0.2"])]), to: RuleSet([port(["10.244.0.2", "10.244.0.3"])]))
        .isEmpty)
    #expect(
      StaleFlows(
        from: RuleSet([port(["10.244.0.2"], transport: .tcp)]), to: RuleSet([port([], transport: .tcp)])
      ).isEmpty)
    #expect(StaleFlows(from: RuleSet(), to: RuleSet([port(["10.244.0.2"])])).isEmpty)
  }
}
