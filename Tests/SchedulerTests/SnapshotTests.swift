import KubeAPI
import Testing

@testable import Scheduler

@Suite("The snapshot of a cluster")
struct SnapshotTests {
  private static func node(_ name: String) -> NodeView {
    NodeView(["metadata": ["name": Value(name)], "status": ["allocatable": ["cpu": "8"]]])
  }

  private static func pod(_ uid: String, cpu: Int) -> PodView {
    PodView([
      "metadata": ["name": Value(uid), "uid": Value(uid)],
      "spec": ["containers": [["resources": ["requests": ["cpu": Value("\(cpu)m")]]]]],
    ])
  }

  @Test("A pod counts on its node also when the node becomes known later")
  func podBeforeNode() {
    var snapshot = ClusterSnapshot()
    snapshot.place(Self.pod("a", cpu: 500), on: "n")
    #expect(snapshot.nodes["n"] == nil)
    snapshot.set(node: Self.node("n"))
    #expect(snapshot.nodes["n"]?.requested["cpu"] == Quantity(milli: 500))
    snapshot.remove(node: "n")
    snapshot.set(node: Self.node("n"))
    #expect(snapshot.nodes["n"]?.requested["cpu"] == Quantity(milli: 500))
  }

  @Test("After any changes, every node's sum is that of the pods on it", arguments: 1...50)
  func sums(seed: UInt64) {
    var random = SplitMix(state: seed)
    var snapshot = ClusterSnapshot()
    var places: [String: (node: String, cpu: Int)] = [:]
    var nodes: Set<String> = []
    for _ in 0..<400 {
      let node = "n\(random.next() % 4)"
      let pod = "p\(random.next() % 20)"
      let cpu = Int(random.next() % 1000)
      switch random.next() % 8 {
      case 0:
        nodes.insert(node)
        snapshot.set(node: Self.node(node))
      case 1 where random.next() % 4 == 0:
        nodes.remove(node)
        snapshot.remove(node: node)
      case 2, 3:
        places[pod] = nil
        snapshot.remove(pod: pod)
      default:
        places[pod] = (node, cpu)
        snapshot.place(Self.pod(pod, cpu: cpu), on: node)
      }
      #expect(Set(snapshot.nodes.keys) == nodes)
      for node in nodes {
        let own = places.filter { $0.value.node == node }
        #expect(Set(snapshot.nodes[node]!.pods.keys) == Set(own.keys))
        #expect(
          snapshot.nodes[node]!.requested["cpu"]
            == Quantity(milli: Int64(own.values.reduce(0) { $0 + $1.cpu })))
      }
    }
  }
}

/// Random numbers of a seed.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
