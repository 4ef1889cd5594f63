import KubeAPI
import Testing

@testable import Controllers

/// How fast lost nodes are given up.
@Suite("Node monitoring")
struct NodeMonitoringTests {
  @Test(
    "evictions slow down or stop while many nodes are lost",
    arguments: [
      // ready, not ready, rate
      (3, 0, 0.1), (2, 1, 0.1), (1, 2, 0.1), (0, 3, nil), (2, 3, nil), (3, 3, 0.1), (20, 30, nil),
      (30, 40, 0.01), (60, 10, 0.1), (0, 60, nil),
    ] as [(Int, Int, Double?)])
  func rate(ready: Int, notReady: Int, expected: Double?) {
    #expect(NodeMonitoring().evictionRate(ready: ready, notReady: notReady) == expected)
  }

  @Test("nodes take turns at the rate")
  func pace() {
    let pace = EvictionPace()
    let start = ContinuousClock.now
    #expect(pace.takeTurn(rate: 0.1, now: start))
    #expect(!pace.takeTurn(rate: 0.1, now: start + .seconds(9)))
    #expect(pace.takeTurn(rate: 0.1, now: start + .seconds(10)))
    #expect(!pace.takeTurn(rate: 0, now: start + .seconds(1_000)))
  }

  @Test("who waits for a turn gets no NoExecute taint yet, and who has one keeps it")
  func later() {
    let silent = NodeView(["metadata": ["name": "n"], "status": [
      "conditions": [["type": "Ready", "status": "True"]]
    ]])
    let now = Timestamp(secondsSinceEpoch: 1_000_000)
    func effects(_ plan: NodeHealthPlan) -> [String] {
      plan.taints?.elements.compactMap { $0["effect"].string } ?? []
    }
    let waiting = NodeHealthPlan.decide(silent, isSilent: true, eviction: .later, now: now)
    #expect(effects(waiting) == ["NoSchedule"])
    let first = NodeHealthPlan.decide(silent, isSilent: true, eviction: .now, now: now)
    #expect(first.startsEviction && effects(first) == ["NoSchedule", "NoExecute"])
    var object = silent.object
    object["spec"]["taints"] = first.taints ?? nil
    object["status"] = first.status ?? nil
    let leaving = NodeHealthPlan.decide(NodeView(object), isSilent: true, eviction: .later, now: now)
    #expect(!leaving.startsEviction && leaving.taints == nil)
    let stopped = NodeHealthPlan.decide(NodeView(object), isSilent: true, eviction: .never, now: now)
    #expect(effects(stopped) == ["NoSchedule"])
  }
}
