import KubeAPI
import TestKit
import Testing

@testable import Controllers

@Suite("Any rollout")
struct RandomRolloutTests {
  /// Controllers are called in any order and number, pods become ready when they like, and the user changes
  /// template, size, limits and pause meanwhile.
  @Test("keeps its promise at every step and arrives in the end", arguments: 1...40)
  func random(seed: UInt64) {
    var random = SplitMix(state: seed)
    var world = RolloutWorld()
    world.isInStep = false
    var trace: [String] = []
    func apply(_ text: String, _ world: inout RolloutWorld) {
      trace.append(text)
      world.apply(GoldenCommand(text: "apply \(text)"))
    }
    apply("replicas=\(random.next() % 12) image=a", &world)
    for _ in 0..<100 {
      switch random.next() % 24 {
      case 0: apply("image=\(["a", "b", "c", "broken"].randomElement(using: &random)!)", &world)
      case 1: apply("replicas=\(random.next() % 12)", &world)
      case 2:
        let surge = ["0", "1", "3", "25%", "100%"].randomElement(using: &random)!
        let unavailable = ["0", "1", "2", "25%", "100%"].randomElement(using: &random)!
        apply("surge=\(surge) unavailable=\(unavailable)", &world)
      case 3: apply(random.next() % 2 == 0 ? "pause" : "resume", &world)
      case 4: apply("min-ready=\(random.next() % 3 * 5)", &world)
      case 5...9: trace += stepDeployment(&world)
      case 10...14:
        if let name = world.sets.keys.sorted().randomElement(using: &random) {
          world.stepReplicaSet(name)
        }
      case 15...19: world.makeReady(Int(random.next() % 3))
      case 20, 21: world.endPods()
      default: world.wait(Int64(random.next() % 8))
      }
    }
    #expect(world.violations == [], "after \(trace)")

    apply("resume image=z", &world)
    for _ in 0..<60 {
      trace += stepDeployment(&world)
      world.stepReplicaSets()
      world.endPods()
      world.makeReady(nil)
      world.wait(5)
    }
    #expect(world.violations == [], "after \(trace)")
    #expect(world.rolloutStatus == "deployment \"web\" successfully rolled out", "after \(trace)")
    #expect(world.pods.count == Int(world.view.replicas), "after \(trace)")
    #expect(
      world.view.condition("Progressing")?["reason"] == "NewReplicaSetAvailable", "after \(trace)")
    #expect(stepDeployment(&world) == [], "a finished rollout has nothing left to do")
  }

  private func stepDeployment(_ world: inout RolloutWorld) -> [String] {
    let sets = world.sets.values.map { ReplicaSetView($0) }
    if Rollout(world.view, sets).isScalingEvent { world.forgetPromise() }
    return world.stepDeployment().lines
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
