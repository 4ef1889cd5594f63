import KubeAPI
import TestKit
import Testing

@testable import Controllers

/// Whole rollouts as transcripts. The language:
///
/// - `apply ...` makes or changes the Deployment (see `RolloutWorld.apply`).
/// - `run` lets controllers and nodes work until nothing changes, and prints every step with the pods after
///   it: available ones of wanted ones for each image. Pods of the image `broken` never become ready.
///   `run ready=0` leaves pods as they are; `run rounds=2` stops after so many rounds.
/// - `ready N`, `fail N`, `wait SECONDS` act on pods and clock.
/// - `status` prints counts, conditions and what `kubectl rollout status` says; `history` the revisions.
@Suite("Rollouts")
struct RolloutTranscripts {
  @Test(arguments: GoldenRunner().files)
  func transcript(file: String) throws {
    var world = RolloutWorld()
    try GoldenRunner().run(file) { command in
      let output = try Self.perform(command, in: &world)
      #expect(world.violations == [], "\(file):\(command.line)")
      return output
    }
  }

  private static func perform(
    _ command: GoldenCommand, in world: inout RolloutWorld
  ) throws -> String {
    let number = command.arguments.first.flatMap { Int($0) }
    switch command.name {
    case "apply":
      world.apply(command)
      return ""
    case "run":
      return run(
        &world, ready: command.integer("ready"), rounds: command.integer("rounds") ?? 1000)
    case "ready":
      world.makeReady(number)
      return ""
    case "fail":
      world.fail(number ?? 1)
      return ""
    case "wait":
      world.wait(Int64(number ?? 0))
      return ""
    case "status":
      let status = world.deployment["status"]
      let counts = [
        "observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas",
        "unavailableReplicas",
      ].compactMap { name in status[name].integer.map { "\(name)=\($0)" } }
      return (counts.joined(separator: " ") + "\n" + world.conditions + "\n" + world.rolloutStatus)
    case "history": return world.history
    default: throw GoldenError(message: "unknown command \(command.name)")
    }
  }

  /// Rounds of: Deployment controller, ReplicaSet controllers, nodes; until a round changes nothing.
  private static func run(_ world: inout RolloutWorld, ready: Int?, rounds: Int) -> String {
    var lines: [String] = []
    for _ in 0..<rounds {
      let before = world
      let isScaling = Rollout(world.view, world.sets.values.map { ReplicaSetView($0) })
        .isScalingEvent
      if isScaling { world.forgetPromise() }
      let steps = world.stepDeployment().lines
      world.stepReplicaSets()
      for step in steps { lines.append(step) }
      if !steps.isEmpty { lines.append("  \(world.summary)") }
      let ended = world.endPods()
      let readied = world.makeReady(ready)
      world.stepReplicaSets()
      if readied > 0 { lines.append("  \(readied) ready: \(world.summary)") }
      if steps.isEmpty, ended == 0, readied == 0, before.sets == world.sets,
        before.deployment == world.deployment
      {
        return lines.joined(separator: "\n")
      }
    }
    return (lines + ["..."]).joined(separator: "\n")
  }
}
